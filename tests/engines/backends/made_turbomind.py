"""Workspaces of TurboMind without weights: all that its command is made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from assistants.schema import Assistant
from convert.plan import engine_settings
from serve.engines.backends.engine import Launch
from serve.engines.backends.lmdeploy import Lmdeploy
from serve.engines.backends.turbomind import Turbomind

INSTALLED = Lmdeploy(Path("/opt/py3/bin/python"), "0.18.0")


def made(folder: Path, assistant: Assistant, **changed: Any) -> Path:
    """A workspace as `hanlin convert` leaves it, but for the model, with changes to engine.json."""
    folder.mkdir(parents=True, exist_ok=True)
    quantized = assistant.turbomind.quantize == "awq"
    told_by_model = {"dtype": "bfloat16", "model_format": "awq" if quantized else "hf"}
    settings = engine_settings(assistant, "turbomind") | told_by_model
    text = json.dumps(settings | changed)
    (folder / "engine.json").write_text(text, encoding="utf-8")
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return folder


def argv(assistant: Assistant, launch: Launch) -> list[str]:
    """What LMDeploy is told, without the program in front of it."""
    _, _, *told = Turbomind(INSTALLED).command(assistant, launch).argv
    return told
