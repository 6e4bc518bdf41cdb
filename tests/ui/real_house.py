"""A real house: `hanlin up` in a process of its own, from nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

from serve.ui.login.passwords import Hash
from tests.ports import free_port
from tests.ui.conftest import PASSWORD, ROOT

USER = "ada"


@dataclass(frozen=True, slots=True)
class RealHouse:
    """A house that is up."""

    page: str
    gateway: str
    process: subprocess.Popen[str]

    async def tokens(self) -> dict[tuple[str, str], float]:
        """What the gateway has counted: assistant and direction → tokens."""
        async with httpx.AsyncClient(base_url=self.gateway) as client:
            exposition = (await client.get("/metrics")).text
        return {
            (sample.labels["assistant"], sample.labels["direction"]): sample.value
            for family in text_string_to_metric_families(exposition)
            if family.name == "hanlin_tokens"
            for sample in family.samples
            if sample.labels["surface"] == "chat"
        }


def furnish(folder: Path) -> Path:
    """The shipped assistants, and one whose prompt takes a message."""
    folder.mkdir()
    for part in ("adapters", "bases"):
        (folder / part).symlink_to(ROOT / "assistants" / part)
    for declared in (ROOT / "assistants").glob("*.yaml"):
        shutil.copy(declared, folder)
    wishes = yaml.safe_load((folder / "wishes.yaml").read_text(encoding="utf-8"))
    cards = {
        **wishes,
        "name": "cards",
        "aliases": [],
        "title": {"zh": "贺卡", "en": "Greeting cards"},
        "examples": [],
        "prompt": "{message}{style}",
        "controls": {"style": wishes["controls"]["style"]},
    }
    told = yaml.safe_dump(cards, allow_unicode=True, sort_keys=False)
    (folder / "cards.yaml").write_text(told, encoding="utf-8")
    return folder


@contextmanager
def house_in(folder: Path) -> Iterator[RealHouse]:
    """A house that keeps everything in one folder, with a page that asks who is there."""
    port, ui_port = free_port(), free_port()
    assistants = furnish(folder / "assistants")
    users = f"{USER}={Hash.of(PASSWORD)}"
    feedback = str(folder / "feedback.jsonl")
    shell = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "hanlin", "up", "--engine=llamacpp"),
            *(f"--assistants={assistants}", f"--workspaces={folder / 'workspaces'}"),
            *(f"--port={port}", f"--ui-port={ui_port}"),
        ],
        cwd=ROOT,
        env={**shell, "HANLIN_FEEDBACK": feedback, "HANLIN_UI_USERS": users},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C stops everything" in line:
                yield RealHouse(f"http://127.0.0.1:{ui_port}", f"http://127.0.0.1:{port}", process)
                return
        raise AssertionError("".join(said))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
