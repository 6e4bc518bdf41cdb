"""Writes a checkpoint of pretrain.py as a Hugging Face model folder in bfloat16."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from model import Mini, Shape
from safetensors.torch import save_file

GENERATION = {
    "do_sample": True,
    "temperature": 0.7,
    "top_p": 0.8,
    "eos_token_id": [5, 3],
    "pad_token_id": 3,
    "bos_token_id": 1,
}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write readable JSON."""
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def export(work: Path, out: Path) -> int:
    """Write the model folder and return the training step of the checkpoint."""
    checkpoint = torch.load(work / "checkpoint.pt", weights_only=True)
    out.mkdir(parents=True, exist_ok=True)
    state = {f"model.{name}": t.bfloat16().clone() for name, t in checkpoint["model"].items()}
    partial = out / "model.safetensors.partial"
    save_file(state, partial, metadata={"format": "pt"})
    partial.chmod(0o644)
    partial.replace(out / "model.safetensors")
    write_json(out / "config.json", Mini(Shape()).config())
    write_json(out / "generation_config.json", GENERATION)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(work / "tokenizer" / name, out / name)
    return int(checkpoint["step"])


def main() -> None:
    """Export WORK/checkpoint.pt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--out", type=Path, default=None, help="default: WORK/hanlin-mini")
    options = parser.parse_args()
    print("step", export(options.work, options.out or options.work / "hanlin-mini"))


if __name__ == "__main__":
    main()
