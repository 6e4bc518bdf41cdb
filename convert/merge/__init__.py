"""A base and its adapter made one: what the adapter changes, and the sums."""
