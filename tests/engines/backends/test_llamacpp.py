"""The embedded engine: its command, its refusals, and its process with a real model."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path

import httpx
import pytest

from serve.engines.backends.engine import Launch
from serve.engines.backends.llamacpp import Llamacpp
from serve.engines.errors import WorkspaceError
from serve.engines_key import bearer
from serve.ports import listen
from serve.process import Log, Process
from tests.engines.conftest import declare
from tests.ports import free_port


@pytest.fixture
def workspace(workspaces: Path) -> Path:
    return workspaces / "wishes" / "llamacpp"


def test_the_command_says_what_the_workspace_says(workspace: Path, tmp_path: Path) -> None:
    wishes = declare(tmp_path).get("wishes")
    argv = Llamacpp().command(wishes, Launch(workspace=workspace, port=4711)).argv
    assert {
        f"--model={workspace / 'model.gguf'}",
        "--alias=wishes",
        "--port=4711",
        "--host=127.0.0.1",
        "--context=1024",
        "--parallel=4",
        "--threads=1",
    } <= set(argv)


def test_a_missing_workspace(tmp_path: Path) -> None:
    wishes = declare(tmp_path / "a").get("wishes")
    with pytest.raises(
        WorkspaceError, match=r"no workspace in .* yet; it starts .* hanlin convert wishes "
    ):
        Llamacpp().command(wishes, Launch(workspace=tmp_path, port=1))


def test_an_outdated_workspace_says_in_what(workspace: Path, tmp_path: Path) -> None:
    wishes = declare(tmp_path, more="llamacpp: {threads: 3}\n").get("wishes")
    with pytest.raises(
        WorkspaceError, match=r"outdated \(threads is 3 now, was 1\); run hanlin convert wishes\.$"
    ):
        Llamacpp().command(wishes, Launch(workspace=workspace, port=1))


def test_how_it_is_built_for_a_house_elsewhere_is_said(workspace: Path, tmp_path: Path) -> None:
    house = declare(tmp_path, more="llamacpp: {threads: 3}\n")
    options = " --assistants house --workspaces 'my work'"
    for folder in (workspace, tmp_path):
        launch = Launch(workspace=folder, port=1, options=options)
        with pytest.raises(WorkspaceError, match=f"hanlin convert wishes{options}"):
            Llamacpp().command(house.get("wishes"), launch)


@pytest.mark.parametrize("text", ["{", "{}", '{"engine": "turbomind"}'])
def test_an_engine_json_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "engine.json").write_text(text)
    wishes = declare(tmp_path / "a").get("wishes")
    with pytest.raises(WorkspaceError, match=r"engine\.json is not"):
        Llamacpp().command(wishes, Launch(workspace=tmp_path, port=1))


def test_a_workspace_without_its_model(workspace: Path, tmp_path: Path) -> None:
    shutil.copy(workspace / "engine.json", tmp_path)
    wishes = declare(tmp_path / "a").get("wishes")
    with pytest.raises(WorkspaceError, match=r"model\.gguf is missing; run hanlin convert"):
        Llamacpp().command(wishes, Launch(workspace=tmp_path, port=1))


async def test_it_serves_a_real_model(workspace: Path, tmp_path: Path) -> None:
    port = free_port()
    wishes = declare(tmp_path / "a").get("wishes")
    engine = Llamacpp()
    process = await Process.start(
        engine.command(wishes, Launch(workspace=workspace, port=port)), Log(tmp_path / "engine.log")
    )
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        async with asyncio.timeout(60):
            while not await engine.first_token(client, "wishes"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        slots = (await client.get("/slots")).json()
        assert [slot["n_ctx"] for slot in slots] == [1024] * 4
        assert (await client.get("/v1/models")).json()["data"][0]["id"] == "wishes"
        assert not await engine.busy(client)
        page = await client.get("/", headers={"Origin": "https://elsewhere.example"})
        assert page.status_code == 404
        assert not page.headers.get("access-control-allow-origin")
        body = {"prompt": "春", "max_tokens": 900, "ignore_eos": True, "stream": True}
        async with client.stream("POST", "/v1/completions", json=body) as answer:
            coming = answer.aiter_bytes()  # held: one that is let go closes the answer
            await anext(coming)
            assert await engine.busy(client) == 1
    assert await process.stop(10) == 0
    assert process.tail() == []


async def test_the_key_is_wanted_and_not_shown(workspace: Path, tmp_path: Path) -> None:
    wishes = declare(tmp_path / "a").get("wishes")
    engine, port = Llamacpp(), free_port()
    command = engine.command(wishes, Launch(workspace=workspace, port=port, key="open-sesame"))
    assert "open-sesame" not in " ".join(command.argv)
    process = await Process.start(command, Log(tmp_path / "engine.log"))
    url = f"http://127.0.0.1:{port}"
    async with (
        httpx.AsyncClient(base_url=url, headers=bearer("open-sesame"), trust_env=False) as ours,
        httpx.AsyncClient(base_url=url, trust_env=False) as stranger,
    ):
        async with asyncio.timeout(60):
            while not await engine.first_token(ours, "wishes"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await engine.busy(ours) == 0
        assert await engine.alive(stranger)
        assert not await engine.first_token(stranger, "wishes")
        assert (await stranger.get("/slots")).status_code == 401
        assert await engine.busy(stranger) == 1  # it does not say
    await process.stop(10)
    async with httpx.AsyncClient(base_url=url, trust_env=False) as gone:
        assert await engine.busy(gone) == 0


def test_where_it_listens_is_the_host_s_to_say(workspace: Path, tmp_path: Path) -> None:
    wishes = declare(tmp_path).get("wishes")
    launch = Launch(workspace=workspace, port=1, host="0.0.0.0")
    assert "--host=0.0.0.0" in Llamacpp().command(wishes, launch).argv


async def run_server(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "serve.engines.backends.llamacpp_server", "--alias=x", *arguments),
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await process.communicate()
    return process.returncode or 0, told.decode()


async def test_a_truncated_model_is_told(workspace: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes((workspace / "model.gguf").read_bytes()[:3_000_000])
    code, told = await run_server(f"--model={broken}", f"--port={free_port()}")
    assert code == 1
    assert f"could not serve {broken}" in told
    assert "corrupted or incomplete" in told


async def test_a_port_taken_in_between_is_told(workspace: Path) -> None:
    with listen("127.0.0.1", 0) as sock:
        code, told = await run_server(
            f"--model={workspace / 'model.gguf'}", f"--port={sock.getsockname()[1]}"
        )
    assert code == 1
    assert "bind" in told


async def test_a_missing_model_is_told(tmp_path: Path) -> None:
    code, told = await run_server(f"--model={tmp_path / 'no.gguf'}", "--port=1")
    assert (code, told) == (1, f"There is no model file {tmp_path / 'no.gguf'}.\n")


def test_engine_json_is_that_of_the_contract(workspace: Path) -> None:
    assert json.loads((workspace / "engine.json").read_text()) == {
        "engine": "llamacpp",
        "assistant": "wishes",
        "model": "model.gguf",
        "type": "q8_0",
        "context": 1024,
        "parallel": 4,
        "threads": 1,
        "declared": {"type": "q8_0", "context": 1024, "parallel": 4, "threads": 1},
    }
