"""Renders a model's chat template the way Transformers would.

Templates come from elsewhere, so they run in jinja's sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2.ext import Extension
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_MARK = "the sentinel of an answer"


class TemplateError(Exception):
    """There is no template, or it does not render; the text says why, to go on a sentence with."""


class _Generation(Extension):
    """`{% generation %}` marks what training learns from; for a prompt it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller: Any) -> str:
        return str(caller())


def render(
    template: str,
    turns: Sequence[Mapping[str, str]],
    specials: Mapping[str, str],
    *,
    opens: bool,
    now: datetime | None = None,
) -> str:
    """The prompt for a conversation; `opens` asks for the beginning of the answer too. Some
    templates write the date: that of `now`, or else today's.

    Raises:
        TemplateError: the template is not valid, or refuses this conversation.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = (now or datetime.now().astimezone()).strftime
    try:
        return environment.from_string(template).render(
            messages=list(turns),
            add_generation_prompt=opens,
            tools=None,
            documents=None,
            **specials,
        )
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise TemplateError(f"does not render: {error}") from error


def ending(template: str, specials: Mapping[str, str]) -> str:
    """What follows an assistant's answer.

    Raises:
        TemplateError: the template is not valid, or loses the answer.
    """
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
    shown = render(template, turns, specials, opens=False)
    _, found, after = shown.partition(_MARK)
    if not found:
        raise TemplateError("loses the assistant's text")
    return after


def _tojson(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
