"""What the log of an LMDeploy process says is wrong with it: a pure reading of its own lines.

Some of these end the process, others leave it answering: a server that fell back to another engine
looks healthy, and is neither as fast as was planned nor in the memory that was planned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

FELL_BACK = (
    "LMDeploy fell back to its PyTorch engine, which has neither TurboMind's speed nor its memory "
    "plan; run lmdeploy check_env, and hanlin verify for the workspace."
)


@dataclass(frozen=True, slots=True)
class Sign:
    """Words of a log, and what they mean."""

    pattern: re.Pattern[str]
    sentence: str
    """May quote the groups of the pattern."""


SIGNS = tuple(
    Sign(re.compile(pattern, re.IGNORECASE), sentence)
    for pattern, sentence in (
        (
            r"fallback to pytorch engine because .* not supported by turbomind",
            "LMDeploy fell back to its PyTorch engine, because TurboMind does not know this model; "
            "hanlin verify says more.",
        ),
        (
            r"fallback to pytorch engine because turbomind",
            "LMDeploy fell back to its PyTorch engine, because its TurboMind library cannot be "
            "loaded; run lmdeploy check_env, and check driver and CUDA libraries.",
        ),
        (r"fallback to pytorch engine", FELL_BACK),
        (
            r"apply_chat_template failed: (?P<what>.*\S)",
            "The workspace's chat template is missing or broken ({what}); put the one the model "
            "was trained with into its base and convert anew.",
        ),
        (
            r"out of memory|CUBLAS_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation"
            r"|check failed: .*cache_bytes",
            "The GPU's memory ran out; free some of it, lower session_len or max_batch_size, or "
            "ask hanlin plan what fits.",
        ),
        (
            r"\bXid\b.*|GPU is lost|fallen off the bus"
            r"|no CUDA-capable device|CUDA-capable device\(s\) is/are busy or unavailable"
            r"|uncorrectable ECC error|CUDA driver version is insufficient",
            "The GPU is lost ({0}).",
        ),
        (
            r"available_devices must be a positive integer|no CUDA GPUs are available"
            r"|found no NVIDIA driver|no valid parallel config",
            "LMDeploy sees no GPU, or fewer than turbomind.tp; compare nvidia-smi with lmdeploy "
            "check_env.",
        ),
        (
            r"CUDA (?:runtime )?error: (?P<what>.*?)(?:\s+/\S+:\d+)?\s*$",
            "The GPU failed (CUDA error: {what}).",
        ),
        (r"\[TM\]\[FATAL\](?:\[[^\]]*\])*\s*(?P<what>.*\S)", "TurboMind gave up ({what})."),
    )
)
"""In the order of what explains most; a later one is often what an earlier one led to."""

_COLOUR = re.compile(r"\x1b\[[\d;]*m")
LONGEST = 200


def find(lines: Iterable[str]) -> str | None:
    """The one sentence that explains most; None where nothing is known to be wrong."""
    plain = [_COLOUR.sub("", line) for line in lines]
    for sign in SIGNS:
        for line in plain:
            if found := sign.pattern.search(line):
                quoted = {name: _short(text) for name, text in found.groupdict().items()}
                return sign.sentence.format(_short(found[0]), **quoted)
    return None


def _short(text: str) -> str:
    text = text.strip().rstrip(".")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
