"""What is in the image `gateway`, and what is not."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers.conftest import CANARY
from tests.containers.docker import Docker

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

LARGEST = 800 << 20
"""Bytes that our own layers may take; the base is not ours."""
SECRETS = re.compile(
    rb"hl-[A-Za-z0-9_-]{43}|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s+[A-Za-z0-9+/]{32}"
    rb"|\bhf_[A-Za-z0-9]{34}\b|\bAKIA[0-9A-Z]{16}\b|" + CANARY.encode()
)
FILES = re.compile(r"(^|/)(pip\.conf|\.netrc|\.npmrc|\.pypirc|\.git|\.env|id_rsa|keys\.yaml)(/|$)")


@dataclass(frozen=True)
class File:
    layer: int
    name: str
    content: bytes


@pytest.fixture(scope="module")
def files(
    docker: Docker, gateway_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The image as `docker save` writes it; nearly a gigabyte, which does not stay."""
    saved = tmp_path_factory.mktemp("saved") / "image.tar"
    docker("save", "--output", str(saved), gateway_image)
    yield saved
    saved.unlink()


def own_files(saved: Path, skip: int) -> Iterator[File]:
    """Every file of every layer but the first `skip`, also those that a later one hides."""
    with tarfile.open(saved) as image:
        manifest = image.extractfile("manifest.json")
        assert manifest
        for number, layer in enumerate(json.load(manifest)[0]["Layers"]):
            packed = image.extractfile(layer)
            assert packed
            if number < skip:
                continue
            with tarfile.open(fileobj=packed) as content:
                for member in content:
                    held = content.extractfile(member) if member.isfile() else None
                    yield File(number, member.name, held.read() if held else b"")


def layers(docker: Docker, image: str) -> list[str]:
    found: list[str] = docker.inspect(image)["RootFS"]["Layers"]
    return found


def test_it_runs_as_nobody_in_particular(docker: Docker, gateway_image: str) -> None:
    settings = docker.inspect(gateway_image)["Config"]
    assert settings["User"] == "10001:10001"
    assert docker("run", "--rm", "--entrypoint", "id", gateway_image, "-u").strip() == "10001"


def test_it_says_what_it_is(docker: Docker, gateway_image: str) -> None:
    settings = docker.inspect(gateway_image)["Config"]
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in settings["Labels"].items()
    }
    assert labels["title"] == "hanlin gateway"
    assert labels["licenses"] == "Apache-2.0"
    assert {"description", "source", "documentation", "version", "revision"} <= set(labels)
    assert settings["Healthcheck"]["Test"] == ["CMD", "healthy", "8000/health"]


def test_there_is_no_torch_and_nothing_to_install_with(docker: Docker, gateway_image: str) -> None:
    ask = "import importlib.util as i; print([n for n in NAMES if i.find_spec(n)])"
    names = ["torch", "transformers", "lmdeploy", "peft", "pip", "hanlin", "xllamacpp", "gradio"]
    code = f"NAMES = {names}; {ask}"
    found = docker("run", "--rm", "--entrypoint", "python", gateway_image, "-c", code)
    assert found.strip() == "['hanlin', 'xllamacpp', 'gradio']"


def test_what_is_installed_is_what_is_locked(
    docker: Docker, gateway_image: str, root: Path
) -> None:
    code = "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"
    inside = docker("run", "--rm", "--entrypoint", "python", gateway_image, "-c", code)
    installed = {normal(*line.split()) for line in inside.splitlines()}
    text = (root / "requirements/run.txt").read_text(encoding="utf-8")
    locked = {normal(*each) for each in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)}
    assert len(installed) > 50
    assert {name for name, _ in installed - locked} == {"hanlin"}


def normal(name: str, version: str) -> tuple[str, str]:
    """A distribution as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower(), version


def test_no_secret_is_in_any_layer(docker: Docker, gateway_image: str, files: Path) -> None:
    base = len(layers(docker, docker.python_image)) if docker.python_image else 0
    seen, wrong = 0, []
    for file in own_files(files, base):
        seen += 1
        if FILES.search(file.name):
            wrong.append(f"layer {file.layer}: {file.name}")
        if found := SECRETS.findall(file.content):
            wrong.append(f"layer {file.layer}: {file.name}: {found[:3]}")
    assert seen > 5000
    assert not wrong
    told = docker("history", "--no-trunc", gateway_image) + str(docker.inspect(gateway_image))
    assert CANARY not in told
    assert not re.search(r"(?i)(token|password|passwd|api_key)=\S", told)


def test_the_search_would_find_one(tmp_path: Path) -> None:
    """A layer with a key in it, packed as Docker packs them."""
    key = b"hl-" + b"k" * 43
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as packed:
        add(packed, "etc/pip.conf", b"nothing")
        add(packed, "srv/notes", b"a key: " + key)
    with tarfile.open(tmp_path / "image.tar", "w") as image:
        add(image, "manifest.json", json.dumps([{"Layers": ["layer.tar"]}]).encode())
        add(image, "layer.tar", layer.getvalue())
    found = list(own_files(tmp_path / "image.tar", 0))
    assert [bool(FILES.search(file.name)) for file in found] == [True, False]
    assert [SECRETS.findall(file.content) for file in found] == [[], [key]]


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size = len(content)
    archive.addfile(about, io.BytesIO(content))


def test_it_is_slim(docker: Docker, gateway_image: str) -> None:
    size = docker.inspect(gateway_image)["Size"]
    base = docker.inspect(docker.python_image)["Size"] if docker.python_image else 0
    assert size - base < LARGEST


def test_a_mistake_is_one_sentence(docker: Docker, gateway_image: str) -> None:
    run = [docker.command, "run", "--rm", "--read-only", gateway_image]
    done = subprocess.run([*run, "convert", "nobody"], capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "nobody" in done.stderr
