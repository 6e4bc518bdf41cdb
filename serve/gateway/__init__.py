"""The gateway: OpenAI clients reach each assistant by its name, whatever engine stands behind it.

app → routes → completion (→ assistant → admission → delivery → router, upstream, stream)
"""
