"""Commands that are clients of a running house, and how they find it."""
