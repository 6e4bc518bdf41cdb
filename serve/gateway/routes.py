"""All routes on one screen. What they do is decided elsewhere; here it is called and rendered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp

from assistants import House, UnknownAssistantError, prompt
from serve.gateway.catalogue import Catalogue
from serve.gateway.errors import BadRequestError, GatewayError, UnknownModelError, envelope


class PromptRequest(BaseModel):
    """What was chosen in an assistant's controls, and what was typed."""

    values: dict[str, str] = {}
    message: str = ""


def install(
    app: FastAPI,
    *,
    house: House,
    catalogue: Catalogue,
    hot: Mapping[str, ASGIApp],
    draining: Callable[[], bool],
) -> None:
    """Give the application its routes; `hot` are the bare endpoints that it also calls directly."""

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return catalogue.cards()

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        return catalogue.card(name)

    @app.post("/v1/assistants/{name}/prompt")
    async def render(name: str, request: PromptRequest) -> dict[str, str]:
        assistant = house.get(name)
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

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> JSONResponse:
        status = _readiness(draining=draining(), servable=catalogue.servable())
        body = {"status": status, "assistants": catalogue.states()}
        return JSONResponse(body, status_code=200 if status == "ready" else 503)

    app.router.routes.extend(Route(path, end, methods=["POST"]) for path, end in hot.items())
    app.add_exception_handler(GatewayError, _failed)
    app.add_exception_handler(UnknownAssistantError, _failed)
    app.add_exception_handler(HTTPException, _failed)
    app.add_exception_handler(RequestValidationError, _failed)


async def _failed(request: Request, error: Exception) -> Response:
    """The one renderer of what goes wrong outside the hot path."""
    told = _told(request, error)
    headers = {"retry-after": str(told.retry_after)} if told.retry_after is not None else {}
    if isinstance(error, HTTPException) and error.headers:
        headers.update(error.headers)  # a 405 names the methods that are allowed
    return Response(envelope(told), told.status, headers, "application/json")


def _told(request: Request, error: Exception) -> GatewayError:
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, UnknownAssistantError):
        return UnknownModelError(str(error), param="model")
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        return BadRequestError(f"{place or 'The body'}: {first['msg']}.", param=place or None)
    told = BadRequestError(f"{request.method} {request.url.path}: there is no such thing here.")
    if isinstance(error, HTTPException):
        told.status = error.status_code
        if error.status_code == 405:
            told = BadRequestError(f"{request.url.path} does not take {request.method}.")
            told.status = 405
    return told


def _readiness(*, draining: bool, servable: bool) -> str:
    """Ready as soon as one assistant can be served; the rest of a house may still be waking up."""
    if draining:
        return "draining"
    return "ready" if servable else "starting"
