"""Fetches in a process of its own: the hubs' clients read their endpoint once, when imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.convert.making import ROOT

FETCH = """
import sys
import time
from pathlib import Path
from assistants.weights import parse
from convert.errors import FetchError, UnsupportedError
from convert.fetch.fetcher import Fetcher

class Counting:
    done = 0
    def task(self, label, total_bytes):
        print("task", label)
        return self
    def advance(self, n):
        self.done += n

time.sleep = lambda seconds: None  # a client waits half a minute before it gives a hub up
counting = Counting()
try:
    path = Fetcher(Path(sys.argv[1]), counting).fetch(parse(sys.argv[2]), Path("."))
    print("path", path)
except FetchError as error:
    print("error", error)
print("bytes", counting.done)
"""


def run(tmp_path: Path, url: str, program: str, *arguments: str) -> list[str]:
    """What the program says, with both hubs at `url`."""
    environment = os.environ | {
        "HF_ENDPOINT": url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_ETAG_TIMEOUT": "10",
        "MODELSCOPE_ENDPOINT": url,
        "MODELSCOPE_CACHE": str(tmp_path / "modelscope"),
        "MODELSCOPE_HOME": str(tmp_path / "modelscope-home"),
    }
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def fetched(tmp_path: Path, url: str, reference: str) -> dict[str, str]:
    lines = run(tmp_path, url, FETCH, str(tmp_path / "cache"), reference)
    return dict(line.split(" ", 1) for line in lines)
