"""The embedded engine: llama.cpp's own server on the CPU, one process per assistant."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from assistants.schema import Assistant
from serve.engines.errors import WorkspaceError
from serve.engines.openai import healthy, one_token
from serve.ports import LOOPBACK
from serve.process import Command

FIRST_TOKEN_SECONDS = 120.0


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


class Llamacpp:
    """llama.cpp through the xllamacpp wheel."""

    name = "llamacpp"

    def command(self, assistant: Assistant, workspace: Path, port: int) -> Command:
        settings = _read(assistant, workspace)
        return Command.python(
            "serve.engines.llamacpp_server",
            f"--model={workspace / settings.model}",
            f"--alias={settings.assistant}",
            f"--host={LOOPBACK}",
            f"--port={port}",
            f"--context={settings.context}",
            f"--parallel={settings.parallel}",
            f"--threads={settings.threads}",
        )

    async def first_token(self, client: httpx.AsyncClient, assistant: str) -> bool:
        return await healthy(client) and await one_token(
            client, assistant, seconds=FIRST_TOKEN_SECONDS
        )

    async def alive(self, client: httpx.AsyncClient) -> bool:
        return await healthy(client)

    async def busy(self, client: httpx.AsyncClient) -> bool:
        try:
            slots = (await client.get("/slots")).json()
        except (httpx.HTTPError, ValueError):
            return False
        return any(slot.get("is_processing") for slot in slots)


def _read(assistant: Assistant, workspace: Path) -> Settings:
    path = workspace / "engine.json"
    try:
        settings = Settings.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise WorkspaceError(
            assistant.name, f"The assistant '{assistant.name}' has no workspace in {workspace}"
        ) from error
    except ValidationError as error:
        raise WorkspaceError(assistant.name, f"{path} is not a workspace's engine.json") from error
    if not (workspace / settings.model).is_file():
        raise WorkspaceError(assistant.name, f"{workspace / settings.model} is missing")
    if changed := _differences(assistant, settings):
        raise WorkspaceError(
            assistant.name, f"The workspace of '{assistant.name}' is outdated ({changed})"
        )
    return settings


def _differences(assistant: Assistant, settings: Settings) -> str:
    """What the declaration says now and the workspace was not made for."""
    declared = {"assistant": assistant.name, **assistant.llamacpp.model_dump()}
    built = settings.model_dump()
    return ", ".join(
        f"{name} is {value} now, was {built[name]}"
        for name, value in declared.items()
        if built[name] != value
    )
