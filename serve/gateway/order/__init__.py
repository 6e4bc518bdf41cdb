"""Rewrites a client's request into the one an engine gets. Pure functions."""
