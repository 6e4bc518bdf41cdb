"""`hanlin up` as its user runs it: from declarations to answers, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from pathlib import Path

import httpx
import openai
import pytest

from hanlin.children import GRACE_SECONDS
from hanlin.client.running import found
from serve.gateway.routes import REFUSED
from serve.ports import listen
from tests.hanlin.conftest import Hanlin, Run, alive, family, none_left, part, words
from tests.ports import free_port


async def brought_up(hanlin: Hanlin, house: Path, *more: str) -> tuple[Run, int]:
    port = free_port()
    run = await hanlin("up", "--no-ui", f"--port={port}", *more, cwd=house)
    await run.until("Ctrl-C stops everything")
    return run, port


async def ask(port: int, name: str) -> str:
    async with openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0
    ) as client:
        answer = await client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": "祝姐姐生日快乐"}]
        )
    return answer.choices[0].message.content or ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_from_nothing_to_answers_and_to_a_clean_end(
    hanlin: Hanlin, house: Path, number: signal.Signals
) -> None:
    run, port = await brought_up(hanlin, house)
    shown = "\n".join(run.lines)
    assert f"http://127.0.0.1:{port}/v1" in shown
    assert "wishes  题  Title of wishes" in shown
    assert "curl" in shown
    assert await ask(port, "wishes")
    children = family(run.process.pid)
    assert len(children) >= 8  # engine host, gateway, two engines, and a guard for each
    run.signal(number)
    code, out, err = await run.end()
    assert (code, out, err) == (0, "Everything is stopped.\n", "")
    assert not alive(children)


async def test_engines_want_a_key_of_this_run_that_no_process_list_shows(
    hanlin: Hanlin, house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And `--memory` reaches the engine host: there is room for one of the two."""
    monkeypatch.setenv("HANLIN_MINIMUM_STAY", "0")
    run, port = await brought_up(hanlin, house, "--memory=300MiB")
    up = found(house / "workspaces" / ".logs")
    assert up is not None
    assert up.engines_key
    async with httpx.AsyncClient(base_url=up.engines, trust_env=False) as client:
        assert (await client.get("/replicas")).status_code == 401
        client.headers["Authorization"] = f"Bearer {up.engines_key}"
        told = (await client.get("/replicas")).json()
    assert sorted(replica["state"] for replica in told["replicas"]) == ["ready", "stopped"]
    url = next(replica["url"] for replica in told["replicas"] if replica["url"])
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        assert (await client.get("/v1/models")).status_code == 401
    assert await ask(port, "wishes")  # whichever of them had to make room
    listed = [words(pid) for pid in family(run.process.pid)]
    assert not [line for line in listed if up.engines_key in " ".join(line)]


@pytest.mark.parametrize("key", ["", "hl-of-this-test"])
async def test_the_curl_it_shows_can_be_pasted(
    hanlin: Hanlin, house: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("HANLIN_KEYS", key)
    monkeypatch.setenv("HANLIN_KEY", key)
    run, port = await brought_up(hanlin, house)
    begin = next(n for n, line in enumerate(run.lines) if line.startswith("curl "))
    pasted = await asyncio.create_subprocess_shell(
        "\n".join(run.lines[begin : begin + 2]),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, _ = await pasted.communicate()
    assert b'"choices"' in out
    if key:
        with pytest.raises(openai.AuthenticationError):
            await ask(port, "wishes")


async def test_no_child_outlives_a_killed_up(hanlin: Hanlin, house: Path) -> None:
    run, _ = await brought_up(hanlin, house)
    children = family(run.process.pid)
    run.signal(signal.SIGKILL)
    await run.end()
    await none_left(children)


def half_made(root: Path) -> list[Path]:
    return list(root.glob("workspaces/*/.*.building"))


async def test_ctrl_c_while_it_builds_leaves_nothing_half_made(
    hanlin: Hanlin, house: Path, tmp_path: Path
) -> None:
    run = await hanlin(
        *("up", "--no-ui", f"--port={free_port()}", f"--assistants={house / 'assistants'}"),
    )
    assert run.process.stdout
    await run.process.stdout.readline()  # the first thing it builds
    run.signal(signal.SIGINT)
    code, out, err = await run.end()
    assert (code, err) == (0, "")
    assert out.endswith("Everything is stopped.\n")
    assert not half_made(tmp_path)


async def test_a_second_ctrl_c_kills(hanlin: Hanlin, house: Path) -> None:
    run, _ = await brought_up(hanlin, house)
    children = family(run.process.pid)
    stuck = [pid for pid in children if "gateway" in words(pid)]  # with its guard
    for pid in stuck:
        os.kill(pid, signal.SIGSTOP)
    # Well before the patience with one Ctrl-C is over; two sent at once would arrive as one.
    async with asyncio.timeout(GRACE_SECONDS / 2):
        while run.process.returncode is None:
            run.signal(signal.SIGINT)
            await asyncio.wait([asyncio.ensure_future(run.process.wait())], timeout=0.3)
    await none_left(children)


async def test_a_part_that_dies_ends_all_with_its_last_lines(hanlin: Hanlin, house: Path) -> None:
    run, _ = await brought_up(hanlin, house)
    children = family(run.process.pid)
    os.kill(part(run.process.pid, "gateway"), signal.SIGKILL)
    code, _, err = await run.end()
    assert code == 1
    assert err.startswith("The gateway was killed (SIGKILL), most likely because memory ran out")
    assert "gateway.log" in err
    await none_left(children)


async def test_a_dead_engine_is_told_and_comes_back(hanlin: Hanlin, house: Path) -> None:
    run, port = await brought_up(hanlin, house)
    os.kill(part(run.process.pid, "--alias=wishes"), signal.SIGKILL)
    await run.until("The engine of 'wishes' was killed")
    await run.until("The engine of 'wishes' is ready.")
    code, out, _ = await (await hanlin("logs", "wishes", "--lines=3", cwd=house)).end()
    assert code == 0
    started, ended, again = (line.split(" hanlin: ")[1] for line in out.splitlines())
    assert started.startswith("starts ")
    assert started != again  # on another port
    assert ended.startswith("it was killed (SIGKILL)")
    assert await ask(port, "wishes")
    run.signal(signal.SIGINT)
    assert (await run.end())[0] == 0


async def test_a_broken_declaration_or_key_is_told_and_so_is_its_mending(
    hanlin: Hanlin, house: Path, tmp_path: Path
) -> None:
    """Where one looks: in the terminal of `up`, and in `hanlin status`; host and gateway agree."""
    own = tmp_path / "own"
    shutil.copytree(house, own, ignore=shutil.ignore_patterns(".logs"))
    keys, file = own / "keys.yaml", own / "assistants" / "wishes.yaml"
    keys.write_text("keys: {}\n")
    run, _ = await brought_up(hanlin, own, f"--keys={keys}")
    right = file.read_text(encoding="utf-8")
    file.write_text(right + "limits: {concurency: 1}\n", encoding="utf-8")
    told = await run.until(  # host and gateway look for themselves, and either may be first
        "The changed declarations are ignored: ",
        "The changed declarations or keys are ignored; the gateway's log says",
    )
    assert "wishes.yaml:7: unknown key 'concurency' in limits; did you mean" in told
    code, out, _ = await (await hanlin("status", "--json", cwd=own)).end()
    shown = json.loads(out)
    assert code == 0
    assert "concurency" in shown["engines"]["declarations"]
    assert shown["gateway"]["declarations"] == REFUSED
    file.write_text(right, encoding="utf-8")
    await run.until(
        "The declarations are valid again, and in effect.",
        "The gateway now uses the new declarations and keys.",
    )
    keys.write_text("kees: {}\n")
    await run.until("The changed declarations or keys are ignored; the gateway's log says")
    run.signal(signal.SIGINT)
    code, out, err = await run.end()
    assert (code, out, err) == (0, "Everything is stopped.\n", "")  # the engine host has no say


@pytest.mark.parametrize("option", ["--port", "--ui-port"])
async def test_a_taken_port_is_told_before_anything_is_built(
    hanlin: Hanlin, house: Path, tmp_path: Path, option: str
) -> None:
    others = {"--port": "--ui-port", "--ui-port": "--port"}
    with listen("127.0.0.1", 0) as sock:
        taken = sock.getsockname()[1]
        run = await hanlin(
            *("up", f"{option}={taken}", f"{others[option]}={free_port()}"),
            f"--assistants={house / 'assistants'}",
        )
        code, out, err = await run.end()
    assert (code, out) == (1, "")
    assert err.startswith(f"Port {taken} is taken by ")
    assert err.endswith(f"choose another with {option}.\n")
    assert not os.listdir(tmp_path)


async def test_gateway_and_page_need_a_port_each(hanlin: Hanlin, house: Path) -> None:
    port = free_port()
    run = await hanlin("up", f"--port={port}", f"--ui-port={port}", cwd=house)
    code, _, err = await run.end()
    assert code == 1
    assert err.startswith(f"Gateway and page cannot both listen on port {port}")


async def test_turbomind_without_a_gpu_is_one_sentence(
    hanlin: Hanlin, house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho No devices were found\nexit 6\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{driver.parent}:{os.environ['PATH']}")
    code, _, err = await (await hanlin("up", "--engine=turbomind", cwd=house)).end()
    assert code == 1
    assert err == (
        "TurboMind needs an NVIDIA GPU, and there is none here: No devices were found; "
        "use --engine llamacpp.\n"
    )


async def test_an_engine_that_cannot_run_is_told_and_nothing_is_left(
    hanlin: Hanlin, house: Path, tmp_path: Path
) -> None:
    """None of them fits: there is nothing to serve with."""
    folder = tmp_path / "assistants"
    folder.mkdir()
    shutil.copy(house / "assistants" / "wishes.yaml", folder)
    run = await hanlin("up", "--no-ui", f"--port={free_port()}", "--memory=32MiB")
    await run.until("engine of wishes: failed")
    code, _, err = await run.end()
    assert code == 1
    assert err.startswith("'wishes' cannot be started: it needs ")


async def test_the_page_comes_up_too(hanlin: Hanlin, house: Path) -> None:
    port, ui_port = free_port(), free_port()
    run = await hanlin("up", f"--port={port}", f"--ui-port={ui_port}", cwd=house)
    await run.until("Ctrl-C stops everything")
    assert any(line.endswith(f"Page        http://127.0.0.1:{ui_port}") for line in run.lines)
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://127.0.0.1:{ui_port}/")).status_code == 200
    run.signal(signal.SIGINT)
    assert (await run.end())[0] == 0
