"""The list of models: OpenAI's model objects, and what the page needs beyond them."""

from __future__ import annotations

from typing import Any

from assistants import Assistant, Control, House, UnknownAssistantError
from assistants.schema import Start
from serve.gateway.admission.keys import Key
from serve.gateway.upstream.replicas import Replicas
from serve.state import State

SERVABLE = (State.ready, State.stopped)
"""An engine that is stopped is started when a request needs it."""


class Catalogue:
    """The house as a list of models, each with the state it is in now."""

    def __init__(self, house: House, replicas: Replicas, *, created: int) -> None:
        self._house = house
        self._replicas = replicas
        self._created = created

    def reload(self, house: House) -> None:
        """List another set of declarations from now on."""
        self._house = house

    def cards(self, key: Key) -> dict[str, Any]:
        """The cards of all assistants that the key may use."""
        seen = [self._card(assistant) for assistant in self._house if key.sees(assistant.name)]
        return {"object": "list", "data": seen}

    def card(self, name: str, key: Key) -> dict[str, Any]:
        """One assistant's card, by name or alias.

        Raises:
            UnknownAssistantError: nobody is called that.
            NotAllowedError: the key is not for it.
        """
        return self._card(self.find(name, key))

    def find(self, name: str, key: Key) -> Assistant:
        """The assistant of that name or alias; a key is told only of those it may use.

        Raises:
            UnknownAssistantError: nobody is called that.
            NotAllowedError: the key is not for it.
        """
        try:
            assistant = self._house.get(name)
        except UnknownAssistantError:
            known = [known for known in self._house.names if key.sees(known)]
            raise UnknownAssistantError(name, known) from None
        key.require(assistant.name)
        return assistant

    def servable(self) -> bool:
        """Whether any assistant can be served: one is ready, or would be started when asked."""
        return any(
            bool(self._replicas.of(a.name))
            and (self._replicas.state(a.name) in SERVABLE or a.start is Start.on_demand)
            for a in self._house
        )

    def states(self) -> dict[str, str]:
        return {name: self._replicas.state(name).value for name in self._house.names}

    def _card(self, assistant: Assistant) -> dict[str, Any]:
        declared = assistant.model_dump(
            mode="json",
            include={
                "title": True,
                "description": True,
                "aliases": True,
                "examples": True,
                "history": True,
                "system": True,
                "client_system": True,
                "sampling": True,
                "limits": {"max_tokens"},
            },
        )
        return {
            "id": assistant.name,
            "object": "model",
            "created": self._created,
            "owned_by": "hanlin",
            "state": self._replicas.state(assistant.name).value,
            "reason": self._replicas.reason(assistant.name),
            **declared,
            "typed": assistant.typed,
            "controls": {name: _control(c) for name, c in assistant.controls.items()},
        }


def _control(control: Control) -> dict[str, Any]:
    """What can be chosen; the words it stands for in the prompt are not shown."""
    return {
        "title": control.title.model_dump() if control.title else None,
        "choices": list(control.choices) if control.choices else None,
        "free": control.free,
        "default": control.start_value,
    }
