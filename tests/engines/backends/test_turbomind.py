"""TurboMind without LMDeploy: its command, its refusals, and how its answers are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistants.schema import Assistant
from serve.engines.backends.engine import Launch
from serve.engines.backends.lmdeploy import Lmdeploy
from serve.engines.backends.turbomind import Turbomind
from serve.engines.errors import EngineError, WorkspaceError
from tests.engines.backends.made_turbomind import INSTALLED, argv, made
from tests.engines.conftest import declare

ENGINE = Turbomind(INSTALLED)


@pytest.fixture
def wishes(tmp_path: Path) -> Assistant:
    return declare(tmp_path / "a").get("wishes")


@pytest.fixture
def workspace(tmp_path: Path, wishes: Assistant) -> Path:
    return made(tmp_path / "work", wishes)


def test_the_command_says_what_the_workspace_says(workspace: Path, wishes: Assistant) -> None:
    assert argv(wishes, Launch(workspace=workspace, port=4711)) == [
        "serve",
        "api_server",
        str(workspace),
        "--server-name=127.0.0.1",
        "--server-port=4711",
        "--allow-origins=http://127.0.0.1:4711",
        "--model-name=wishes",
        "--backend=turbomind",
        "--model-format=hf",
        "--dtype=bfloat16",
        "--tp=1",
        "--session-len=4096",
        "--max-batch-size=128",
        "--quant-policy=0",
        "--cache-max-entry-count=0.8",
        "--enable-prefix-caching",
        "--chat-template=hf",
    ]


def test_what_the_host_decided_wins(workspace: Path, wishes: Assistant) -> None:
    launch = Launch(
        workspace=workspace, port=1, host="0.0.0.0", key="sesame", gpus=(2, 3), share=0.4321
    )
    command = ENGINE.command(wishes, launch)
    assert {"--cache-max-entry-count=0.4321", "--server-name=0.0.0.0"} <= set(command.argv)
    assert "sesame" not in " ".join(command.argv)
    assert command.env["HANLIN_ENGINES_KEY"] == "sesame"
    assert command.env["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert command.env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_what_it_did_not_decide_the_workspace_says(tmp_path: Path) -> None:
    half = declare(tmp_path / "a", more="turbomind: {cache_max_entry_count: 0.5}\n").get("wishes")
    launch = Launch(workspace=made(tmp_path / "work", half), port=1)
    assert "--cache-max-entry-count=0.5" in argv(half, launch)


def test_without_a_key_none_is_inherited(workspace: Path, wishes: Assistant) -> None:
    command = ENGINE.command(wishes, Launch(workspace=workspace, port=1))
    assert command.env["HANLIN_ENGINES_KEY"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in command.env


def test_a_missing_workspace(tmp_path: Path, wishes: Assistant) -> None:
    with pytest.raises(
        WorkspaceError, match=r"no workspace in .* yet; it starts .* hanlin convert wishes "
    ):
        ENGINE.command(wishes, Launch(workspace=tmp_path / "none", port=1))


@pytest.mark.parametrize(
    "changed",
    [
        {"engine": "llamacpp"},
        {"quant_policy": 3},
        {"tp": 0},
        {"cache_max_entry_count": 1},
        {"model_format": "gguf"},
        {"lmdeploy": "any"},
    ],
    ids=str,
)
def test_an_engine_json_that_is_none(
    changed: dict[str, Any], tmp_path: Path, wishes: Assistant
) -> None:
    made(tmp_path, wishes, **changed)
    with pytest.raises(WorkspaceError, match=r"engine\.json is not a workspace's"):
        ENGINE.command(wishes, Launch(workspace=tmp_path, port=1))


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ("quantize: awq", "quantize is awq now, was none"),
        ("session_len: 8192", "session_len is 8192 now, was 4096"),
        ("quant_policy: 8", "quant_policy is 8 now, was 0"),
        ("tp: 2", "tp is 2 now, was 1"),
        ("cache_max_entry_count: 0.5", "cache_max_entry_count is 0.5 now, was 0.8"),
        ("max_batch_size: 64", "max_batch_size is 64 now, was 128"),
    ],
)
def test_an_outdated_workspace_says_in_what(
    declared: str, told: str, workspace: Path, tmp_path: Path
) -> None:
    now = declare(tmp_path / "b", more=f"turbomind: {{{declared}}}\n").get("wishes")
    with pytest.raises(WorkspaceError) as refused:
        ENGINE.command(now, Launch(workspace=workspace, port=1))
    assert str(refused.value) == (
        f"The workspace of 'wishes' is outdated ({told}); run hanlin convert wishes."
    )


@pytest.mark.parametrize("stored", ["awq", "compressed-tensors"])
def test_4_bits_are_stored_in_two_formats(stored: str, tmp_path: Path) -> None:
    wishes = declare(tmp_path / "a", more="turbomind: {quantize: awq}\n").get("wishes")
    workspace = made(tmp_path / "work", wishes, model_format=stored)
    assert f"--model-format={stored}" in argv(wishes, Launch(workspace=workspace, port=1))


@pytest.mark.parametrize("empty", [True, False])
def test_no_template_is_refused_before_a_start(
    empty: bool, workspace: Path, wishes: Assistant
) -> None:
    template = workspace / "chat_template.jinja"
    template.write_text(" \n") if empty else template.unlink()
    with pytest.raises(WorkspaceError, match=r"has no chat template; run hanlin convert wishes\."):
        ENGINE.command(wishes, Launch(workspace=workspace, port=1))
    template.unlink(missing_ok=True)
    config = workspace / "tokenizer_config.json"
    config.write_text('{"chat_template": "{{ messages }}"}')
    ENGINE.command(wishes, Launch(workspace=workspace, port=1))


def test_code_of_the_base_is_trusted_where_the_tokenizer_is_nothing_else(
    workspace: Path, wishes: Assistant
) -> None:
    launch = Launch(workspace=workspace, port=1)
    (workspace / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["a.B"]}}')
    assert "--trust-remote-code" not in argv(wishes, launch)
    (workspace / "tokenizer.json").unlink()
    assert "--trust-remote-code" in argv(wishes, launch)


def test_an_lmdeploy_that_is_too_old(workspace: Path, wishes: Assistant) -> None:
    old = Turbomind(Lmdeploy(Path("/usr/bin/python3"), "0.13.0"))
    with pytest.raises(EngineError) as refused:
        old.command(wishes, Launch(workspace=workspace, port=1))
    assert str(refused.value) == (
        "The workspace of 'wishes' needs lmdeploy >=0.15, and /usr/bin/python3 has 0.13.0; "
        "update it there."
    )


# What it answers.

Answer = Callable[[httpx.Request], httpx.Response]
HEALTHY = {"status": "healthy", "message": "Engine is healthy."}


def client(answers: dict[str, httpx.Response | Exception]) -> httpx.AsyncClient:
    def answer(request: httpx.Request) -> httpx.Response:
        found = answers.get(request.url.path, httpx.Response(404))
        if isinstance(found, Exception):
            raise found
        return found

    transport = httpx.MockTransport(answer)
    return httpx.AsyncClient(transport=transport, base_url="http://engine")


@pytest.mark.parametrize(
    ("answer", "alive"),
    [
        (httpx.Response(200, json=HEALTHY), True),
        (httpx.Response(200), True),  # as before 0.16
        (httpx.Response(503, json={"status": "unhealthy"}), False),
        (httpx.Response(200, json={"status": "sleeping"}), False),
        (httpx.ReadTimeout("late"), False),
        (httpx.ConnectError("refused"), False),
    ],
    ids=str,
)
async def test_alive(answer: httpx.Response | Exception, alive: bool) -> None:
    assert await ENGINE.alive(client({"/health": answer})) is alive


@pytest.mark.parametrize(
    ("answer", "busy"),
    [
        (httpx.Response(200, text="a 9\nhanlin_requests_in_flight 3.0\n"), 3),
        (httpx.Response(200, text="# HELP hanlin_requests_in_flight Requests\n"), 1),
        (httpx.Response(200, text="hanlin_requests_in_flight many\n"), 1),
        (httpx.Response(401), 1),
        (httpx.ReadTimeout("late"), 1),
        (httpx.ConnectError("refused"), 0),
    ],
    ids=str,
)
async def test_one_that_does_not_say_is_busy(answer: httpx.Response | Exception, busy: int) -> None:
    assert await ENGINE.busy(client({"/metrics": answer})) == busy


ANSWER = httpx.Response(200, json={"choices": [{"message": {"content": "a"}}]})


@pytest.mark.parametrize(
    ("answers", "wrote"),
    [
        ({"/health": httpx.Response(503)}, False),
        ({"/health": httpx.Response(200, json=HEALTHY)}, False),
        ({"/health": httpx.Response(200), "/v1/completions": ANSWER}, False),  # not by chat
        ({"/health": httpx.Response(200), "/v1/chat/completions": ANSWER}, True),
    ],
)
async def test_the_first_token_is_that_of_a_chat(
    answers: dict[str, httpx.Response | Exception], wrote: bool
) -> None:
    assert await ENGINE.first_token(client(answers), "wishes") is wrote


@pytest.mark.parametrize("backend", ["turbomind", "pytorch", None])
async def test_a_server_that_computes_with_pytorch_is_refused(backend: str | None) -> None:
    told = httpx.Response(200, text=json.dumps({"backend": backend}))
    answers: dict[str, httpx.Response | Exception] = {
        "/health": httpx.Response(200),
        "/update_weights_from_ipc": told,
        "/v1/chat/completions": ANSWER,
    }
    if backend != "pytorch":
        assert await ENGINE.first_token(client(answers), "wishes")
        return
    with pytest.raises(EngineError, match="fell back to its PyTorch engine"):
        await ENGINE.first_token(client(answers), "wishes")
