"""LMDeploy's TurboMind: the real `lmdeploy serve api_server` over one workspace, on GPUs."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import httpx
from pydantic import BaseModel, ConfigDict, Field

from assistants.schema import Assistant
from serve.engines.backends import lmdeploy, turbomind_faults
from serve.engines.backends.engine import Launch
from serve.engines.backends.lmdeploy import Lmdeploy
from serve.engines.backends.openai import healthy, one_word
from serve.engines.backends.workspace import read_settings, require_current, unusable
from serve.engines.errors import EngineError, EngineUnavailableError, NoLmdeployError
from serve.engines.memory import gpus
from serve.engines_key import VARIABLE
from serve.process import Command

SERVER = Path(__file__).with_name("turbomind_server.py")
IN_FLIGHT = "hanlin_requests_in_flight "
"""How the line of /metrics begins that `turbomind_server` adds."""
FIRST_TOKEN_SECONDS = 120.0
OLDEST = ">=0.15"
"""0.14 cannot be told by name which chat template to take."""

Positive = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """The `engine.json` of a workspace."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    engine: Literal["turbomind"]
    assistant: str
    tp: Positive
    session_len: Positive
    quant_policy: Literal[0, 4, 8]
    cache_max_entry_count: float = Field(gt=0, lt=1)
    max_batch_size: Positive
    model_format: Literal["hf", "awq", "gptq", "compressed-tensors", "fp8", "mxfp4"]
    dtype: Literal["auto", "bfloat16", "float16"] = "auto"
    declared: dict[str, Any] | None = None
    lmdeploy: str = Field(pattern=r"^>=\d+(\.\d+)*$")


class Turbomind:
    """TurboMind as one LMDeploy serves it."""

    name = "turbomind"
    serial = True

    def __init__(self, installed: Lmdeploy) -> None:
        self._installed = installed

    @classmethod
    def of_this_machine(cls, environ: Mapping[str, str]) -> Self:
        """With the LMDeploy that is found here.

        Raises:
            EngineUnavailableError: there is no GPU, or no LMDeploy that is new enough.
            EngineError: the Python that is named for LMDeploy has none.
        """
        seen = gpus.look(environ)
        if not seen.gpus:
            why = seen.trouble or "nvidia-smi lists none"
            raise EngineUnavailableError(
                f"TurboMind needs an NVIDIA GPU, and there is none here: {why}; "
                "use --engine llamacpp."
            )
        installed = lmdeploy.find(environ)
        if not installed.satisfies(OLDEST):
            raise NoLmdeployError(_too_old("TurboMind", OLDEST, installed))
        return cls(installed)

    def command(self, assistant: Assistant, launch: Launch) -> Command:
        settings = _current(assistant, launch)
        if not self._installed.satisfies(settings.lmdeploy):
            who = f"The workspace of '{assistant.name}'"
            raise EngineError(_too_old(who, settings.lmdeploy, self._installed))
        server = (str(self._installed.python), str(SERVER))
        return Command((*server, *arguments(settings, launch)), environment(launch))

    async def first_token(self, client: httpx.AsyncClient, assistant: str) -> bool:
        """Asked as a chat: what a missing template breaks is broken here already."""
        if not await healthy(client):
            return False
        if await _backend(client) == "pytorch":
            raise EngineError(turbomind_faults.FELL_BACK)
        return await one_word(client, assistant, seconds=FIRST_TOKEN_SECONDS)

    async def alive(self, client: httpx.AsyncClient) -> bool:
        """LMDeploy itself says 503 where HTTP goes on and inference hangs.

        One that was put to sleep counts as dead: it refuses every request, and nobody wakes it.
        """
        try:
            response = await client.get("/health")
        except httpx.HTTPError:
            return False
        return response.status_code == httpx.codes.OK and b'"sleeping"' not in response.content

    async def progress(self, client: httpx.AsyncClient) -> Hashable | None:
        return None  # LMDeploy watches its scheduler, and its /health says when that stands still

    async def busy(self, client: httpx.AsyncClient) -> int:
        """Every request that came and is not fully answered: computed, queued, or being sent."""
        try:
            metrics = (await client.get("/metrics")).raise_for_status().text
            lines = (line for line in metrics.splitlines() if line.startswith(IN_FLIGHT))
            return int(float(next(lines, "1").rpartition(" ")[2]))
        except httpx.ConnectError:
            return 0
        except (httpx.HTTPError, ValueError):
            return 1

    def fault(self, lines: Sequence[str]) -> str | None:
        return turbomind_faults.find(lines)


def arguments(settings: Settings, launch: Launch) -> tuple[str, ...]:
    """What `lmdeploy` is told.

    Never --max-concurrent-requests: it hides from LMDeploy that a client has left, counts no
    streams, and lets /health wait.
    """
    share = launch.share if launch.share is not None else settings.cache_max_entry_count
    told = (
        *("serve", "api_server", str(launch.workspace)),
        f"--server-name={launch.host}",
        f"--server-port={launch.port}",
        f"--allow-origins=http://{launch.host}:{launch.port}",  # no page of elsewhere
        f"--model-name={settings.assistant}",
        "--backend=turbomind",
        f"--model-format={settings.model_format}",
        f"--dtype={settings.dtype}",
        f"--tp={settings.tp}",
        f"--session-len={settings.session_len}",
        f"--max-batch-size={settings.max_batch_size}",
        f"--quant-policy={settings.quant_policy}",
        f"--cache-max-entry-count={share}",
        "--enable-prefix-caching",  # every conversation begins with the assistant's system prompt
        # The workspace's own. Left to choose, LMDeploy goes by words in the path, and takes no
        # template at all, without saying so, where the workspace's own is missing or broken.
        "--chat-template=hf",
    )
    return (*told, "--trust-remote-code") if _brings_code(launch.workspace) else told


def environment(launch: Launch) -> dict[str, str]:
    """What it is told beside its arguments."""
    told = {
        VARIABLE: launch.key or "",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",  # a workspace is complete
        "UVICORN_LOG_LEVEL": "warning",  # the gateway keeps the access log
    }
    if launch.gpus:
        told["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, launch.gpus))
        told["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi counts them
    return told


def _too_old(who: str, range_: str, installed: Lmdeploy) -> str:
    return (
        f"{who} needs lmdeploy {range_}, and {installed.python} has {installed.version}; "
        "update it there."
    )


def _current(assistant: Assistant, launch: Launch) -> Settings:
    settings = read_settings(Settings, assistant, launch)
    declared: dict[str, Any] = {"assistant": assistant.name}
    declared |= assistant.turbomind.model_dump(exclude={"calibration"})
    built = settings.model_dump()
    built["quantize"] = "none" if settings.model_format == "hf" else "awq"
    require_current(assistant, launch, declared=declared, built=built)
    if not _has_template(launch.workspace):
        raise unusable(assistant, launch, f"{launch.workspace} has no chat template")
    return settings


def _has_template(workspace: Path) -> bool:
    """LMDeploy would take a blank one, and every prompt would be empty."""
    own = workspace / "chat_template.jinja"
    inside = _tokenizer_config(workspace).get("chat_template")
    return bool(own.read_bytes().strip() if own.is_file() else inside)


def _brings_code(workspace: Path) -> bool:
    """Whether its tokenizer exists only as code that came with the base."""
    return (
        "auto_map" in _tokenizer_config(workspace) and not (workspace / "tokenizer.json").is_file()
    )


def _tokenizer_config(workspace: Path) -> dict[str, Any]:
    try:
        read = json.loads((workspace / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


async def _backend(client: httpx.AsyncClient) -> str | None:
    """What computes; None where LMDeploy is too old to say, and its log alone tells."""
    try:
        told = (await client.get("/update_weights_from_ipc")).raise_for_status().json()
        backend: str | None = told.get("backend")
    except (httpx.HTTPError, ValueError, AttributeError):
        return None
    return backend
