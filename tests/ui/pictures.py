"""Takes the two pictures of the README anew, of a house that is up:

python -m tests.ui.pictures http://127.0.0.1:7860
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.async_api import Browser, async_playwright, expect

from tests.ui.conftest import CHROMIUM, QUIET, ROOT
from tests.ui.visitor import DESK, PHONE, Visitor, visiting

FOLDER = ROOT / "docs" / "images"
COLOURS = 256
"""Of a picture; more make the file three times as large and cannot be told apart."""


async def talk(seen: Visitor, assistant: str) -> None:
    """What its controls propose, and the whole answer."""
    await seen.go(f"?assistant={assistant}")
    await expect(seen.box).not_to_have_value("")
    await seen.box.press("Enter")
    await expect(seen.answer).to_have_count(1)
    await expect(seen.page.locator("#message button.submit-button")).to_be_visible()


async def take(seen: Visitor, path: Path) -> None:
    shot = Image.open(BytesIO(await seen.page.screenshot(animations="disabled")))
    shot.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


async def desk(browser: Browser, url: str, look: Mapping[str, Any]) -> None:
    """A poem, and the drawer of settings beside it."""
    async with visiting(browser, url, look) as seen:
        await talk(seen, "poetry")
        await seen.page.locator("#settings").click()
        await expect(seen.page.locator("#drawer")).to_be_visible()
        await take(seen, FOLDER / "page.png")


async def phone(browser: Browser, url: str, look: Mapping[str, Any]) -> None:
    """A wish, by night."""
    async with visiting(browser, url, look) as seen:
        await talk(seen, "wishes")
        await take(seen, FOLDER / "phone.png")


async def main(url: str) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        await desk(browser, url, DESK)
        await phone(browser, url, PHONE)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1].rstrip("/")))
