"""Validates and repairs an engine's answer before the client gets it. Pure functions."""
