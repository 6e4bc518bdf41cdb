"""Where the real LMDeploy is; read before the environment is cleaned for each test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

LMDEPLOY = os.environ.get("HANLIN_LMDEPLOY_PYTHON")


@pytest.fixture(scope="session")
def lmdeploy() -> Path:
    """The interpreter that has it."""
    if not LMDEPLOY:
        pytest.skip("needs the real LMDeploy; name its python with HANLIN_LMDEPLOY_PYTHON")
    return Path(LMDEPLOY)
