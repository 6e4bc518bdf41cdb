"""`hanlin ui` with a quicker clock: less waiting for what it does every few seconds."""

from __future__ import annotations

import sys
from dataclasses import replace

from hanlin.__main__ import main
from serve.ui import page
from serve.ui.settings import Clock, PageSettings

QUICK = Clock(states=1.0, numbers=2.0)


def quickened() -> int:
    """The command, and the page that it serves."""
    run = page.run

    def run_quickly(settings: PageSettings) -> None:
        run(replace(settings, clock=QUICK))

    page.run = run_quickly
    return main(["ui", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(quickened())
