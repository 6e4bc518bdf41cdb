"""Upstream engines named by environment variables instead of the declaration.

`HANLIN_UPSTREAMS_WISHES=http://gpu1:23333,http://gpu2:23333` is `upstreams` of the assistant
`wishes`: one image and one folder of declarations for every place it is run in. In the name, what
is neither letter nor digit becomes an underscore.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from assistants import Assistant, HanlinError, House, UnknownAssistantError, base_url

PREFIX = "HANLIN_UPSTREAMS_"


def with_upstreams(house: House, environ: Mapping[str, str]) -> House:
    """The house with the upstreams that the environment names.

    Raises:
        HanlinError: it names an assistant that is not there, or what is no base URL.
    """
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    by_variable = {_variable(assistant.name): assistant for assistant in house}
    for name in given:
        if name not in by_variable:
            wanted = name.removeprefix(PREFIX).lower()
            raise HanlinError(f"{name}: {UnknownAssistantError(wanted, house.names)}")
    changed = {
        by_variable[name].name: _changed(by_variable[name], name, value)
        for name, value in given.items()
    }
    return replace(house, assistants=tuple(changed.get(a.name, a) for a in house))


def _variable(name: str) -> str:
    return PREFIX + re.sub(r"[^a-z0-9]", "_", name).upper()


def _changed(assistant: Assistant, variable: str, value: str) -> Assistant:
    try:
        urls = tuple(base_url.checked(url.strip()) for url in value.split(",") if url.strip())
    except ValueError as error:
        raise HanlinError(f"{variable}: {error}.") from None
    return assistant.model_copy(update={"upstreams": urls})
