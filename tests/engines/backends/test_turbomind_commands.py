"""Every command TurboMind is started with is one that the real LMDeploy takes as it was meant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistants.load import load_house
from assistants.schema import Assistant, Turbomind
from serve.engines.backends.engine import Launch
from tests.conftest import ROOT
from tests.engines.backends.made_turbomind import argv, made
from tests.engines.backends.on_lmdeploy import Parser, parser

pytestmark = [pytest.mark.lmdeploy, pytest.mark.timeout(400)]

DECLARED = [
    pytest.param(assistant, id=f"{folder}/{assistant.name}")
    for folder in ("assistants", "examples")
    for assistant in load_house(ROOT / folder)
]


@pytest.fixture(scope="module")
def real() -> Iterator[Parser]:
    with parser() as asked:
        yield asked


def meant(assistant: Assistant, launch: Launch, *, model_format: str) -> dict[str, Any]:
    """What the engine is to be configured with."""
    settings = assistant.turbomind
    return {
        "tp": settings.tp,
        "session_len": settings.session_len,
        "max_batch_size": settings.max_batch_size,
        "quant_policy": settings.quant_policy,
        "cache_max_entry_count": launch.share or settings.cache_max_entry_count,
        "model_format": model_format,
        "dtype": "bfloat16",
        "enable_prefix_caching": True,
        "enable_metrics": True,
    }


def agree(real: Parser, assistant: Assistant, launch: Launch, *, model_format: str) -> None:
    got = real.ask(argv(assistant, launch))
    assert "refused" not in got, got
    wanted = meant(assistant, launch, model_format=model_format)
    assert {name: got["config"][name] for name in wanted} == wanted
    told = ("backend", "type", "folder", "model_name", "server_name", "server_port", "template")
    assert [got[name] for name in told] == [
        "turbomind", "TurbomindEngineConfig", str(launch.workspace), assistant.name, launch.host,
        launch.port, "hf",
    ]  # fmt: skip
    assert (got["max_concurrent_requests"], got["api_keys"]) == (None, None)
    assert got["allow_origins"] == [f"http://{launch.host}:{launch.port}"]


@pytest.mark.parametrize("assistant", DECLARED)
def test_of_every_assistant_that_is_declared(
    real: Parser, assistant: Assistant, tmp_path: Path
) -> None:
    stored = "awq" if assistant.turbomind.quantize == "awq" else "hf"
    launch = Launch(workspace=made(tmp_path, assistant), port=41001)
    agree(real, assistant, launch, model_format=stored)


shares = st.none() | st.integers(1, 9999).map(lambda part: part / 10_000)


@st.composite
def settings(draw: st.DrawFn) -> Turbomind:
    return Turbomind(
        quantize=draw(st.sampled_from(["none", "awq"])),
        session_len=draw(st.integers(1, 2**20)),
        quant_policy=draw(st.sampled_from([0, 4, 8])),
        tp=draw(st.integers(1, 16)),
        cache_max_entry_count=draw(
            st.floats(0, 1, exclude_min=True, exclude_max=True, allow_subnormal=False)
        ),
        max_batch_size=draw(st.integers(1, 4096)),
    )


@given(turbomind=settings(), share=shares, port=st.integers(1, 65535))
def test_of_every_setting(
    real: Parser,
    tmp_path_factory: pytest.TempPathFactory,
    turbomind: Turbomind,
    share: float | None,
    port: int,
) -> None:
    declared = {"name": "x", "title": "t", "description": "d", "model": {"base": "hanlin-mini"}}
    assistant = Assistant.model_validate({**declared, "turbomind": turbomind.model_dump()})
    folder = made(tmp_path_factory.getbasetemp() / "any", assistant)
    launch = Launch(workspace=folder, port=port, host="0.0.0.0", share=share)
    stored = "awq" if turbomind.quantize == "awq" else "hf"
    agree(real, assistant, launch, model_format=stored)


@pytest.mark.parametrize("wrong", ["--quant-policy=3", "--model-format=gguf", "--no-such-option=1"])
def test_what_it_does_not_know_it_refuses(real: Parser, wrong: str, tmp_path: Path) -> None:
    """Else the tests above would show nothing."""
    assert "refused" in real.ask(["serve", "api_server", str(tmp_path), wrong])
