"""Other ways to ask for the same: OpenAI's Responses and Anthropic's Messages.

Engines have surfaces of these names too, but each its own and none as published: what they leave
out, and what they ignore in silence, differs. So here a request becomes a chat completion, goes the
one way that all take, and its answer is told in the words of the surface it came by. Whatever
cannot be said in a chat is refused by name.

tongues      which surface is spoken how
translation  what a request becomes (requests: their bodies, read)
pieces       a chat completion, whole or streamed, as a sequence of small things said
retelling    pieces → blocks → the events or the answer of a surface, in its `Voice`
"""
