"""A conversation in the terminal; a client of the gateway like any other."""

from __future__ import annotations

import contextlib
import locale
import os
import sys
from collections.abc import Iterator
from typing import Any

import openai
from openai.types.chat import ChatCompletionMessageParam
from rich.console import Console

from assistants.errors import HanlinError

RESET, EXIT = "RESET", "EXIT"


def chat(name: str, gateway: str) -> None:
    """Talk until EXIT or the end of what is typed.

    Raises:
        HanlinError: there is no gateway, or it refuses.
    """
    key = os.environ.get("HANLIN_KEY") or "hanlin"
    with openai.OpenAI(base_url=f"{gateway.rstrip('/')}/v1", api_key=key, max_retries=0) as client:
        with told_in_words(gateway):
            assistant = client.models.retrieve(name)
        Conversation(client, assistant.id, gateway).run(introduction(assistant.model_extra or {}))


@contextlib.contextmanager
def told_in_words(gateway: str) -> Iterator[None]:
    """The client's errors, as sentences."""
    try:
        yield
    except openai.APIConnectionError as error:
        raise HanlinError(
            f"No gateway answers at {gateway}; start one with hanlin up, or name it with --gateway."
        ) from error
    except openai.APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        raise HanlinError(str(body.get("message") or error.message)) from error
    except openai.APIError as error:
        raise HanlinError(error.message) from error


def introduction(about: dict[str, Any], language: str | None = None) -> list[str]:
    """Who the assistant is, as lines: title, description, examples."""
    spoken = language or (locale.getlocale(locale.LC_CTYPE)[0] or "en")
    key = "zh" if spoken.startswith("zh") else "en"
    texts = (about.get(field) or {} for field in ("title", "description"))
    lines = [text.get(key, "") if isinstance(text, dict) else str(text) for text in texts]
    examples = [f"· {example}" for example in about.get("examples") or ()]
    return [line for line in (*lines, *examples) if line]


class Conversation:
    """What was said so far, and the screen it is said on."""

    def __init__(self, client: openai.OpenAI, name: str, gateway: str) -> None:
        self._client = client
        self._name = name
        self._gateway = gateway
        self._said: list[ChatCompletionMessageParam] = []
        self._screen = Console(highlight=False, soft_wrap=True)

    def run(self, introduction: list[str]) -> None:
        if self._screen.is_terminal:
            self._introduce(introduction)
        while (line := self._read()) is not None:
            if line.upper() == EXIT:
                return
            if line.upper() == RESET:
                self._said.clear()
                self._note("The conversation starts anew.")
            elif line:
                self._turn(line)

    def _introduce(self, lines: list[str]) -> None:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - gives input() editing and history
        for number, line in enumerate(lines):
            self._screen.print(line, style="bold" if number == 0 else "dim", markup=False)
        self._note("RESET clears the conversation, Ctrl-C stops an answer, EXIT leaves.")

    def _read(self) -> str | None:
        """What was typed; None at its end."""
        try:
            return input("\n> " if self._screen.is_terminal and sys.stdin.isatty() else "").strip()
        except EOFError:
            return None
        except KeyboardInterrupt:
            self._note("\nEXIT or Ctrl-D leaves.")
            return ""

    def _turn(self, line: str) -> None:
        self._said.append({"role": "user", "content": line})
        pieces: list[str] = []
        try:
            for piece in self._answer():
                pieces.append(piece)
                self._screen.out(piece, end="", highlight=False)
                self._screen.file.flush()
        except KeyboardInterrupt:
            self._note(" (stopped)")
        except HanlinError as error:
            self._said.pop()
            if not self._screen.is_terminal:
                raise  # a script has to see the exit code
            self._screen.print(str(error), style="red", markup=False)
            return
        self._screen.out("", highlight=False)
        if pieces:
            self._said.append({"role": "assistant", "content": "".join(pieces)})
        else:
            self._said.pop()  # two turns of one speaker in a row are no conversation

    def _answer(self) -> Iterator[str]:
        with (
            told_in_words(self._gateway),
            self._client.chat.completions.create(
                model=self._name, messages=self._said, stream=True
            ) as stream,
        ):
            for chunk in stream:
                for choice in chunk.choices:
                    if choice.delta.content:
                        yield choice.delta.content

    def _note(self, text: str) -> None:
        if self._screen.is_terminal:
            self._screen.print(text, style="dim", markup=False)
