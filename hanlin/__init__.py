"""The command: the verbs of the house put together, and nothing else."""
