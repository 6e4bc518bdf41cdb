"""During an update an assistant has two engines: what each writes, and whose it is."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from serve.log_reader import Reader, Source
from serve.process import Log
from tests.engines.conftest import HostOf, Slow, declare, ready
from tests.engines.supervision.test_updates import only
from tests.engines.test_api import over_http


@pytest.fixture
def files(tmp_path: Path) -> list[Source]:
    """Those of two engines: one line each, and the second is the older."""
    made = []
    for number, text in enumerate((b"one\n", b"two\n")):
        made.append(Source(f"engine {number}", Log(tmp_path / f"{number}.log")))
        made[-1].log.path.write_bytes(text)
    os.utime(made[1].log.path, (1, 1))
    return made


def write(source: Source, text: bytes) -> None:
    with source.log.path.open("ab") as file:
        file.write(text)


def test_the_one_written_to_last_comes_last(files: list[Source]) -> None:
    assert Reader(lambda: files).last(9) == b"==> engine 1 <==\ntwo\n==> engine 0 <==\none\n"


def test_one_alone_needs_no_name(files: list[Source]) -> None:
    files[1].log.path.write_bytes(b"")
    reader = Reader(lambda: files)
    assert reader.last(9) == b"one\n"
    write(files[0], b"more\n")
    assert reader.more() == b"more\n"


def test_a_line_says_where_the_text_goes_over(files: list[Source]) -> None:
    reader = Reader(lambda: files)
    assert reader.last(0) == b""
    write(files[0], b"a\n")
    assert reader.more() == b"==> engine 0 <==\na\n"
    write(files[0], b"b")
    assert reader.more() == b"b"
    assert reader.more() == b""
    write(files[1], b"c\n")
    assert reader.more() == b"\n==> engine 1 <==\nc\n"
    os.truncate(files[1].log.path, 0)
    write(files[1], b"d\n")
    assert reader.more() == b"d\n"


def test_one_that_begins_meanwhile_is_seen_from_its_first_line(
    files: list[Source], tmp_path: Path
) -> None:
    some = files[:1]
    reader = Reader(lambda: some)
    assert reader.last(1) == b"one\n"
    some.append(files[1])
    assert reader.more() == b"==> engine 1 <==\ntwo\n"


def of_engines(lines: list[str]) -> list[str]:
    """Without what the host notes itself, and without numbers of processes."""
    return [line.split(", process")[0] for line in lines if " hanlin: " not in line]


async def test_two_engines_of_one_assistant_do_not_write_into_each_other_s_log(
    host_of: HostOf, tmp_path: Path
) -> None:
    """A third takes the place that is free by then."""
    async with (
        host_of(declare(tmp_path / "a"), tmp_path, Slow("--say=loading")) as watched,
        over_http(watched) as http,
    ):
        await watched.until(ready)
        alone = (await http.get("/assistants/wishes/log")).text.splitlines()
        assert of_engines(alone) == ["loading", "serving"]
        for number in (2, 3):
            watched.host.update("wishes")
            await watched.until_all(only(f"wishes.{number}"))
            assert of_engines(watched.one()["log"]) == ["loading", "serving"]
        told = of_engines((await http.get("/assistants/wishes/log")).text.splitlines())
    names = sorted(file.name for file in (tmp_path / "logs").iterdir())
    assert names == ["engine-wishes+2.log", "engine-wishes.log"]
    once = ["loading", "serving", "ends with 0 in flight"]
    before = ["==> an earlier engine of 'wishes' <==", *once]
    now = ["==> wishes.3, ready <==", *once, "loading", "serving"]
    assert told in (before + now, now + before)  # the earlier one may end last


async def test_what_two_write_is_followed_by_name(host_of: HostOf, tmp_path: Path) -> None:
    async with (
        host_of(declare(tmp_path / "a"), tmp_path, Slow("--say=loading")) as watched,
        over_http(watched) as http,
    ):
        await watched.until(ready)
        async with (
            asyncio.timeout(30),
            http.stream("GET", "/assistants/wishes/log?lines=1&follow=1") as answer,
        ):
            lines = answer.aiter_lines()
            assert (await anext(lines)).startswith("serving")
            watched.host.update("wishes")
            seen: list[str] = []
            while len(seen) < 5:
                seen += of_engines([await anext(lines)])
    assert seen[0].startswith("==> wishes.2, ")
    assert seen[1:3] == ["loading", "serving"]
    assert seen[3] in ("==> wishes.1, draining <==", "==> an earlier engine of 'wishes' <==")
    assert seen[4] == "ends with 0 in flight"
