"""How a model is to be quantised; plain values, so that the command can show them without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convert.errors import ConvertError

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
    device: str = "cpu"
    """Where the arithmetic happens: `cpu`, `cuda` or `cuda:N`."""
    tool: Literal["hanlin", "lmdeploy"] = "hanlin"
    threads: int = 2
    """The most threads of the arithmetic on a CPU (small layers are not worth as many); another
    number may change last bits of the result."""
    clip: bool = True
    """Whether the range of each group may be narrowed where that lessens the error."""
    limit: float | None = 1.25
    """The greatest factor by which perplexity may grow; None accepts any."""

    def __post_init__(self) -> None:
        if self.method != "awq":
            raise ConvertError(f"There is no method '{self.method}'; the one there is, is awq.")
        if self.tool not in ("hanlin", "lmdeploy"):
            raise ConvertError(f"There is no tool '{self.tool}'; there are hanlin and lmdeploy.")
        if self.samples < 1 or self.threads < 1:
            raise ConvertError("Samples and threads are numbers from 1.")
        if self.seqlen < _LEAST_SEQLEN:
            raise ConvertError(f"A window of {self.seqlen} tokens is too short; take 512.")
