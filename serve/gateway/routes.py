"""All routes on one screen. Handlers are elsewhere; here they are called and rendered.

What each takes and answers is told in `openapi.operations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.params import Depends as Dependency
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from assistants import prompt
from serve.gateway import failed, openapi
from serve.gateway.admission.keys import Key, Keys, credential
from serve.gateway.catalogue import Catalogue
from serve.gateway.errors import BadRequestError, NotOfferedError, TooLargeError
from serve.gateway.strangers import Strangers
from serve.gateway.surfaces.messages import VERSION
from serve.gateway.surfaces.messages import models as theirs

Visitor = Callable[[Request], Key]


REFUSED = "The changed declarations or keys are ignored; the gateway's log says why."
"""No more than that: everybody may ask whether a gateway is ready."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the gateway itself stands."""

    draining: bool
    refused: bool
    """Whether it serves what was declared before, because what is declared now is wrong."""


class PromptRequest(BaseModel):
    """What was chosen in an assistant's controls, and what was typed."""

    values: dict[str, str] = {}
    message: str = ""


def bare(hot: Mapping[str, ASGIApp]) -> list[BaseRoute]:
    """The routes of the endpoints that the application also calls directly."""
    return [Route(path, endpoint, methods=["POST"]) for path, endpoint in hot.items()]


def first(strangers: Strangers | None) -> list[Dependency]:
    """What all routes but the bare ones do before anything else."""
    if strangers is None:
        return []

    async def keep_out(asked: Request) -> None:
        strangers.keep_out(asked.headers.raw, asks=asked.method == "POST")

    return [Depends(keep_out)]


def install(
    app: FastAPI,
    *,
    catalogue: Catalogue,
    keys: Keys,
    metrics: Callable[[str], tuple[bytes, str]],
    standing: Callable[[], Standing],
    most_bytes: int,
) -> None:
    """Give the application all other routes; no body may have more than `most_bytes`."""

    def visitor(request: Request) -> Key:
        given = request.headers
        own = given.get("authorization", ""), given.get("x-api-key", "")
        return keys.visitor(credential(*(value.encode("latin-1") for value in own)))

    _models(app, catalogue, visitor)
    _prompts(app, catalogue, visitor, most_bytes)
    _state(app, catalogue, standing)
    _about(app, keys, metrics)
    failed.install(app)


def _models(app: FastAPI, catalogue: Catalogue, visitor: Visitor) -> None:
    """OpenAI's and Anthropic's clients ask at the same path for different things."""

    @app.get("/v1/models")
    async def models(asked: Request) -> dict[str, Any]:
        cards, given = catalogue.cards(visitor(asked)), asked.query_params.get
        limit, after, before = theirs.limit(given("limit")), given("after_id"), given("before_id")
        if VERSION not in asked.headers:
            return cards
        return theirs.page(cards["data"], limit=limit, after=after, before=before)

    @app.get("/v1/models/{name}")
    async def model(name: str, asked: Request) -> dict[str, Any]:
        card = catalogue.card(name, visitor(asked))
        return theirs.model(card) if VERSION in asked.headers else card

    @app.post("/v1/embeddings")
    async def embeddings(asked: Request) -> None:
        visitor(asked)
        raise NotOfferedError("Assistants write text; no engine here makes embeddings.")


def _prompts(app: FastAPI, catalogue: Catalogue, visitor: Visitor, most_bytes: int) -> None:
    @app.post("/v1/assistants/{name}/prompt")
    async def render(name: str, asked: Request) -> dict[str, str]:
        assistant = catalogue.find(name, visitor(asked))
        request = _prompt_request(await _body(asked, most_bytes))
        if unknown := set(request.values) - set(assistant.controls):
            raise BadRequestError(
                f"'{assistant.name}' has no control '{min(unknown)}'; "
                f"it has {', '.join(assistant.controls) or 'none'}.",
                param="values",
            )
        try:
            return {"prompt": prompt.render(assistant, request.values, request.message)}
        except ValueError as error:
            raise BadRequestError(f"{error}.", param="values") from error


async def _body(asked: Request, most: int) -> bytes:
    """The body of a request, which a framework would read however long it is."""
    length, body = asked.headers.get("content-length", ""), bytearray()
    if length.isdigit() and int(length) > most:
        raise TooLargeError(most)
    try:
        async for part in asked.stream():
            body += part
            if len(body) > most:
                raise TooLargeError(most)
    except ClientDisconnect:
        raise BadRequestError("The request did not come to its end.") from None
    return bytes(body)


def _prompt_request(body: bytes) -> PromptRequest:
    try:
        return PromptRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadRequestError(
            f"{place or 'The body'}: {first['msg']}.", param=place or None
        ) from None


def _state(app: FastAPI, catalogue: Catalogue, standing: Callable[[], Standing]) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> JSONResponse:
        now = standing()
        status = _readiness(draining=now.draining, servable=catalogue.servable())
        problem = REFUSED if now.refused else None
        body = {"status": status, "assistants": catalogue.states(), "problem": problem}
        return JSONResponse(body, status_code=200 if status == "ready" else 503)


def _about(app: FastAPI, keys: Keys, metrics: Callable[[str], tuple[bytes, str]]) -> None:
    @app.get("/metrics")
    async def exposition(asked: Request) -> Response:
        body, kind = metrics(asked.headers.get("accept", ""))
        return Response(body, media_type=None, headers={"content-type": kind})

    @app.get("/openapi.json")
    async def described() -> JSONResponse:
        return JSONResponse(openapi.document(needs_keys=not keys.open))

    @app.get("/docs")
    async def docs() -> HTMLResponse:
        return HTMLResponse(openapi.page(openapi.document(needs_keys=not keys.open)))


def _readiness(*, draining: bool, servable: bool) -> str:
    """Ready as soon as one assistant can be served; the rest of a house may still be waking up."""
    if draining:
        return "draining"
    return "ready" if servable else "starting"
