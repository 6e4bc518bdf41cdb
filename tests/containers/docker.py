"""Docker and docker compose as these tests call them: the commands, not a library of theirs."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300.0
VERSION = "test"


def call(
    *command: str | Path, environment: Mapping[str, str] | None = None, ok: bool = True
) -> str:
    """What a command prints; where it fails, what it said is the test's failure."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 4,
    )
    if ok and done.returncode:
        raise AssertionError(f"{shlex.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout


def until(what: str, holds: Any, seconds: float = PATIENCE) -> Any:
    """The first thing that `holds` returns which is true; it is asked, for nobody tells of it."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, f"{what}: not within {seconds:g} seconds"
        time.sleep(0.2)
    return found


@dataclass(frozen=True)
class Docker:
    """One Docker engine."""

    command: str
    compose: tuple[str, ...]
    build_options: tuple[str, ...]
    python_image: str | None

    @classmethod
    def of_environment(cls) -> Docker:
        # Debian's own is older, and needs no plugin to build.
        command = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
        plugin = subprocess.run([command, "compose", "version"], capture_output=True)
        standalone = shutil.which("docker-compose")
        return cls(
            command,
            (command, "compose") if plugin.returncode == 0 else (standalone or "docker-compose",),
            tuple(shlex.split(os.environ.get("HANLIN_BUILD_OPTIONS", ""))),
            os.environ.get("PYTHON_IMAGE"),
        )

    def __call__(self, *arguments: str, ok: bool = True) -> str:
        return call(self.command, *arguments, ok=ok)

    def build(self, target: str, tag: str, *more: str, secret: Path | None = None) -> str:
        arguments = [*more, *self.build_options]
        if self.python_image:
            arguments.append(f"--build-arg=PYTHON_IMAGE={self.python_image}")
        if secret:
            arguments.append(f"--secret=id=pip,src={secret}")
        self._build(*arguments, f"--target={target}", f"--tag={tag}", str(ROOT))
        return tag

    def build_folder(self, folder: Path, tag: str) -> str:
        base = [f"--build-arg=PYTHON_IMAGE={self.python_image}"] if self.python_image else []
        self._build(*base, *self.build_options, f"--tag={tag}", str(folder))
        return tag

    def _build(self, *arguments: str) -> None:
        call(self.command, "build", *arguments, environment={"DOCKER_BUILDKIT": "1"})

    def inspect(self, what: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(self("inspect", what))
        return found[0]


@dataclass
class House:
    """A project of docker-compose.yml with names, ports and volumes of its own."""

    docker: Docker
    profiles: tuple[str, ...]
    files: tuple[Path, ...]
    environment: dict[str, str] = field(default_factory=dict)
    _containers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_repository(cls, docker: Docker, folder: Path, *profiles: str) -> House:
        ports = {
            "HANLIN_GATEWAY_PORT": f"127.0.0.1:{free_port()}",
            "HANLIN_PAGE_PORT": f"127.0.0.1:{free_port()}",
            "HANLIN_VERSION": VERSION,
            "COMPOSE_PROJECT_NAME": f"hanlin-{folder.name}-{os.getpid()}",
        }
        return cls(docker, profiles, (ROOT / "docker-compose.yml",), ports)

    @property
    def url(self) -> str:
        return f"http://{self.environment['HANLIN_GATEWAY_PORT']}"

    @property
    def page_url(self) -> str:
        return f"http://{self.environment['HANLIN_PAGE_PORT']}"

    def compose(self, *arguments: str, ok: bool = True) -> str:
        files = [part for file in self.files for part in ("--file", str(file))]
        where = ("--project-directory", str(ROOT))
        only = [part for profile in self.profiles for part in ("--profile", profile)]
        command = (*self.docker.compose, *files, *where, *only, *arguments)
        return call(*command, environment=self.environment, ok=ok)

    def config(self) -> dict[str, Any]:
        """The file as compose reads it."""
        read: dict[str, Any] = yaml.safe_load(self.compose("config"))
        return read

    def up(self) -> None:
        """Start everything, and wait until every assistant can be asked."""
        try:
            self._up()
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{self.compose('logs', '--tail=20', ok=False)}"
            ) from error

    def _up(self) -> None:
        self.compose("up", "--detach", "--no-build")
        for service in self.long_running:
            until(f"{service} is healthy", lambda s=service: self.health(s) == "healthy")
        until("every assistant is ready", lambda: set(self.states().values()) == {"ready"})

    def down(self) -> None:
        self.compose("down", "--volumes", "--timeout", "30", ok=False)

    def states(self) -> dict[str, str]:
        try:
            answer = httpx.get(f"{self.url}/ready", timeout=5)
        except httpx.HTTPError:
            return {}
        states: dict[str, str] = answer.json()["assistants"]
        return states

    @cached_property
    def services(self) -> dict[str, dict[str, Any]]:
        """What these profiles start."""
        every: dict[str, dict[str, Any]] = self.config()["services"]
        return {
            name: service
            for name, service in every.items()
            if not service.get("profiles") or set(self.profiles) & set(service["profiles"])
        }

    @property
    def long_running(self) -> list[str]:
        return [name for name, service in self.services.items() if service["restart"] != "no"]

    def container(self, service: str) -> str:
        """Its id, running or not; compose takes a second to say it, so it is asked once."""
        if service not in self._containers:
            found = self.compose("ps", "--quiet", service).split()
            if not found:  # the plugin lists what runs only
                found = self.compose("ps", "--all", "--quiet", service).split()
            assert len(found) == 1, f"{service}: {found}"
            self._containers[service] = found[0]
        return self._containers[service]

    def state(self, service: str) -> dict[str, Any]:
        state: dict[str, Any] = self.docker.inspect(self.container(service))["State"]
        return state

    def health(self, service: str) -> str:
        health: str = self.state(service)["Health"]["Status"]
        return health

    def inside(self, service: str, *command: str, ok: bool = True) -> str:
        return self.docker("exec", self.container(service), *command, ok=ok)

    def client_key(self, name: str, *options: str, gateways: Sequence[str] = ()) -> str:
        """A new key, made as the documentation says, when each of the gateways has read of it."""
        key = self.compose("run", "--rm", "secrets", name, *options).split()[-1]
        for url in gateways or (self.url,):
            until(f"{url} knows the key", lambda url=url: _knows(url, key))
        return key


def _knows(url: str, key: str) -> bool:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.get(f"{url}/v1/models", headers=headers, timeout=30).status_code == 200


def processes(docker: Docker, container: str) -> Sequence[tuple[int, str]]:
    """User id and command line of every process in it, as the host sees them."""
    lines = docker("top", container, "-eo", "pid,uid,args").splitlines()[1:]
    return [(int(uid), args) for _, uid, args in (line.split(None, 2) for line in lines)]
