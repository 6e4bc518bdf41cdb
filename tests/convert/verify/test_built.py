"""What `hanlin convert` builds is what `hanlin verify` accepts, for both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from assistants import load_house
from convert.run import build
from convert.verify import verify

DECLARATION = """
name: mini
title: x
description: x
model: {base: hanlin-mini}
turbomind: {session_len: 1024, quant_policy: 8}
"""


@pytest.mark.parametrize("engine", ["turbomind", "llamacpp"])
def test_a_built_workspace_passes(tmp_path: Path, engine: Literal["turbomind", "llamacpp"]) -> None:
    (tmp_path / "mini.yaml").write_text(DECLARATION, encoding="utf-8")
    (built,) = build(load_house(tmp_path), engine=engine, workspaces=tmp_path / "workspaces")
    report = verify(built.folder, loader=False)
    assert report.engine == engine
    assert report.ok, list(report.findings)
