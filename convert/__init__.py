"""Turns a declaration into a workspace: the folder an engine loads, with a record of its origin."""
