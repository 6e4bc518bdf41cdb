"""Who may ask, how much in a minute, and how many at once."""
