"""The embedded engine: llama.cpp's own server on the CPU, one process per assistant."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict

from assistants.schema import Assistant
from serve.engines.backends.engine import Launch
from serve.engines.backends.openai import healthy, one_token
from serve.engines.backends.workspace import read_settings, require_current, unusable
from serve.engines_key import VARIABLE
from serve.process import Command

FIRST_TOKEN_SECONDS = 120.0
SILENT = "silent"
"""How far one is that listens and does not say."""


class Settings(BaseModel):
    """The `engine.json` of a workspace."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    engine: Literal["llamacpp"]
    assistant: str
    model: str
    type: str
    context: int
    parallel: int
    threads: int
    declared: dict[str, Any] | None = None


class Llamacpp:
    """llama.cpp through the xllamacpp wheel."""

    name = "llamacpp"
    serial = False

    def command(self, assistant: Assistant, launch: Launch) -> Command:
        settings = _current(assistant, launch)
        command = Command.python(
            "serve.engines.backends.llamacpp_server",
            f"--model={launch.workspace / settings.model}",
            f"--alias={settings.assistant}",
            f"--host={launch.host}",
            f"--port={launch.port}",
            f"--context={settings.context}",
            f"--parallel={settings.parallel}",
            f"--threads={settings.threads}",
        )
        return Command(command.argv, {**command.env, VARIABLE: launch.key or ""})

    async def first_token(self, client: httpx.AsyncClient, assistant: str) -> bool:
        return await healthy(client) and await one_token(
            client, assistant, seconds=FIRST_TOKEN_SECONDS
        )

    async def alive(self, client: httpx.AsyncClient) -> bool:
        return await healthy(client)

    async def progress(self, client: httpx.AsyncClient) -> Hashable | None:
        """Its /health is answered whatever becomes of the thread that computes; its /slots by that
        thread itself, between two batches."""
        try:
            slots = await _at_work(client)
        except httpx.TimeoutException:
            return SILENT
        except (httpx.HTTPError, ValueError):
            return None
        return tuple(map(_how_far, slots)) or None

    async def busy(self, client: httpx.AsyncClient) -> int:
        """The slots at work; what waits for one is not counted, and waits only if all are."""
        try:
            return len(await _at_work(client))
        except httpx.ConnectError:
            return 0
        except (httpx.HTTPError, ValueError):
            return 1

    def fault(self, lines: Sequence[str]) -> str | None:
        return None  # whatever goes wrong with it ends its process


async def _at_work(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """The slots that are.

    Raises:
        httpx.HTTPError: it does not say.
        ValueError: nor is what it says a list of slots.
    """
    slots = (await client.get("/slots")).raise_for_status().json()
    if not (isinstance(slots, list) and all(isinstance(slot, dict) for slot in slots)):
        raise ValueError("these are no slots")
    return [slot for slot in slots if slot.get("is_processing")]


def _how_far(slot: dict[str, Any]) -> tuple[object, ...]:
    written = slot.get("next_token") or [{}]
    read = slot.get("n_prompt_tokens_processed")
    return slot.get("id"), slot.get("id_task"), read, written[0].get("n_decoded")


def _current(assistant: Assistant, launch: Launch) -> Settings:
    settings = read_settings(Settings, assistant, launch)
    model = launch.workspace / settings.model
    if not model.is_file():
        raise unusable(assistant, launch, f"{model} is missing")
    declared = {"assistant": assistant.name, **assistant.llamacpp.model_dump()}
    require_current(assistant, launch, declared=declared, built=settings.model_dump())
    return settings
