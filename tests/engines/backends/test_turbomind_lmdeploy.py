"""TurboMind's process is the real api_server; only the class that needs a GPU is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from assistants.schema import Assistant
from serve.engines.backends.engine import Launch
from serve.engines.backends.lmdeploy import Lmdeploy
from serve.engines.backends.turbomind import Turbomind
from serve.process import Command
from tests.engines.backends.on_lmdeploy import Running, ended, real_python, reciting_python, running
from tests.engines.conftest import declare
from tests.ports import free_port

pytestmark = [
    pytest.mark.lmdeploy,
    pytest.mark.timeout(400),
    pytest.mark.asyncio(loop_scope="module"),
]

KEY = "open-sesame"
HANGS = 501
"""See `reciting_turbomind`: who asks with this seed is given three tokens and no more."""
QUICK_TO_NOTICE = {
    "LMDEPLOY_HEALTH_POLL_INTERVAL": "0.3",
    "LMDEPLOY_HEALTH_PROBE_TIMEOUT": "0.2",
    "LMDEPLOY_HEALTH_UNHEALTHY_AFTER": "2",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an assistant of two slots, and its real workspace."""
    from convert.progress import Unwatched
    from convert.run import build

    root = tmp_path_factory.mktemp("house")
    declared = declare(
        root / "assistants", more="turbomind: {session_len: 512, max_batch_size: 2}\n"
    )
    work = root / "work"
    build(declared, engine="turbomind", workspaces=work, force=False, progress=Unwatched())
    return root


def wishes(house: Path) -> Assistant:
    return declare(
        house / "assistants", more="turbomind: {session_len: 512, max_batch_size: 2}\n"
    ).get("wishes")


def command(house: Path, python: Path, port: int, **env: str) -> Command:
    engine = Turbomind(Lmdeploy(python, "0.18.0"))
    workspace = house / "work" / "wishes" / "turbomind"
    made = engine.command(wishes(house), Launch(workspace=workspace, port=port, key=KEY))
    return Command(made.argv, {**made.env, **env})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(house: Path) -> AsyncIterator[Running]:
    port = free_port()
    told = command(house, reciting_python(house), port, **QUICK_TO_NOTICE)
    async with running(told, port, house / "engine.log", KEY) as served:
        yield served


@pytest.fixture
def engine() -> Turbomind:
    return Turbomind(Lmdeploy(real_python(), "0.18.0"))


@contextlib.asynccontextmanager
async def asking(served: Running, **given: Any) -> AsyncIterator[AsyncIterator[str]]:
    """A stream of which one token has come."""
    body = {"model": "wishes", "messages": [{"role": "user", "content": "1"}], "stream": True}
    async with served.client.stream("POST", "/v1/chat/completions", json=body | given) as answer:
        lines = answer.aiter_lines()
        assert (await anext(lines)).startswith("data: ")
        yield lines


async def until(engine: Turbomind, served: Running, *, busy: int) -> None:
    async with asyncio.timeout(20):
        while await engine.busy(served.client) != busy:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_it_serves_the_workspace_under_its_name(served: Running) -> None:
    found = (await served.client.get("/v1/models")).json()["data"]
    assert [model["id"] for model in found] == ["wishes"]
    body = {"model": "wishes", "messages": [{"role": "user", "content": "1"}], "max_tokens": 8}
    answer = (await served.client.post("/v1/chat/completions", json=body)).json()
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] == 8


async def test_the_key_is_wanted_and_not_shown(served: Running) -> None:
    async with httpx.AsyncClient(base_url=served.client.base_url, trust_env=False) as stranger:
        assert (await stranger.get("/health")).status_code == 200
        for path in ("/v1/models", "/metrics"):
            assert (await stranger.get(path)).status_code == 401
        refused = await stranger.post("/v1/chat/completions", json={})
        assert refused.status_code == 401
    shown = command_lines()
    assert b"--model-name=wishes" in shown
    assert KEY.encode() not in shown


def command_lines() -> bytes:
    """Of every process of this machine, as everybody may list them."""
    shown = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            shown += path.read_bytes()
    return shown


async def test_no_page_of_elsewhere_may_read_it(served: Running) -> None:
    answer = await served.client.get("/v1/models", headers={"Origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in answer.headers


async def test_busy_is_what_is_in_flight_at_that_moment(engine: Turbomind, served: Running) -> None:
    """Two hold the two slots; the third was accepted and waits for one, without a byte."""
    await until(engine, served, busy=0)
    body = {"model": "wishes", "messages": [{"role": "user", "content": "1"}], "stream": True}
    async with asking(served, seed=HANGS), asking(served, seed=HANGS):
        assert await engine.busy(served.client) == 2
        async with served.client.stream("POST", "/v1/chat/completions", json=body):
            assert await engine.busy(served.client) == 3
        await until(engine, served, busy=2)
    await until(engine, served, busy=0)


async def test_inference_that_hangs_is_not_alive(engine: Turbomind, served: Running) -> None:
    assert await engine.alive(served.client)
    async with asking(served, seed=HANGS):
        async with asyncio.timeout(20):
            while await engine.alive(served.client):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert (await served.client.get("/v1/models")).status_code == 200  # HTTP goes on
    async with asyncio.timeout(20):
        while not await engine.alive(served.client):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_one_that_sleeps_is_not_alive(engine: Turbomind, served: Running) -> None:
    headers = {"Content-Type": "application/json"}
    assert (await served.client.post("/sleep", headers=headers)).is_success
    async with asyncio.timeout(20):
        while await engine.alive(served.client):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert not await engine.first_token(served.client, "wishes")
    assert (await served.client.post("/wakeup", headers=headers)).is_success
    async with asyncio.timeout(20):
        while not await engine.first_token(served.client, "wishes"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_it_ends_when_told_and_not_before_it_has_answered(served: Running) -> None:
    """The last test of this server."""
    async with asking(served, max_tokens=200, ignore_eos=True) as lines:
        stopping = asyncio.create_task(served.process.stop(30))
        rest = [line async for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert await stopping == 143  # uvicorn passes the signal on when it is done
    assert served.process.lines()[0].startswith("HINT:")


# What goes wrong at a start.


async def test_falling_back_to_pytorch_ends_it(
    house: Path, tmp_path: Path, engine: Turbomind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it truly does: there is no stand-in, and no CUDA library to be found."""
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    code, lines = await ended(command(house, real_python(), free_port()), tmp_path / "log")
    assert code == 1
    assert lines[-1] == "Fallback to pytorch engine because turbomind is not built."
    fault = engine.fault(lines)
    assert fault is not None
    assert fault.startswith("LMDeploy fell back to its PyTorch engine, because its TurboMind")


async def test_a_fall_back_that_goes_on_is_seen_in_the_log(
    house: Path, tmp_path: Path, engine: Turbomind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LMDeploy by itself goes on with PyTorch; without a GPU it comes as far as looking for one."""
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    made = command(house, real_python(), free_port())
    argv = (made.argv[0], "-m", "lmdeploy", *made.argv[2:])
    code, lines = await ended(Command(argv, made.env), tmp_path / "log")
    assert code != 0
    assert sum("lmdeploy/pytorch" in line for line in lines) > 3
    fault = engine.fault(lines)
    assert fault is not None
    assert fault.startswith("LMDeploy fell back to its PyTorch engine, because its TurboMind")


async def test_a_template_that_is_none_ends_it(
    house: Path, tmp_path: Path, engine: Turbomind
) -> None:
    """Without being told which to take, LMDeploy would serve it without any."""
    workspace = shutil.copytree(house / "work" / "wishes" / "turbomind", tmp_path / "work")
    (workspace / "chat_template.jinja").write_text("{% nonsense %}")
    config = json.loads((workspace / "tokenizer_config.json").read_bytes())
    del config["chat_template"]
    (workspace / "tokenizer_config.json").write_text(json.dumps(config))
    launch = Launch(workspace=workspace, port=free_port())
    python = reciting_python(tmp_path)
    made = Turbomind(Lmdeploy(python, "0.18.0")).command(wishes(house), launch)
    code, lines = await ended(made, tmp_path / "log")
    assert code == 1
    fault = engine.fault(lines)
    assert fault is not None
    assert "chat template is missing or broken" in fault
