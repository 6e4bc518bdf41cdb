"""What is recorded of every request: metrics, a line of the access log, spans."""
