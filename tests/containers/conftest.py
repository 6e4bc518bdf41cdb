"""Real containers for these tests: a Docker engine, the images, a house of them.

They run with HANLIN_CONTAINERS=1 (`make test-containers`) on the engine that `docker` reaches.
PYTHON_IMAGE names another base, as for compose; every `docker build` gets HANLIN_BUILD_OPTIONS.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.containers.docker import ROOT, VERSION, Docker, House, call

WANTED = os.environ.get("HANLIN_CONTAINERS")
LMDEPLOY = os.environ.get("HANLIN_LMDEPLOY_PYTHON")
LEFT_OUT = shutil.ignore_patterns(
    "nvidia", "pip", "triton", "_turbomind*.so", "__pycache__", "datasets"
)
"""Of the packages of an LMDeploy: what only a GPU or nobody needs, two of three gigabytes."""
CANARY = "hanlin-canary-in-the-build-secret"


def linked(source: str, target: str) -> None:
    """A copy that costs nothing, where it lies on the same disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


@pytest.fixture(scope="session")
def docker() -> Docker:
    """The Docker engine."""
    if not WANTED:
        pytest.skip("needs a Docker engine; make test-containers runs these")
    return Docker.of_environment()


@pytest.fixture(scope="session")
def gateway_image(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The target `gateway`, built with a pip configuration that is secret."""
    secret = tmp_path_factory.mktemp("secret") / "pip.conf"
    secret.write_text(f"# {CANARY}\n")
    return docker.build("gateway", f"hanlin-gateway:{VERSION}", secret=secret)


@pytest.fixture(scope="module")
def house(
    docker: Docker, gateway_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """The profile `cpu`, up and healthy; what it leaves is removed."""
    house = House.of_repository(docker, tmp_path_factory.mktemp("compose"), "cpu")
    try:
        house.up()
        yield house
    finally:
        house.down()


@pytest.fixture(scope="session")
def engine_image(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The target `engine` on the stand-in for LMDeploy's image."""
    if not LMDEPLOY:
        pytest.skip("needs the real LMDeploy; name its python with HANLIN_LMDEPLOY_PYTHON")
    folder = tmp_path_factory.mktemp("lmdeploy") / "context"
    shutil.copytree(ROOT / "tests/containers/lmdeploy_on_cpu", folder)
    shutil.copy(ROOT / "tests/gateway/contract/reciting_turbomind.py", folder)
    packages = call(LMDEPLOY, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    shutil.copytree(packages.strip(), folder / "packages", ignore=LEFT_OUT, copy_function=linked)
    base = docker.build_folder(folder, "hanlin-lmdeploy:on-cpu")
    shutil.rmtree(folder)
    return docker.build("engine", f"hanlin-engine:{VERSION}", f"--build-arg=LMDEPLOY_IMAGE={base}")
