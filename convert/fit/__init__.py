"""What fits which GPU: what each engine takes of it, and who goes where."""
