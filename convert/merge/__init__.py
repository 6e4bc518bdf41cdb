"""Merges an adapter into its base: decides what the adapter changes, and computes the sums."""
