"""A stream from an assistant that is not running yet, through every part: real command, gateway
process, engine host process and engine, read as the bytes a proxy would see."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import httpx
import pytest

from tests.hanlin.conftest import Hanlin
from tests.ports import free_port

DECLARED = """\
name: wishes
title: Wishes
description: Says things.
start: on_demand
sampling: {temperature: 0, max_tokens: 16}
model: {base: hanlin-mini}
"""
SLOW_START = """\
import os, sys
if "serve.engines.backends.llamacpp_server" in sys.orig_argv:
    open(os.environ["UNTIL"]).close()
"""
"""Read by every Python at its start: an engine begins to load when somebody opens the other end of
this pipe, so it loads for as long as the test wants on any machine."""
WAITING = b": the engine of 'wishes' is starting\n\n"
BODY = {
    "model": "wishes",
    "messages": [{"role": "user", "content": "祝姐姐生日快乐"}],
    "stream": True,
}


async def test_a_stream_gets_comments_while_its_engine_loads_and_then_the_answer(
    hanlin: Hanlin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "assistants").mkdir()
    (tmp_path / "assistants/wishes.yaml").write_text(DECLARED)
    (tmp_path / "python").mkdir()
    (tmp_path / "python/sitecustomize.py").write_text(SLOW_START)
    os.mkfifo(tmp_path / "until")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "python"), prepend=os.pathsep)
    monkeypatch.setenv("UNTIL", str(tmp_path / "until"))
    port = free_port()
    run = await hanlin("up", "--no-ui", f"--port={port}")
    await run.until("Ctrl-C stops everything")
    url = f"http://127.0.0.1:{port}"
    async with (
        asyncio.timeout(120),
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=120) as http,
        http.stream("POST", "/v1/chat/completions", json=BODY) as answer,
    ):
        raw = answer.aiter_raw()
        assert (answer.status_code, answer.headers["content-type"]) == (
            200,
            "text/event-stream; charset=utf-8",
        )
        assert await anext(raw) == WAITING
        state = (await http.get("/v1/models/wishes")).json()["state"]
        assert state == "starting"
        loads = os.open(tmp_path / "until", os.O_RDWR)  # which waits for no reader
        try:
            rest = b"".join([part async for part in raw])
        finally:
            os.close(loads)
    while rest.startswith(WAITING):  # a slow machine's engine may need more than ten seconds
        rest = rest.removeprefix(WAITING)
    *events, done, end = rest.split(b"\n\n")
    assert (done, end) == (b"data: [DONE]", b"")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length")
