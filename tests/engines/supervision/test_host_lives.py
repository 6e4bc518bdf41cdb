"""What one engine or the disk does wrong ends neither the host nor what else it keeps up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from assistants.schema import Assistant
from serve.engines.backends.engine import Launch
from serve.process import Command
from tests.engines.conftest import HostOf, Slow, declare, failed, house_of, ready, stopped

ANSWERS_ALWAYS = """
import http.server, sys
class Always(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(sys.argv[2].encode())
    do_POST = do_GET
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Always).serve_forever()
"""


class Nonsense(Slow):
    """Of the assistant `strange`, the engine says the same to every question."""

    def __init__(self, says: str) -> None:
        super().__init__()
        self._says = says

    def command(self, assistant: Assistant, launch: Launch) -> Command:
        if assistant.name != "strange":
            return super().command(assistant, launch)
        return Command((sys.executable, "-c", ANSWERS_ALWAYS, str(launch.port), self._says), {})


@pytest.mark.parametrize("says", ["[]", "null", '{"choices": 0}'])
async def test_an_engine_that_talks_nonsense_is_given_up(
    host_of: HostOf, tmp_path: Path, says: str
) -> None:
    house = house_of(tmp_path / "a", "well", "strange", more="")
    async with host_of(house, tmp_path, Nonsense(says), load=0.5) as watched:
        told = (await watched.until(lambda r: bool(r["reason"]), "strange"))["reason"]
        assert told == "The engine of 'strange' wrote no first token within 0.5 seconds."
        await watched.until(ready, "well")


async def test_one_that_talks_nonsense_but_for_its_tokens(host_of: HostOf, tmp_path: Path) -> None:
    """It cannot say how busy it is, and is waited for no longer than a request may last."""
    house = house_of(tmp_path / "a", "well", "strange", more="timeouts: {total: 0.2}\n")
    strange = Nonsense('{"choices": [1]}')
    async with host_of(house, tmp_path, strange, slack=0.3) as watched:
        for name in house.names:
            watched.host.ask(name)
            await watched.until(ready, name)
        assert await watched.host.replica("strange").busy() == 1
        watched.host.stop("strange")
        await watched.until(stopped, "strange")
        assert watched.one("well")["restarts"] == 0


async def test_a_full_disk(host_of: HostOf, workspaces: Path, tmp_path: Path) -> None:
    """Nothing can be written into its log."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "engine-wishes.log").symlink_to("/dev/full")
    async with host_of(declare(tmp_path / "a"), workspaces) as watched:
        assert (await watched.until(ready))["restarts"] == 0


async def test_a_log_that_cannot_be_made(host_of: HostOf, workspaces: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.write_text("no folder")
    async with host_of(declare(tmp_path / "a"), workspaces) as watched:
        told = (await watched.until(failed))["reason"]
        assert told.endswith(f"cannot be started: File exists ({logs}).")
        logs.unlink()
        await watched.until(ready)
