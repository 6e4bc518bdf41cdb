"""The workshop: a declaration becomes a workspace, the folder an engine loads, with its lineage."""
