"""Lays retired architectures out as ones that engines still load; the numbers stay the same.

TurboMind 0.14 dropped InternLM v1 and Qwen v1. Both are other architectures in all but names, so
the merged model is written under those names, with a tokenizer that needs no remote code. An
adapter is merged before that, under the names it was trained with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convert.relayout.internlm import InternLM
from convert.relayout.layout import Layout, write_companions
from convert.relayout.qwen import Qwen

__all__ = ["Layout", "layout_of", "write_companions"]


def layout_of(config: Mapping[str, Any]) -> Layout | None:
    """The rule for a retired architecture; None for the living."""
    layouts: tuple[Layout, ...] = (InternLM(), Qwen())
    named = config.get("architectures") or []
    return next((layout for layout in layouts if layout.architecture in named), None)
