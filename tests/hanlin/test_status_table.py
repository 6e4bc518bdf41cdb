"""How a house stands, on a screen: what fits where, and what is said of what nobody can tell."""

from __future__ import annotations

import io
from typing import Any

import msgspec
from rich.console import Console

from hanlin.client.overview import Hosted, Part, overview
from hanlin.client.table import moment, size, span, table
from serve.pace import Readings
from serve.reading import Counted, Reading
from tests.hanlin.house_stub import replica

NOW = 1_000_000.0


def shown(
    width: int,
    *replicas: dict[str, Any],
    gateway: bool = True,
    problem: str | None = None,
    cut_off: int = 0,
) -> list[str]:
    """What stands on a screen of that width, line by line."""
    hosted = msgspec.convert(
        {
            "version": 1,
            "replicas": replicas,
            "devices": [
                {"device": 0, "kind": "gpu", "memory": 24 * 2**30, "taken": 22 * 2**30},
                {"device": 1, "kind": "gpu", "memory": 24 * 2**30, "taken": 0},
            ],
        },
        Hosted,
    )
    readings = Readings(60)
    readings.take(Reading(0, {"wishes": Counted(tokens_out=100)}))
    now = Counted(
        in_flight=2,
        queue=1,
        tokens_out=300,
        under_way=50,
        first_token_seconds=0.5,
        first_tokens=2,
        cut_off=cut_off,
    )
    readings.take(Reading(2, {"wishes": now}))
    states = {r["assistant"]: "ready" for r in replicas} | {"sui": "ready"} if gateway else {}
    door = Part(url="http://127.0.0.1:8000", state="ready", problem=problem)
    door = door if gateway else Part(url="", problem="No.")
    seen = overview(
        NOW,
        readings,
        gateway=(door, states),
        engines=(Part(url="http://127.0.0.1:8001", state="ready"), hosted),
    )
    screen = io.StringIO()
    Console(file=screen, width=width, highlight=False).print(table(seen, width))
    return [line.rstrip() for line in screen.getvalue().splitlines()]


REASON = (
    "The engine of 'civil-service' was killed (SIGKILL), most likely because memory ran out; it "
    "is started again in 4 s."
)


def a_full_house() -> tuple[dict[str, Any], ...]:
    return (
        replica("wishes", since=NOW - 200, devices=[0, 1]),
        replica("wishes", "starting", since=NOW - 3, url="http://127.0.0.1:41002"),
        replica("civil-service", "failed", since=NOW - 86400 * 3, restarts=12, reason=REASON),
    )


def test_the_table_at_80_columns() -> None:
    lines = shown(80, *a_full_house())
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.startswith("GPU")] == [
        "GPU 0        22 GiB of 24 GiB taken",
        "GPU 1        0 B of 24 GiB taken",
    ]
    cells = [line.split() for line in lines]
    assert ["wishes", "ready", "3m", "0", "0,1", "9", "GiB", "2", "1", "125", "250", "ms"] in cells
    assert ["starting", "3s", "0", "0", "9", "GiB"] in cells  # its second engine
    assert ["civil-service", "failed", "3d", "12", "0", "9", "GiB", "0", "0", "0", "–"] in cells
    assert ["sui", "ready", "0", "0", "0", "–"] in cells
    assert f"civil-service: {REASON}" in " ".join(lines)
    assert "Tokens/s: of the last 2 s." in " ".join(lines)


def test_the_table_at_160_columns() -> None:
    lines = shown(160, *a_full_house())
    assert 120 < max(map(len, lines)) <= 160
    (failed,) = [line for line in lines if line.startswith("civil-service")]
    assert "turbomind" in failed
    assert "127.0.0.1:41001" in failed
    assert "The engine of 'civil-service'" in failed
    assert any(line.split()[:3] == ["sui", "elsewhere", "ready"] for line in lines)
    assert not any(line.startswith("civil-service: ") for line in lines)
    assert not any("reason" in line for line in shown(160, replica("wishes")))


def test_without_numbers_there_are_dashes() -> None:
    lines = shown(80, replica("wishes", pinned=True, reason=None), gateway=False)
    assert any(line.startswith("wishes    ready, pinned") for line in lines)
    assert any(line.split()[-4:] == ["–", "–", "–", "–"] for line in lines)
    assert lines[-1].startswith("Without the gateway nobody knows")
    old = shown(80, replica("wishes"), problem="Its metrics cannot be read.")
    assert any(line.split()[-4:] == ["–", "–", "–", "–"] for line in old)
    assert any("ready" in line.split() for line in old)


def test_engines_that_are_left_alone_are_told_of() -> None:
    """Of those that are served elsewhere nobody else tells that they are away."""
    said = "Engines that failed several times in a row and get no requests for a while: 1."
    for width in (80, 160):
        told = " ".join(" ".join(shown(width, *a_full_house(), cut_off=1)).split())
        assert told.count("failed several times") == 1
    assert f"wishes: {said}" in " ".join(shown(80, *a_full_house(), cut_off=1))
    assert "several times" not in " ".join(shown(80, *a_full_house()))


def test_numbers_as_one_says_them() -> None:
    assert [size(n) for n in (0, 2**20, 1536 * 2**20, 123 * 2**30)] == [
        "0 B", "1 MiB", "1.5 GiB", "123 GiB",
    ]  # fmt: skip
    assert [span(n) for n in (-1, 59.9, 60, 7200, 90000)] == ["0s", "59s", "1m", "2h", "1d"]
    assert [moment(n) for n in (0.0086, 0.25, 1.26, 61)] == ["9 ms", "250 ms", "1.3 s", "61 s"]
