"""How weights lie in files, of whatever kind, and how they are read and written by rows."""
