"""The machine's memory as a device: what llama.cpp's engines are planned to take, and take."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from assistants import Assistant, HanlinError
from convert.fit import embedded
from convert.progress import Unwatched
from convert.run import build
from hanlin.memory import planner
from serve.engines.backends import llamacpp_server
from serve.engines.backends.engine import Launch
from serve.engines.backends.llamacpp import Llamacpp
from serve.engines.memory.placement import Device, Evict
from serve.process import Log, Process
from tests.convert.drawn_needs import GIB
from tests.hanlin.test_memory import MIB, asked, at_home, declared
from tests.ports import free_port

# ---- the machine's memory and llama.cpp


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of the embedded base, for whoever is called `wishes`."""
    root = tmp_path_factory.mktemp("built")
    build(declared(root / "a", wishes=""), engine="llamacpp", workspaces=root / "ws",
          progress=Unwatched())  # fmt: skip
    return root / "ws"


@pytest.fixture
def workspaces(built: Path, tmp_path: Path) -> Path:
    """A copy of one's own, with a second assistant on it."""
    for name in ("wishes", "poetry"):
        shutil.copytree(built / "wishes" / "llamacpp", tmp_path / "ws" / name / "llamacpp")
    return tmp_path / "ws"


def test_llamacpp_needs_its_file_its_cache_and_its_process(
    workspaces: Path, tmp_path: Path
) -> None:
    house = declared(tmp_path / "a", wishes="llamacpp: {context: 300, parallel: 2}")
    plan = planner("llamacpp", workspaces, memory="1GiB")(house)
    wants = plan.needs["wishes"]
    model = workspaces / "wishes" / "llamacpp" / "model.gguf"
    config = json.loads(model.with_name("config.json").read_text())
    assert wants.weights == model.stat().st_size
    assert wants.least_cache == wants.most_cache == 2 * 512 * 8192  # rounded up to 256 tokens
    assert wants.context == embedded.PROCESS + embedded.VOCABULARY * config["vocab_size"]
    assert wants.activations > embedded.PROMPT_CACHE + 512 * 8192
    assert wants.devices == 1
    assert plan.devices == (Device(0, "memory", GIB - GIB // 20),)
    assert plan.homes["wishes"].cache == wants.least_cache


def test_the_memory_given_decides_who_fits(workspaces: Path, tmp_path: Path) -> None:
    house = declared(tmp_path / "a", wishes="", poetry="start: on_demand")
    plan = planner("llamacpp", workspaces, memory="1GiB")(house)
    assert plan.order == ("wishes", "poetry")
    one = plan.needs["wishes"].least * 20 // 19 // MIB + 1
    tight = planner("llamacpp", workspaces, memory=f"{one}MiB")(house)
    assert tuple(tight.homes) == ("wishes",)
    assert set(tight.needs) == {"wishes", "poetry"}
    assert asked(tight, "poetry", at_home(tight, "wishes")) == Evict(("wishes",))
    small = planner("llamacpp", workspaces, memory=f"{one - 20}MiB")(house)
    assert not small.needs
    said = small.never["wishes"]
    assert "even alone" in said
    fits = int(said.split("llamacpp.context times llamacpp.parallel of ")[1].split()[0])
    less = declared(tmp_path / "b", wishes=f"llamacpp: {{context: {fits // 4}, parallel: 4}}")
    assert planner("llamacpp", workspaces, memory=f"{one - 20}MiB")(less).homes
    size = said.rsplit("--memory ", 1)[1].split(" holds")[0]
    assert planner("llamacpp", workspaces, memory=size)(house).homes


def test_without_a_size_the_machine_says_it(workspaces: Path, tmp_path: Path) -> None:
    house = declared(tmp_path / "a", wishes="")
    (device,) = planner("llamacpp", workspaces)(house).devices
    assert device.kind == "memory"
    assert device.memory > 0
    with pytest.raises(HanlinError, match=r"--memory 2x8GiB is not a size"):
        planner("llamacpp", workspaces, memory="2x8GiB")


def test_llamacpps_workspace_is_missing_or_damaged(workspaces: Path, tmp_path: Path) -> None:
    house = declared(tmp_path / "a", wishes="", poetry="", new="")
    (workspaces / "wishes" / "llamacpp" / "model.gguf").unlink()
    (workspaces / "poetry" / "llamacpp" / "config.json").write_text("[]", encoding="utf-8")
    never = planner("llamacpp", workspaces, memory="1GiB")(house).never
    assert "model.gguf cannot be read: No such file" in never["wishes"]
    assert "config.json: is not a JSON object" in never["poetry"]
    assert "hanlin convert new --engine llamacpp" in never["new"]


def test_the_engine_keeps_as_many_old_prompts_as_the_plan_counts() -> None:
    assert llamacpp_server.PROMPT_CACHE_MIB * MIB == embedded.PROMPT_CACHE


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to see its memory")
async def test_the_real_engine_takes_no_more_than_planned(built: Path, tmp_path: Path) -> None:
    """Measured under load: every slot filled, and more old prompts than it may keep."""
    house = declared(tmp_path / "a", wishes="")
    planned = planner("llamacpp", built, memory="1GiB")(house).needs["wishes"].least
    async with asyncio.timeout(150):
        taken = await taken_under_load(house.get("wishes"), built, tmp_path / "log")
    assert taken <= planned <= 2 * taken, f"{taken / MIB:.0f} of {planned / MIB:.0f} MiB"


async def taken_under_load(assistant: Assistant, workspaces: Path, log: Path) -> int:
    """Bytes the real engine and its guard hold at the most."""
    port = free_port()
    launch = Launch(workspace=workspaces / "wishes" / "llamacpp", port=port)
    command = Llamacpp().command(assistant, launch)
    process = await Process.start(command, Log(log))
    most = 0
    gate = asyncio.Semaphore(assistant.llamacpp.parallel)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            while not await Llamacpp().first_token(client, "wishes"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

            async def one(prompt: str) -> None:
                nonlocal most
                async with gate:
                    body = {"model": "wishes", "prompt": prompt, "max_tokens": 1}
                    (await client.post("/v1/completions", json=body)).raise_for_status()
                most = max(most, resident(port))

            await asyncio.gather(*(one(prompt) for prompt in prompts(30)))
    finally:
        await process.stop(5)
    return most


def prompts(count: int) -> Iterator[str]:
    """Verses of no sense, none of which begins like another."""
    for seed in range(count):
        dice = random.Random(seed)
        yield "".join(dice.choice("春夏秋冬風花雪月山水天地人日夜雲雨江河樹") for _ in range(600))


def resident(port: int) -> int:
    """Bytes of the engine on that port and of the guard that stands over it."""
    pages = [
        int((status.parent / "statm").read_text().split()[1])
        for status in Path("/proc").glob("[0-9]*/cmdline")
        if f"--port={port}".encode() in said(status)
    ]
    assert len(pages) == 2
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def said(cmdline: Path) -> list[bytes]:
    try:
        return cmdline.read_bytes().split(b"\0")
    except OSError:  # it ended meanwhile
        return []
