"""What is kept of every request: numbers, a line of the log, spans."""
