"""Draws each assistant's calibration dialogues from its own training data, for 4-bit weights."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from adapter_chats import NAMES, training_chats

DIALOGUES = 192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--sui", type=Path, default=Path("sui_poems_dev.jsonl"))
    parser.add_argument("--assistants", type=Path, default=Path("../../assistants"))
    parser.add_argument("--seed", type=int, default=20261121)
    options = parser.parse_args()
    out = options.assistants / "calibration"
    out.mkdir(exist_ok=True)
    for name in NAMES:
        rng = random.Random(options.seed)
        drawn = training_chats(name, options, rng)
        chosen = rng.sample(drawn, min(DIALOGUES, len(drawn)))
        lines = [json.dumps({"messages": c.messages()}, ensure_ascii=False) for c in chosen]
        (out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
