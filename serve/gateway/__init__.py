"""The gateway: OpenAI clients reach each assistant by its name, whatever engine runs it.

app → completion, one completion request: order → admission → upstream → answers → exchange;
                  record writes metrics, log and spans
    → routes, every other endpoint: catalogue, openapi, failed
surfaces translate OpenAI's Responses and Anthropic's Messages to chat completions and back
"""
