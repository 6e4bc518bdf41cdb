"""Renders a workspace's chat template the way Transformers would, in a sandbox."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

import jinja2
from jinja2.ext import Extension
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from convert.verify.report import UnreadError

if TYPE_CHECKING:
    from convert.verify.view import View

TEMPLATE = "chat_template.jinja"
_INSIDE = "tokenizer_config.json"
_DEFAULT = "default"
_MARK = "the sentinel of an answer"


class TemplateError(Exception):
    """There is no template, or it does not render; the text says why."""


class _Generation(Extension):
    """`{% generation %}` marks what training learns from; for a prompt it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller: Any) -> str:
        return str(caller())


def template_of(view: View) -> str:
    """The template a tokenizer would use: the file before the one inside its config.

    Raises:
        TemplateError: there is none.
    """
    if TEMPLATE in view.files:
        try:
            text = (view.folder / TEMPLATE).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadError(
                TEMPLATE, f"cannot be read: {error}.", "Build it again with hanlin convert --force."
            ) from error
        if text.strip():
            return text
    found = view.tokenizer_config.get("chat_template")
    if isinstance(found, list):
        named = {entry.get("name"): entry.get("template") for entry in found}
        found = named.get(_DEFAULT)
    if not found:
        raise TemplateError("is missing, so answers would be made from bare text without roles")
    return str(found)


def render(
    template: str, turns: Sequence[Mapping[str, str]], specials: Mapping[str, str], *, opens: bool
) -> str:
    """The prompt for a conversation; `opens` asks for the beginning of the answer too.

    Raises:
        TemplateError: the template is not valid, or refuses this conversation.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
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
