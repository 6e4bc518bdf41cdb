"""The fields of the request to the engine that follow from what the client asked for.

Stop strings are the gateway's own business where an engine does not keep them exactly: then the
engine never hears of them. A whole answer is asked for as a stream in that case, so that the
engine's work can be ended at the stop, and where only in a stream the engine notices that its
client has left (`plain`). Of a stream the count of tokens is always asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from assistants.schema import Assistant, Unsupported
from serve.gateway.answers.asked import Asked
from serve.gateway.answers.stop import Stops
from serve.gateway.errors import BadRequestError
from serve.gateway.fields import Fields, absent, decoded
from serve.gateway.order.kind import Kind
from serve.gateway.order.plain import NOTICES_IN_STREAMS, is_plain
from serve.gateway.order.unsupported import KEEPS_STOPS, ignored

MOST_STOPS = 4
"""As many as a client may give, as OpenAI has it; an assistant's own come on top. Anthropic, whose
clients are told which was met, has no such limit."""

STOP_IN_ANSWER = "include_stop_str_in_output"
"""LMDeploy's wish to have the stop in the text, which the gateway's own stops do not grant."""

_COUNT_TOO: Final = Raw(b'{"include_usage":true}')
_TRUE: Final = Raw(b"true")
_stop = msgspec.json.Decoder(str | list[str])


class Own:
    """What an assistant's declaration has to say about answers, made ready once."""

    def __init__(self, assistant: Assistant) -> None:
        self.name = assistant.name
        self.words = assistant.sampling.stop
        self.stops = Stops(self.words) if self.words else None
        self.drops = assistant.unsupported is Unsupported.drop


def settle(
    own: Own,
    fields: Fields,
    *,
    chat: bool,
    stream: bool,
    kind: Kind,
    names_stop: bool = False,
) -> Asked:
    """Keep what the answer depends on, and put into the fields what the engine is to be asked.

    Raises:
        BadRequestError: it asks for what this engine ignores, or for stops that are none.
    """
    for name in ignored(kind.told, chat=chat, fields=fields):
        if not own.drops:
            raise BadRequestError(
                f"The engine of '{own.name}' ({kind.told}) would ignore '{name}'; leave it out.",
                param=name,
                code="unsupported_parameter",
            )
        del fields[name]
    given = _words(fields)
    if len(given) > MOST_STOPS and not names_stop:
        raise BadRequestError(
            f"'stop' has {len(given)} strings; {MOST_STOPS} are the most.", param="stop"
        )
    stops = _stops(own, fields, given, None if names_stop else kind.told)
    usage = stream and _counts(fields)
    prompts = 1 if chat else _prompts(fields)
    folded = not stream and (stops is not None or _left_unnoticed(kind, fields))
    if stream or folded:
        _ask_for_stream(fields)
    return Asked(
        own.name,
        chat=chat,
        usage=usage or not stream,
        stops=stops,
        names_stop=names_stop,
        folded=folded,
        prompts=prompts,
        n=_number(fields),
        prompt_bytes=memoryview(fields["messages" if chat else "prompt"]).nbytes,
    )


def _left_unnoticed(kind: Kind, fields: Mapping[str, Raw]) -> bool:
    """Whether the engine would go on for a client that left, and need not if it streamed."""
    return (kind.told or kind.seen) in NOTICES_IN_STREAMS and is_plain(fields)


def _stops(own: Own, fields: Fields, given: list[str], engine: str | None) -> Stops | None:
    """What the gateway must end the answer at; where the engine does, it is told instead."""
    words = (*own.words, *(word for word in given if word not in own.words))
    if not words:
        return None
    if engine in KEEPS_STOPS:
        fields["stop"] = Raw(msgspec.json.encode(words))
        return None
    fields.pop("stop", None)
    if not absent(fields, STOP_IN_ANSWER) and decoded(fields, STOP_IN_ANSWER):
        raise BadRequestError(
            f"'{STOP_IN_ANSWER}' does not go together with stop strings.", param=STOP_IN_ANSWER
        )
    return Stops(words) if given else own.stops


def _words(fields: Mapping[str, Raw]) -> list[str]:
    if absent(fields, "stop"):
        return []
    try:
        found = _stop.decode(fields["stop"])
    except msgspec.ValidationError:
        raise BadRequestError(
            "'stop' is neither a string nor a list of strings.", param="stop"
        ) from None
    words = [found] if isinstance(found, str) else found
    if "" in words:
        raise BadRequestError("'stop' has an empty string, which is everywhere.", param="stop")
    return words


def _counts(fields: Mapping[str, Raw]) -> bool:
    """Whether the client itself wants the tokens of its stream counted."""
    if absent(fields, "stream_options"):
        return False
    options = decoded(fields, "stream_options")
    if not isinstance(options, dict):
        raise BadRequestError("'stream_options' is not an object.", param="stream_options")
    return options.get("include_usage") is True


def _ask_for_stream(fields: Fields) -> None:
    fields["stream"] = _TRUE
    options = fields.get("stream_options")
    if options is None or not bytes(options).startswith(b"{"):
        fields["stream_options"] = _COUNT_TOO
    elif bytes(options) != bytes(_COUNT_TOO):
        asked = {**decoded(fields, "stream_options"), "include_usage": True}
        fields["stream_options"] = Raw(msgspec.json.encode(asked))


def _number(fields: Mapping[str, Raw]) -> int:
    """How many answers are asked for; what is no number, the engine will refuse."""
    if absent(fields, "n"):
        return 1
    n = decoded(fields, "n")
    return n if isinstance(n, int) and n > 1 else 1


def _prompts(fields: Mapping[str, Raw]) -> int:
    """How many prompts a text completion has: one, or a list of texts or of lists of tokens."""
    if not bytes(fields["prompt"]).startswith(b"["):
        return 1
    found = decoded(fields, "prompt")
    return len(found) if found and isinstance(found[0], str | list) else 1
