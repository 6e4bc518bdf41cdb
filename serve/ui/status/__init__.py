"""The status board: each assistant's state, load and errors, with live charts."""
