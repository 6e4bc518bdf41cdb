"""Signing in to the page: users, sessions, and the proxy in front of it."""
