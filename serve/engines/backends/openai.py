"""The questions every OpenAI-compatible engine answers in the same way."""

from __future__ import annotations

from typing import Any

import httpx


async def healthy(client: httpx.AsyncClient) -> bool:
    """Whether /health answers 200 within the client's time-out."""
    try:
        response = await client.get("/health")
    except httpx.HTTPError:
        return False
    return response.status_code == httpx.codes.OK


async def one_token(client: httpx.AsyncClient, model: str, *, seconds: float) -> bool:
    """Whether the model writes a token; loading is not done before it does."""
    return await _writes(client, "/v1/completions", {"model": model, "prompt": "1"}, seconds)


async def one_word(client: httpx.AsyncClient, model: str, *, seconds: float) -> bool:
    """Whether it writes a token in answer to a message, which takes its chat template too."""
    messages = [{"role": "user", "content": "1"}]
    body = {"model": model, "messages": messages}
    return await _writes(client, "/v1/chat/completions", body, seconds)


async def _writes(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], seconds: float
) -> bool:
    asked = {**body, "max_tokens": 1, "temperature": 0}
    try:
        response = await client.post(path, json=asked, timeout=seconds)
        told = response.json() if response.status_code == httpx.codes.OK else None
    except (httpx.HTTPError, ValueError):
        return False
    return isinstance(told, dict) and bool(told.get("choices"))
