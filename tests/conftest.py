"""What every test stands on: no setting of the developer leaks in, and there is one repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("hanlin", deadline=None)  # how fast the machine is decides no test
settings.load_profile("hanlin")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy, a key or one of our own settings in the shell must not decide a test."""
    for name in list(os.environ):
        if name.startswith(("HANLIN_", "OPENAI_", "HF_", "GRADIO_")) and name != "HANLIN_SHARED":
            monkeypatch.delenv(name)
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def shared() -> Path:
    """Real checkpoints and tiny models that are not the project's to ship."""
    folder = Path(os.environ.get("HANLIN_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("needs the folder of real checkpoints; name it with HANLIN_SHARED")
    return folder
