"""A conversation in the terminal; a client of the gateway like any other."""

from __future__ import annotations

import asyncio
import contextlib
import io
import locale
import sys
from collections.abc import Iterator
from typing import Any

import openai
from openai.types import Model
from openai.types.chat import ChatCompletionMessageParam
from rich.console import Console

from assistants.errors import HanlinError
from hanlin.client.interrupt import unless_interrupted
from hanlin.client.target import Target

RESET, EXIT = "RESET", "EXIT"


def chat(name: str, asked: Target) -> None:
    """Talk until EXIT or the end of what is typed.

    Raises:
        HanlinError: there is no gateway, or it refuses.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):  # a stray byte is a stray letter, and no end
        sys.stdin.reconfigure(errors="replace")
    gateway, key = asked.gateway, asked.gateway_key or "hanlin"
    client = openai.AsyncOpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=0)
    with asyncio.Runner() as runner, contextlib.ExitStack() as at_the_end:
        at_the_end.callback(lambda: runner.run(client.close()))
        with told_in_words(gateway):
            assistant = runner.run(_retrieved(client, name))
        conversation = Conversation(client, assistant.id, gateway)
        conversation.run(runner, introduction(assistant.model_extra or {}))


async def _retrieved(client: openai.AsyncOpenAI, name: str) -> Model:
    return await client.models.retrieve(name)


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

    def __init__(self, client: openai.AsyncOpenAI, name: str, gateway: str) -> None:
        self._client = client
        self._name = name
        self._gateway = gateway
        self._said: list[ChatCompletionMessageParam] = []
        self._screen = Console(highlight=False, soft_wrap=True)

    def run(self, runner: asyncio.Runner, introduction: list[str]) -> None:
        """Take turns; only while there is an answer to wait for does the event loop run."""
        if self._screen.is_terminal:
            self._introduce(introduction)
        while (line := self._read()) is not None:
            if line.upper() == EXIT:
                return
            if line.upper() == RESET:
                self._said.clear()
                self._note("The conversation starts anew.")
            elif line:
                runner.run(self._turn(line))

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

    async def _turn(self, line: str) -> None:
        self._said.append({"role": "user", "content": line})
        pieces: list[str] = []
        try:
            if not await unless_interrupted(self._say(pieces)):
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

    async def _say(self, pieces: list[str]) -> None:
        """Show the answer as it comes, and keep its pieces."""
        with told_in_words(self._gateway):
            asked = self._client.chat.completions.create(
                model=self._name, messages=self._said, stream=True
            )
            async with await asked as stream:
                async for chunk in stream:
                    for choice in chunk.choices:
                        if choice.delta.content:
                            pieces.append(choice.delta.content)
                            self._screen.out(choice.delta.content, end="", highlight=False)
                            self._screen.file.flush()

    def _note(self, text: str) -> None:
        if self._screen.is_terminal:
            self._screen.print(text, style="dim", markup=False)
