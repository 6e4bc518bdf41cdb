"""The chunk objects of one stream, each repaired for the client.

The state of a stream is here: which choices have begun and ended, what a stop string may still be
made of, how many tokens there were. Bytes, borders and connections are in `stream`.
"""

from __future__ import annotations

from typing import Any

from serve.gateway.answers import logprobs, shape
from serve.gateway.answers.asked import Asked
from serve.gateway.answers.event import encoded
from serve.gateway.answers.fixes import Json, apply, is_index
from serve.gateway.answers.held import Held
from serve.gateway.answers.shape import Face
from serve.gateway.answers.usage import Usage

BYTES_PER_TOKEN = 4
"""Roughly, of English and of Chinese alike; used only where no engine said how many there were."""


class Chunks:
    """What has come of one stream so far."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self.face: Face | None = None
        self.opened: dict[int, int] = {}
        """Choices that have had a chunk → how long the text is of which probabilities were told."""
        self.ended: dict[int, str] = {}
        """Choices whose end the engine has told, with its word for why."""
        self._held: dict[int, Held] = {}
        self._stopped: set[int] = set()
        """Choices that the gateway has ended, whatever the engine still says."""
        self.generated = 0
        """Chunks that brought anything: about as many as tokens, or fewer."""
        self._told: list[Json] = []
        self._last: Json | None = None

    @property
    def cut(self) -> bool:
        """Whether all is said although the engine goes on."""
        over = self._stopped | self.ended.keys() if self._stopped else ()
        return bool(over) and len(over) >= self._asked.choices

    @property
    def ends(self) -> tuple[str, ...]:
        """Why each choice ended that has, whether the engine or a stop string ended it."""
        words = self.ended | dict.fromkeys(self._stopped, "stop")
        return tuple(words[index] for index in sorted(words))

    @property
    def empty(self) -> bool:
        """Whether the engine ended without a word, and says itself that it generated none."""
        return not self.generated and bool(self._told) and not self.usage.completion

    @property
    def usage(self) -> Usage:
        """The tokens, as the engine told; where it did not, because its work was ended before it
        could, as many as there were chunks, and a guess at the prompt."""
        if not self._told:
            return Usage(self._asked.prompt_bytes // BYTES_PER_TOKEN, self.generated)
        prompt = sum(told["prompt_tokens"] for told in self._told)
        completion = sum(told["completion_tokens"] for told in self._told)
        if len(self._told) > 1:  # llama.cpp counts each choice, and its prompt with it
            prompt //= self._asked.n
        return Usage(prompt, max(completion, self.generated) if self._stopped else completion)

    def take(self, found: Json) -> bool:
        """Bring a chunk into shape and keep what it tells; whether anything had to be changed."""
        choices = found["choices"]
        if self.face is None:
            asked = self._asked
            self.face = Face(
                found, model=asked.assistant, chat=asked.chat, stream=True, usage=asked.usage
            )
        self._count(found)
        if not choices:
            self._last = found
            return True
        changed = self._number(choices)
        changed |= apply(shape.chunk(found, self.face, self.opened))
        for choice in choices:
            index = choice["index"]
            told = 0 if self.face.chat else logprobs.length(choice)
            self.opened[index] = self.opened.get(index, 0) + told
            if choice["finish_reason"]:
                self.ended[index] = choice["finish_reason"]
        self.generated += sum(map(_brings, choices))
        return changed

    def read(self, index: int, text: str) -> str:
        """What may be sent of a text that came alone."""
        self.generated += 1
        return self._holding(index).feed(text)

    def stopped(self, index: int) -> bool:
        """Whether a stop was met in this choice by what was read last."""
        if index in self._stopped or not self._holding(index).met:
            return False
        self._stopped.add(index)
        return True

    def ending(self, index: int) -> bytes:
        """The chunk that says this choice was ended by a stop."""
        return encoded(self._own(self._named(self._choice(index, "", "stop"))))

    def closing(self) -> bytes:
        """What comes before the end of a stream: what was held back, and the count of tokens."""
        events = []
        for index, held in self._held.items():
            if index in self._stopped or index in self.ended:
                continue
            if text := held.rest():
                events.append(encoded(self._own(self._choice(index, text, None))))
        if self._asked.usage and self.face is not None:
            events.append(encoded(self._usage_chunk(self.face)))
        return b"".join(events)

    def _count(self, found: Json) -> None:
        """Keep a count of tokens: of a chunk that is only for it, or says with it that it ends."""
        told = found.get("usage")
        if not isinstance(told, dict):
            return
        apply(shape.usage(told))
        if found["choices"]:
            if self._last is None and any(c.get("finish_reason") for c in found["choices"]):
                self._told.append(told)
            return
        if self._last is None:  # one that is only for it counts instead of those before
            self._told.clear()
        self._told.append(told)

    def _number(self, choices: list[Json]) -> bool:
        """LMDeploy calls the answer to every prompt of a text completion the first one."""
        if self._asked.prompts == 1 or len(choices) != 1:
            return False
        index = choices[0].get("index")
        if is_index(index) and index in self.ended and len(self.ended) < self._asked.choices:
            choices[0]["index"] = len(self.ended)
            return True
        return False

    def scanned(self, found: Json) -> list[Json]:
        """A chunk in shape without what is held back of it; an end that text comes before stands
        alone, for there are clients that read nothing beside it."""
        kept, ends = [], []
        for choice in found["choices"]:
            index = choice["index"]
            if index in self._stopped:
                continue
            held, said = self._holding(index), self._said(choice)
            came = said.get(self._name) or ""
            text = held.feed(came)
            end = "stop" if held.met else choice["finish_reason"]
            if held.met:
                self._stopped.add(index)
            elif end:
                text += held.rest()
            chances = held.chances(choice["logprobs"])
            if text != came:
                said[self._name] = text
            choice["logprobs"] = chances
            if end and text != came and (text or chances):
                choice["finish_reason"] = None
                ends.append(self._named(self._choice(index, "", end)))
            else:
                choice["finish_reason"] = end
                self._named(choice)
            if end or not came or chances or "role" in said or _brings(choice):
                kept.append(choice)
        found["choices"] = kept
        chunks = [found] if kept else []
        return chunks + [self._own(choice) for choice in ends]

    @property
    def _name(self) -> str:
        return "content" if self._asked.chat else "text"

    def _said(self, choice: Json) -> Json:
        said: Json = choice["delta"] if self._asked.chat else choice
        return said

    def _holding(self, index: int) -> Held:
        held = self._held.get(index)
        if held is None:
            assert self._asked.stops is not None
            held = self._held[index] = Held(self._asked.stops)
        return held

    def _choice(self, index: int, text: str, end: str | None) -> Json:
        said: dict[str, Any] = {"content": text} if text else {}
        body = {"delta": said} if self._asked.chat else {"text": text}
        return {"index": index, **body, "logprobs": None, "finish_reason": end}

    def _named(self, choice: Json) -> Json:
        """With the stop that ended it, where the client wants to know; vLLM calls it so too."""
        if self._asked.names_stop and (word := self._holding(choice["index"]).word) is not None:
            choice["stop_reason"] = word
        return choice

    def _own(self, choice: Json) -> Json:
        """A chunk of our own making."""
        assert self.face is not None
        chunk = {**self.face.head, "choices": [choice]}
        if self._asked.usage and self._asked.chat:
            chunk["usage"] = None
        return chunk

    def _usage_chunk(self, face: Face) -> Json:
        """The engine's own, if it sent one, with all it says beside."""
        tokens = self.usage
        counted: Json = dict(self._told[-1]) if self._told else {"estimated": True}
        counted["prompt_tokens"], counted["completion_tokens"] = tokens
        counted["total_tokens"] = sum(tokens)
        return {**(self._last or {}), **face.head, "choices": [], "usage": counted}


def _brings(choice: Json) -> bool:
    said = choice.get("delta", choice)
    return any(said.get(name) for name in ("content", "text", "tool_calls", "reasoning_content"))
