"""The questions every OpenAI-compatible engine answers in the same way."""

from __future__ import annotations

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
    body = {"model": model, "prompt": "1", "max_tokens": 1, "temperature": 0}
    try:
        response = await client.post("/v1/completions", json=body, timeout=seconds)
        return response.status_code == httpx.codes.OK and bool(response.json()["choices"])
    except (httpx.HTTPError, ValueError, KeyError):
        return False
