"""The profile `gpu` up to the CUDA call: the real LMDeploy on a stand-in for its image."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from openai import OpenAI

from tests.containers.docker import Docker, House, processes

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1800)]

NAMES = ("poetry", "wishes")
POEM = "春眠不觉晓"


@pytest.fixture(scope="module")
def house(
    docker: Docker, gateway_image: str, engine_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """The profile as it is, less the reservation of devices that no engine here could give."""
    folder = tmp_path_factory.mktemp("gpu")
    house = House.of_repository(docker, folder, "gpu")
    house.environment["HANLIN_ASSISTANTS"] = str(two_assistants(folder / "assistants"))
    read = house.config()
    del read["services"]["engines"]["deploy"]
    house.files = (folder / "docker-compose.yml",)
    house.files[0].write_text(yaml.safe_dump(read), encoding="utf-8")
    try:
        house.up()
        yield house
    finally:
        house.down()


def two_assistants(folder: Path) -> Path:
    """One with four-bit weights, one as it was trained: conversion of four would take minutes."""
    shipped = Path(__file__).parents[2] / "assistants"
    for part in ("adapters", "calibration"):
        shutil.copytree(shipped / part, folder / part)
    shutil.copy(shipped / "wishes.yaml", folder)
    declared = (shipped / "poetry.yaml").read_text(encoding="utf-8")
    assert "quantize: awq" in declared
    plain = declared.replace("quantize: awq", "quantize: none")
    (folder / "poetry.yaml").write_text(plain, encoding="utf-8")
    return folder


def test_gpus_are_reserved_as_the_file_says(docker: Docker, tmp_path: Path) -> None:
    read = House.of_repository(docker, tmp_path, "gpu").config()
    (device,) = read["services"]["engines"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["count"] in ("all", -1)
    assert set(device["capabilities"]) == {"gpu", "compute", "utility"}


def test_which_gpus_are_used_may_be_said_in_the_environment(docker: Docker, tmp_path: Path) -> None:
    house = House.of_repository(docker, tmp_path, "gpu")
    assert house.config()["services"]["engines"]["environment"]["CUDA_VISIBLE_DEVICES"] is None
    house.environment["CUDA_VISIBLE_DEVICES"] = "0,1"
    assert house.config()["services"]["engines"]["environment"]["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_lmdeploy_is_left_as_it_was_and_its_torch_is_lent(
    docker: Docker, engine_image: str
) -> None:
    run = ("run", "--rm", "--read-only", "--tmpfs=/tmp", "--entrypoint")  # as compose has it
    where = (
        "import torch, pydantic, hanlin; print(torch.__file__, pydantic.__file__, hanlin.__file__)"
    )
    torch, *own = docker(*run, "python", engine_image, "-c", where).split()
    assert torch.startswith("/opt/py3/")
    assert all(path.startswith("/opt/hanlin/") for path in own)
    theirs = (
        "import lmdeploy, importlib.util as i; print(lmdeploy.__version__, i.find_spec('hanlin'))"
    )
    said = docker(*run, "/opt/py3/bin/python", engine_image, "-c", theirs)
    assert said.split() == ["0.18.0", "None"]
    settings = docker.inspect(engine_image)["Config"]
    assert settings["User"] == "10001:10001"
    assert settings["Healthcheck"]["Test"] == ["CMD", "healthy", "8001/health"]
    assert settings["Labels"]["org.opencontainers.image.title"] == "hanlin engine"


def test_what_was_declared_is_converted_by_the_same_image(house: House) -> None:
    assert house.state("convert")["ExitCode"] == 0
    listed = house.inside("engines", "sh", "-c", "cat /hanlin/workspaces/*/turbomind/engine.json")
    assert '"awq"' in listed
    assert '"hf"' in listed


def test_turbomind_answers_for_every_assistant(house: House) -> None:
    key = house.client_key("tests")
    with OpenAI(base_url=f"{house.url}/v1", api_key=key, max_retries=0) as client:
        for name in NAMES:
            answer = client.chat.completions.create(
                model=name, messages=[{"role": "user", "content": "写一首诗"}], max_tokens=32
            )
            assert POEM in (answer.choices[0].message.content or "")


def test_who_is_on_which_gpu_is_said(house: House) -> None:
    said = house.compose("logs", "--no-color", "engines")
    planned = house.inside("engines", "hanlin", "plan")
    for name in NAMES:
        assert re.search(rf"{name}\.\d+ takes GPU 0, its cache 0\.\d+ of what is free", said), said
        assert name in planned


def test_the_engines_are_lmdeploy_as_nobody_and_keep_their_key_to_themselves(house: House) -> None:
    running = processes(house.docker, house.container("engines"))
    assert {uid for uid, _ in running} == {10001}
    servers = [args for _, args in running if "api_server" in args and args.startswith("/opt/py3")]
    assert len(servers) == len(NAMES), running
    key = house.inside("engines", "cat", "/hanlin/secrets/engines/key").strip()
    assert key
    assert not any(key in args for _, args in running)


def test_the_page_and_the_gateway_are_up_too(house: House) -> None:
    assert httpx.get(house.page_url, timeout=30).status_code == 200
    assert set(house.states()) == set(NAMES)


def test_stopped_they_all_end_well(house: House) -> None:
    """The last of this file: nothing runs afterwards."""
    containers = {name: house.container(name) for name in house.services}
    house.compose("stop")
    ended = {name: house.docker.inspect(it)["State"] for name, it in containers.items()}
    assert {state["Status"] for state in ended.values()} == {"exited"}
    assert {name: state["ExitCode"] for name, state in ended.items()} == dict.fromkeys(ended, 0)
