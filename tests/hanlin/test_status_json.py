"""What programs read of `hanlin status --json` stays as it is, and is documented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hanlin.client.overview import Hosted, Part, overview
from serve.pace import Readings
from serve.reading import Counted, Reading
from tests.hanlin.house_stub import replica

FIELDS = {
    "at": float,
    "gateway": {"url": str, "state": str, "problem": None, "declarations": None},
    "engines": {"url": str, "state": str, "problem": None, "declarations": None},
    "devices": [{"device": int, "kind": str, "memory": int, "taken": int}],
    "rate_seconds": float,
    "assistants": [
        {
            "assistant": str,
            "state": str,
            "elsewhere": bool,
            "in_flight": int,
            "queue": int,
            "cut_off": int,
            "tokens_per_second": float,
            "time_to_first_token": {"mean": float, "count": int},
            "replicas": [
                {
                    "assistant": str,
                    "state": str,
                    "url": str,
                    "engine": str,
                    "since": float,
                    "restarts": int,
                    "devices": [int],
                    "memory": int,
                    "pinned": bool,
                    "workspace": str,
                    "reason": str,
                }
            ],
        }
    ],
}
"""Programs that others wrote read these: one that goes or gets another name breaks them."""


@pytest.fixture
def told() -> Any:
    """A house of which everything is known."""
    device = {"device": 0, "kind": "gpu", "memory": 24 << 30, "taken": 9 << 30}
    engine = replica("wishes", since=1.5, reason="It waits.")
    heard = {"version": 1, "replicas": [engine], "devices": [device]}
    hosted = msgspec.json.decode(msgspec.json.encode(heard), type=Hosted)
    readings = Readings(60)
    for at in (0.0, 2.0):
        counted = Counted(tokens_out=int(at) * 100, first_token_seconds=0.5, first_tokens=2)
        readings.take(Reading(at, {"wishes": counted}))
    seen = overview(
        12.5,
        readings,
        gateway=(Part(url="http://a:1", state="ready"), {"wishes": "ready"}),
        engines=(Part(url="http://a:2", state="ready"), hosted),
    )
    return msgspec.json.decode(msgspec.json.encode(seen))


def kinds(value: Any) -> Any:
    """The same with a type in the place of each value."""
    match value:
        case dict():
            return {name: kinds(inner) for name, inner in value.items()}
        case list():
            return [kinds(inner) for inner in value]
    return None if value is None else type(value)


def test_the_fields_and_their_kinds(told: Any) -> None:
    assert kinds(told) == FIELDS


def test_every_field_is_documented(told: Any, root: Path) -> None:
    text = (root / "docs/operations.md").read_text(encoding="utf-8")
    table = text.partition("| field | |")[2].partition("\n\n")[0]
    undocumented = [name for name in names(told) if f"`{name}`" not in table]
    assert not undocumented


def names(value: Any) -> set[str]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = set(value) if isinstance(value, dict) else set()
    return own.union(*(names(each) for each in inner))
