"""Two assistants side by side, answering the same message."""
