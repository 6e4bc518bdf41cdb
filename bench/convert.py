"""`hanlin merge` and `hanlin quantize` beside PEFT, XTuner, LMDeploy and `cp`, on the same models.

    python -m bench.convert [--sizes 0.2,0.4,1.0] [--quantize-sizes 0.2,0.4] [--write]

from the repository's root. Every figure is a whole process with all it starts; peak memory is the
sum over its processes. XTuner and LMDeploy are measured where HANLIN_XTUNER_PYTHON and
HANLIN_LMDEPLOY_PYTHON name the interpreters that have them, PEFT where this one has it. `--write`
puts the tables into docs/performance.md.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from multiprocessing import get_context
from pathlib import Path

from bench import tables
from bench.process import Command, Usage, end_well
from bench.tools import Work, made

BEGIN = "<!-- python -m bench.convert --write -->"
LIMIT = ("`cp -r`", "bare fp32 products")
"""What no merge can save."""
HEAD = "| GB | | seconds | CPU s | peak MiB | |\n|---|---|---|---|---|---|"
MERGE = "`hanlin merge`"


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may choose."""

    sizes: tuple[float, ...]
    quantize_sizes: tuple[float, ...]
    folder: Path
    rank: int
    rounds: int
    samples: int
    seqlen: int
    limit: float
    write: bool


def options() -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m bench.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--sizes", type=_sizes, default="0.2,0.4,1.0", help="GB of the bases to merge into")
    add("--quantize-sizes", type=_sizes, default="0.2,0.4", help="GB of the models to quantise")
    add("--folder", type=Path, default=Path("build/bench"), help="where models are made and kept")
    add("--rank", type=int, default=64, help="of the LoRA")
    add("--rounds", type=int, default=3, help="for the quick ones, of which the best is kept")
    add("--samples", type=int, default=16, help="windows of calibration text")
    add("--seqlen", type=int, default=256, help="tokens in a window")
    add("--limit", type=float, default=300, help="seconds after which a tool is stopped")
    add("--write", action="store_true", help="put the tables into docs/performance.md")
    found = vars(parser.parse_args())
    return Options(**found | {"folder": found["folder"].absolute()})


def _sizes(text: str) -> tuple[float, ...]:
    return tuple(float(size) for size in text.split(",") if size)


def works(chosen: Options, sizes: tuple[float, ...]) -> Iterator[tuple[str, Work]]:
    """The models, with their real sizes in GB as they are shown."""
    for size in sizes:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            base, adapter = pool.submit(made, chosen.folder, size, chosen.rank).result()
        shown = sum(path.stat().st_size for path in base.glob("*.safetensors")) / 1e9
        work = Work(chosen.folder, base, adapter, chosen.rank, chosen.samples, chosen.seqlen)
        yield f"{shown:.2f}", work


def measured(command: Command, chosen: Options, *, out: Path, quick: bool) -> Usage:
    """The least times and the greatest peak of some rounds."""
    found: list[Usage] = []
    for _ in range(chosen.rounds if quick else 1):
        shutil.rmtree(out, ignore_errors=True)
        found.append(command.run(chosen.limit))
    shutil.rmtree(out, ignore_errors=True)
    seconds, cpu, peak, problems = zip(*map(astuple, found), strict=True)
    return Usage(min(seconds), min(cpu), max(peak), max(problems))


def rows(size: str, commands: dict[str, Command], chosen: Options, out: Path) -> Iterator[str]:
    """A row for each tool, and how far the merge is from its limit."""
    found: dict[str, Usage] = {}
    for name, command in commands.items():
        quick = name in (*LIMIT, MERGE)
        found[name] = one = measured(command, chosen, out=out, quick=quick)
        yield row(size, name, one)
    if MERGE in found:
        parts = [found[name] for name in LIMIT]
        wall = found[MERGE].seconds / sum(part.seconds for part in parts)
        cpu = found[MERGE].cpu / sum(part.cpu for part in parts)
        yield f"| {size} | merge ÷ (`cp -r` + products) | **{wall:.2f}** | **{cpu:.2f}** | | |"


def row(size: str, name: str, used: Usage) -> str:
    """One line of a table."""
    numbers = f"{used.seconds:.2f} | {used.cpu:.2f} | {used.peak:.0f}"
    return f"| {size} | {name} | {numbers} | {used.problem} |"


def report(chosen: Options) -> Iterator[str]:
    """Both tables, line by line as they are measured."""
    started = time.monotonic()
    yield f"Measured {tables.machine()}."
    if chosen.sizes:
        yield f"\nMerging a LoRA of rank {chosen.rank} on all projections:\n\n{HEAD}"
    for size, work in works(chosen, chosen.sizes):
        yield from rows(size, work.merges(), chosen, work.out)
    if chosen.quantize_sizes:
        yield f"\nQuantising with {chosen.samples} windows of {chosen.seqlen} tokens:\n\n{HEAD}"
    for size, work in works(chosen, chosen.quantize_sizes):
        yield from rows(size, work.quantisations(), chosen, work.out)
    yield f"\nThe whole run took {(time.monotonic() - started) / 60:.0f} minutes."


def main() -> None:
    end_well()
    chosen = options()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for line in report(chosen):
        print(line, flush=True)
        lines.append(line)
    if chosen.write:
        tables.write(BEGIN, "\n".join(lines))


if __name__ == "__main__":
    main()
