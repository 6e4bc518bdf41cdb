"""From dialogues to logits, one decoder layer in memory: what quantising and judging stand on.

The only decoder there is here. It computes with PyTorch, so nothing imports this package before
`convert.quantize` or `convert.fidelity` has found PyTorch to be installed.
"""
