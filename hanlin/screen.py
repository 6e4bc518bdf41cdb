"""What `hanlin up` shows: how far it is, and where to go when it is done."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from assistants.load import House
from hanlin import places
from hanlin.polling import Standing

STYLES = {"ready": "green", "failed": "red", "stopped": "dim"}
LAST_LINES = 5


@dataclass(slots=True)
class Status:
    """How far each part is; on a terminal a table that lives, elsewhere a line for each change."""

    console: Console
    states: dict[str, str] = field(default_factory=dict)
    live: Live | None = None

    def __enter__(self) -> Status:
        if self.console.is_terminal:
            self.live = Live(self._table(), console=self.console, transient=True)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def tell(self, part: str, state: str) -> None:
        if self.states.get(part) == state:
            return
        self.states[part] = state
        if self.live:
            self.live.update(self._table())
        else:
            self.console.print(f"{part}: {state}", markup=False, highlight=False)

    def tell_all(self, standings: tuple[Standing, ...]) -> None:
        for standing in standings:
            self.tell(f"engine of {standing.assistant}", standing.state)

    def _table(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for part, state in self.states.items():
            waits = state not in STYLES
            mark: RenderableType = Spinner("dots") if waits else Text("●", style=STYLES[state])
            table.add_row(mark, Text(part), Text(state, style=STYLES.get(state, "yellow")))
        return Group(table)


@dataclass(frozen=True, slots=True)
class Where:
    """Where one goes, once all is up."""

    endpoint: str
    page: str | None
    logs: Path
    keyed: bool
    """Whether requests need a key."""


def summary(house: House, standings: tuple[Standing, ...], where: Where, *, seconds: float) -> Text:
    """Where to go, ready to be pasted."""
    states = {standing.assistant: standing.state for standing in standings}
    width = max(len(assistant.name) for assistant in house)
    text = Text()
    text.append(f"\n翰林 Hanlin is up, after {seconds:.1f} s.\n\n", "bold")
    if where.page:
        _row(text, "Page", where.page)
    _row(text, "Endpoint", f"{where.endpoint}/v1")
    for number, assistant in enumerate(house):
        state = states.get(assistant.name, "elsewhere" if assistant.upstreams else "starting")
        shown = "" if state == "ready" else f"  ({state})"
        line = f"{assistant.name:<{width}}  {assistant.title.zh}  {assistant.title.en}{shown}"
        _row(text, "" if number else "Assistants", line)
    chosen = next((a for a in house if states.get(a.name) == "ready"), next(iter(house)))
    at = "" if where.endpoint == places.GATEWAY else f" --gateway {where.endpoint}"
    _row(text, "Talk", f"{places.command()} chat {chosen.name}{at}")
    _row(text, "Logs", str(where.logs))
    example = chosen.examples[0] if chosen.examples else "1+1"
    text.append(f"\n{curl(where.endpoint, chosen.name, example, keyed=where.keyed)}\n\n")
    text.append("Ctrl-C stops everything.", "dim")
    return text


def curl(endpoint: str, name: str, message: str, *, keyed: bool) -> str:
    """A request one can paste into a shell."""
    body = {"model": name, "messages": [{"role": "user", "content": message}]}
    key = '-H "Authorization: Bearer $HANLIN_KEY" ' if keyed else ""
    return (
        f"curl {endpoint}/v1/chat/completions -H 'Content-Type: application/json' {key}"
        f"\\\n  -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
    )


def trouble(standing: Standing) -> str:
    """Why an engine is not there, with the last it said."""
    lines = [f"  {line}" for line in standing.log[-LAST_LINES:]]
    return "\n".join([standing.told, *lines])


def declared(problem: str | None) -> Text:
    """What is said when changed declarations turn out to be wrong, or valid again."""
    if problem is None:
        return Text("The declarations are valid again, and in effect.")
    return Text(f"The changed declarations are ignored: {problem}", "red")


def heard_of_keys(problem: str | None) -> Text:
    """The same of the gateway, which also reads the keys."""
    if problem is None:
        return Text("The gateway now uses the new declarations and keys.")
    return Text(problem, "red")


def _row(text: Text, label: str, value: str) -> None:
    text.append(f"  {label:<12}", "dim")
    text.append(f"{value}\n")
