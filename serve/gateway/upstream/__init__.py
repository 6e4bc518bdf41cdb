"""The way to an engine: replicas, the choice of one, retries, connections."""
