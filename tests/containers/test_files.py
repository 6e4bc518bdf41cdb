"""Dockerfile and docker-compose.yml by what they say, without a Docker engine."""

from __future__ import annotations

import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from assistants import load_house

TOOLS = Path(sys.executable).parent
ONE_SHOT = {"secrets", "convert", "convert-cpu"}
DEFAULT = re.compile(r"\$\{[A-Z_]+:-([^}]*)\}")


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """The services with the defaults of what may be set."""
    text = (Path(__file__).parents[2] / "docker-compose.yml").read_text(encoding="utf-8")
    read: dict[str, dict[str, Any]] = yaml.safe_load(DEFAULT.sub(r"\1", text))["services"]
    return read


def tool(name: str, *arguments: str | Path) -> None:
    found = TOOLS / name
    if not found.exists():
        pytest.skip(f"needs {name} in the test environment; make test installs it")
    done = subprocess.run([found, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_finds_nothing(root: Path) -> None:
    tool("hadolint", root / "Dockerfile")


def test_compose_is_valid_by_the_published_schema(root: Path) -> None:
    files = (root / "docker-compose.yml", root / "deploy/page-users.yml")
    tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files)


def test_the_dockerfile_needs_no_registry_to_be_read_and_pins_its_bases(root: Path) -> None:
    text = (root / "Dockerfile").read_text(encoding="utf-8")
    assert not re.search(r"^#\s*syntax=", text, re.MULTILINE)
    assert "ARG LMDEPLOY_IMAGE=openmmlab/lmdeploy:v0.18.0-cu12.8\n" in text
    bases = re.findall(r"^ARG (\w+_IMAGE)=\S+:(\S+)$", text, re.MULTILINE)
    assert len(bases) == 2
    assert all(tag != "latest" for _, tag in bases)
    named = {f"${{{name}}}" for name, _ in bases}
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == named
    assert text.count("--require-hashes") == 3


def test_both_images_say_the_same_version_as_the_project(root: Path) -> None:
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    assert version
    dockerfile = (root / "Dockerfile").read_text(encoding="utf-8")
    compose = (root / "docker-compose.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"^ARG VERSION=(\S+)", dockerfile, re.MULTILINE)) == {version[1]}
    assert set(re.findall(r"HANLIN_VERSION:-([^}]+)\}", compose)) == {version[1]}


def test_secrets_and_environments_never_reach_the_engine_that_builds(root: Path) -> None:
    lines = (root / ".dockerignore").read_text(encoding="utf-8").split()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines
    for path in (".env", ".git", ".venv", "workspaces", "deploy/secrets", "tests", "keys.yaml"):
        assert not any(fnmatch(path, pattern) for pattern in allowed), path


def test_what_is_copied_is_let_through(root: Path) -> None:
    text = (root / "Dockerfile").read_text(encoding="utf-8")
    allowed = (root / ".dockerignore").read_text(encoding="utf-8").split()
    for arguments in re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+)$", text, re.MULTILINE):
        for source in arguments.split()[:-1]:
            assert f"!{source}" in allowed, source
            assert (root / source).exists(), source


def test_every_service_is_held_as_tightly(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"].split(":")[0] not in ("0", "root"), name
        assert service["tmpfs"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert service["logging"]["options"]["max-size"], name
        assert service["init"] is True, name
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped"), name
        assert service["healthcheck"].get("disable") is (True if name in ONE_SHOT else None), name
        assert not service.get("privileged"), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_each_profile_has_engines_under_one_name(services: dict[str, dict[str, Any]]) -> None:
    gpu, cpu = services["engines"], services["engines-cpu"]
    assert (gpu["profiles"], cpu["profiles"]) == (["gpu"], ["cpu"])
    for engines in (gpu, cpu):
        assert engines["networks"]["house"]["aliases"] == ["engines"]
        assert "ports" not in engines
    devices = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert [(each["driver"], each["count"]) for each in devices] == [("nvidia", "all")]
    assert "gpu" in devices[0]["capabilities"]
    assert "deploy" not in cpu
    assert gpu["shm_size"] == "8g"
    assert services["page"]["depends_on"]["gateway"] == {"condition": "service_healthy"}


def test_a_plain_up_is_for_a_gpu(root: Path) -> None:
    settings = (root / ".env").read_text(encoding="utf-8").splitlines()
    assert [line for line in settings if line and not line.startswith("#")] == [
        "COMPOSE_PROFILES=gpu"
    ]


def test_what_runs_may_end_before_it_is_killed(
    root: Path, services: dict[str, dict[str, Any]]
) -> None:
    longest = max(assistant.timeouts.total for assistant in load_house(root / "assistants"))
    for name in ("gateway", "engines", "engines-cpu"):
        drain = float(services[name]["environment"]["HANLIN_DRAIN"])
        assert drain > longest, name
        assert seconds(services[name]["stop_grace_period"]) >= drain + 30, name


def test_secrets_come_from_files(root: Path, services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for variable in service.get("environment", {}):
            secret = re.search(r"KEY|TOKEN|PASSWORD|SECRET", variable)
            assert not secret or variable.endswith(("_FILE", "_PATH")), f"{name}: {variable}"
    mounted = {name: str(service.get("volumes", "")) for name, service in services.items()}
    assert "page-key" not in mounted["gateway"]
    assert "client-keys" not in mounted["page"] + mounted["engines"] + mounted["convert"]
    assert "engines-key" not in mounted["page"]
    assert (root / "deploy/secrets/none").read_bytes() == b""


def test_engines_reach_nothing_but_the_house(root: Path) -> None:
    read = yaml.safe_load((root / "docker-compose.yml").read_text(encoding="utf-8"))
    assert read["networks"]["house"]["internal"] is True
    for name in ("engines", "engines-cpu"):
        assert list(read["services"][name]["networks"]) == ["house"]


def seconds(period: str) -> float:
    """Of `11m`, `30s`."""
    return float(period[:-1]) * {"s": 1, "m": 60}[period[-1]]
