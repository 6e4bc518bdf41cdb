"""The gateway: OpenAI clients reach each assistant by its name, whatever engine stands behind it.

app → completion, the hot path: order → admission → upstream → answers → exchange; record notes it
    → routes, all the rest: catalogue, openapi, failed
surfaces retell both for clients of OpenAI's Responses and of Anthropic
"""
