"""OpenAI's Responses and Anthropic's Messages, translated to chat completions and back.

Engines have endpoints of these names too, but each its own and none as published: what they leave
out, and what they ignore silently, differs. So here a request becomes a chat completion, is treated
like any other, and its answer is serialized for the surface it came by. What a chat completion
cannot express is refused by name.

dialects     what each surface does differently: translation, error envelope, headers
translation  a request → a chat completion (requests: the types of their bodies)
pieces       a chat completion, whole or streamed → a sequence of pieces
retelling    pieces → blocks → the events or the answer of a surface, by its `Serializer`
"""
