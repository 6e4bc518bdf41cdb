"""The surfaces (kinds of completion endpoint), by their paths."""

from __future__ import annotations

from enum import Enum


class Surface(Enum):
    """Engines are asked by the first two, and to count by the last."""

    chat = "/v1/chat/completions"
    completion = "/v1/completions"
    responses = "/v1/responses"
    messages = "/v1/messages"
    count = "/v1/messages/count_tokens"
