"""Runs engines on one host: starts, watches, replaces and stops them, and says how they are."""
