"""Keeps every engine up: from the memory it is granted to the end of its process, and again.

`lifecycle` decides what follows from what happens to one, `progress` whether one still gets on,
`leaving` whether one may go: these are pure. `watch` looks after one process, `replica` after one
engine through all its processes, `replicas` knows which engines there are, and `updates` replaces
one by a newer. `following` notices that one is due, or that a GPU is gone. `context` holds what all
of them share of the host, and `report` is what is told of one.
"""
