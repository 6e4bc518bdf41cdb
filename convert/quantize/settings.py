"""How a model is to be quantised; plain values, so that the command can show them without torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convert.errors import ConvertError

AUTO = "auto"
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
_LEAST_SEQLEN = 16


def draft_of(out: Path) -> Path:
    """Where a quantisation into `out` keeps what is finished, until all of it is."""
    return out.with_name(f".{out.name}.quantizing")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a person may choose."""

    samples: int = 64
    """Windows of calibration text; with `seqlen` as much as AWQ's authors found to be enough (16
    windows of 2048 tokens, arXiv:2306.00978 §5.3)."""
    seqlen: int = 512
    """Tokens in a window."""
    method: Literal["awq"] = "awq"
    device: str = AUTO
    """Where the arithmetic happens: `cpu`, `cuda` or `cuda:N`; `auto` is a GPU that has room for
    it, or else the CPU."""
    tool: Literal["hanlin", "lmdeploy"] = "hanlin"
    threads: int | None = None
    """The most threads of the arithmetic on a CPU (small layers are not worth as many), or as many
    as PyTorch takes; another number may change last bits of the result."""
    clip: bool = True
    """Whether the range of each group may be narrowed where that lessens the error."""
    limit: float | None = 0.15
    """How far guesses at the tokens of answers may diverge from the original's (nats, on average);
    None accepts anything. Measured (docs/workspace.md): 0.004 to 0.078 where all is well."""

    def __post_init__(self) -> None:
        if self.method != "awq":
            raise ConvertError(f"There is no method '{self.method}'; the one there is, is awq.")
        if self.tool not in ("hanlin", "lmdeploy"):
            raise ConvertError(f"There is no tool '{self.tool}'; there are hanlin and lmdeploy.")
        if not _DEVICE.fullmatch(self.device):
            raise ConvertError(
                f"There is no device '{self.device}'; there are auto, cpu, cuda and cuda:N."
            )
        if self.samples < 1 or (self.threads is not None and self.threads < 1):
            raise ConvertError("Samples and threads are numbers from 1.")
        if self.seqlen < _LEAST_SEQLEN:
            raise ConvertError(f"A window of {self.seqlen} tokens is too short; take 512.")
