"""What the owner of the page decides. Nothing here needs Gradio, so mistakes are told at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serve.ui.login.proxy import Proxy
from serve.ui.login.users import UserSources


@dataclass(frozen=True, slots=True)
class Clock:
    """How many seconds go by until what may have changed is looked at again."""

    states: float = 3.0
    """By every open page: whether the house is another."""
    numbers: float = 5.0
    """By the page's server: what the gateway has counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSettings:
    """Where the gateway is, and who may do what on the page."""

    gateway: str
    key: str = "hanlin"
    host: str = "127.0.0.1"
    port: int = 7860
    feedback: Path | None = None
    """Where praise and blame are kept; None: nobody is asked."""
    users: UserSources | None = None
    proxy: Proxy | None = None
    clock: Clock = Clock()
