"""Commands that look at a house which is up, from outside, and what finds it for them."""
