"""The way to an engine: which replicas there are, which is asked, and the wire to it."""
