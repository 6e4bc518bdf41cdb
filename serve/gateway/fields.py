"""A JSON body split into its top-level fields, whose values stay undecoded bytes.

What the gateway need not understand goes on to the engine byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from serve.gateway.errors import BadRequestError

Fields = dict[str, Raw]

NULL: Final = b"null"
_NULL: Final = Raw(NULL)

_fields = msgspec.json.Decoder(Fields)
_any = msgspec.json.Decoder()


def read(body: bytes) -> Fields:
    """The top-level fields of a JSON object.

    Raises:
        BadRequestError: the body is not one, or not UTF-8.
    """
    try:
        body.decode()
        return _fields.decode(body)
    except UnicodeDecodeError as error:
        raise BadRequestError(f"The body is not UTF-8 (byte {error.start}).") from None
    except msgspec.ValidationError:
        raise BadRequestError("The body is JSON, but not an object.") from None
    except msgspec.DecodeError as error:
        raise BadRequestError(f"The body is not JSON: {error}.") from None
    except RecursionError:
        raise BadRequestError("The body is nested too deeply.") from None


def absent(fields: Mapping[str, Raw], name: str) -> bool:
    """Left out, or given as null, which is how many clients leave out."""
    return (value := fields.get(name)) is None or value == _NULL


def decoded(fields: Mapping[str, Raw], name: str) -> Any:
    """What a field says, or None where there is none of that name.

    Raises:
        BadRequestError: it is JSON, but has a number larger than any that is kept here.
    """
    if name not in fields:
        return None
    try:
        return _any.decode(fields[name])
    except msgspec.ValidationError:
        raise BadRequestError(f"'{name}' has a number that is out of range.", param=name) from None
