"""Writes the model cards of the base and the adapters from the measured figures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from adapter_chats import NAMES

CARDS = Path(__file__).parent / "cards.yaml"
POEMS = "https://github.com/chinese-poetry/chinese-poetry"


def rows(figures: dict[str, Any]) -> dict[str, str]:
    """Figures as flat rows: what was measured, and the value with its unit."""
    flat: dict[str, str] = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            count = f" (n={value['n']})" if "n" in value else ""
            for key, inner in value.items():
                if key != "n":
                    flat[f"{name}{count}: {key}"] = f"{inner} %"
        else:
            flat[name] = f"{value} %"
    return flat


def table(work: Path, name: str) -> str:
    """Markdown table of one assistant, untuned against tuned."""
    loaded = {
        kind: json.loads((work / f"{name}.{kind}.json").read_text(encoding="utf-8"))["figures"]
        for kind in ("untuned", "tuned")
    }
    before, after = rows(loaded["untuned"]), rows(loaded["tuned"])
    lines = ["| measured | base alone | with adapter |", "|---|---|---|"]
    lines += [f"| {key} | {before.get(key, '–')} | {value} |" for key, value in after.items()]
    return "\n".join(lines)


def samples(work: Path, name: str, count: int = 6) -> str:
    """Answers spread evenly over the evaluation, not chosen by hand."""
    answers = json.loads((work / f"{name}.tuned.json").read_text(encoding="utf-8"))["answers"]
    step = max(1, len(answers) // count)
    lines = []
    for answer in answers[::step][:count]:
        ask, said = answer[0], answer[1] if len(answer) < 4 else answer[3]
        shown = said.replace("\n", " / ")
        shown = shown if len(shown) <= 120 else shown[:120] + "…"
        lines.append(f"- {ask} → {shown}")
    return "\n".join(lines)


def front(fields: dict[str, Any]) -> str:
    """YAML front matter of a card."""
    return f"---\n{yaml.safe_dump(fields, allow_unicode=True, sort_keys=False)}---\n"


def adapter_card(work: Path, name: str, words: dict[str, Any]) -> str:
    """Card of one adapter."""
    fields = {
        "license": "apache-2.0",
        "language": "zh",
        "library_name": "peft",
        "base_model": "hanlin-mini",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "demonstration"],
    }
    mine = words[name]
    return f"""{front(fields)}
# {mine["title"]}

{mine["what"]}

**Data.** {mine["data"]}

**Training.** LoRA r=8, alpha 16, on all linear layers (352 k parameters); {mine["training"]} The
system prompt in training and in the figures is that of `assistants/{name}.yaml`.

## Measured

{words["method"]}

{table(work, name)}

## Answers, evenly spaced over the evaluation, not chosen

{samples(work, name)}

## What it cannot do

{mine["limits"]}
"""


def base_card(work: Path, words: dict[str, Any]) -> str:
    """Card of the base model."""
    fields = {
        "license": "apache-2.0",
        "language": "zh",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "datasets": [POEMS],
        "tags": ["llama", "demonstration", "classical-chinese-poetry"],
    }
    mine = words["base"]
    parts = "\n\n".join(
        f"### With the system prompt of {name}\n\n{base_table(work, name)}" for name in NAMES
    )
    return f"""{front(fields)}
# hanlin-mini

{mine["what"]}

## Data and licences

{mine["data"]}

## Training

{mine["training"]}

## Measured, without any adapter

{words["method"]}

{parts}

## Limits

{mine["limits"]}
"""


def base_table(work: Path, name: str) -> str:
    """Markdown table of the base alone."""
    text = (work / f"{name}.untuned.json").read_text(encoding="utf-8")
    lines = ["| measured | |", "|---|---|"]
    found = rows(json.loads(text)["figures"])
    return "\n".join(lines + [f"| {key} | {value} |" for key, value in found.items()])


def main() -> None:
    """Write README.md into the model folders."""
    here = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--assistants", type=Path, default=here / "assistants")
    options = parser.parse_args()
    words = yaml.safe_load(CARDS.read_text(encoding="utf-8"))
    base = options.assistants / "bases" / "hanlin-mini" / "README.md"
    base.write_text(base_card(options.work, words), encoding="utf-8")
    for name in NAMES:
        path = options.assistants / "adapters" / name / "README.md"
        path.write_text(adapter_card(options.work, name, words), encoding="utf-8")


if __name__ == "__main__":
    main()
