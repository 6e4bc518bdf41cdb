"""Which whole answers are asked for as streams only so that the engine notices a client leaving.

llama.cpp's server looks for the client of a whole answer only after a second in which it finished
no token for anybody: beside other requests it goes on for one that has left. The client of a stream
it misses at the next token.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Raw

from serve.gateway.fields import absent

NOTICES_IN_STREAMS = frozenset(("llamacpp",))
"""Engines that notice at once that a client has left, if they stream to it."""

PLAIN = frozenset(
    (
        "model", "messages", "prompt", "stream", "stream_options", "stop", "seed", "n",
        "max_tokens", "max_completion_tokens", "n_predict", "ignore_eos",
        "temperature", "top_p", "top_k", "min_p", "typical_p", "logit_bias",
        "presence_penalty", "frequency_penalty", "repetition_penalty", "repeat_penalty",
        "response_format", "chat_template_kwargs", "reasoning_effort",
        "user", "metadata", "store", "prompt_cache_key", "safety_identifier",
    )
)  # fmt: skip
"""What decides which tokens come, or how many answers, or nothing, and not how an answer is made
of its tokens. Of anything else (log probabilities, tools, an engine's own wishes) the events do not
say all: llama.cpp tells the probability of an answer's end in none, and the calls in an answer that
is half there it reads as it does not read those in all of it."""

NEUTRAL: Mapping[str, Raw] = {
    "logprobs": Raw(b"false"),
    "tools": Raw(b"[]"),
    "echo": Raw(b"false"),
    "suffix": Raw(b'""'),
}
"""Values that clients send although they ask for nothing."""


def is_plain(fields: Mapping[str, Raw]) -> bool:
    """Whether the events of the answer say all that the whole answer would."""
    return all(
        name in PLAIN or absent(fields, name) or value == NEUTRAL.get(name)
        for name, value in fields.items()
    )
