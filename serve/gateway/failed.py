"""Renders errors raised outside the completion path, in each surface's own envelope."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route

from assistants import UnknownAssistantError
from assistants.errors import nearest
from serve.gateway.errors import (
    BadRequestError,
    GatewayError,
    InternalError,
    UnknownModelError,
    envelope,
)
from serve.gateway.surfaces import messages

KINDS = (GatewayError, UnknownAssistantError, HTTPException, Exception)
"""The last is a bug: it is answered here, and then logged by the server."""


def install(app: FastAPI) -> None:
    for kind in KINDS:
        app.add_exception_handler(kind, _failed)


async def _failed(request: Request, error: Exception) -> Response:
    told = _told(request, error)
    headers = {"retry-after": str(told.retry_after)} if told.retry_after is not None else {}
    if told.status == 401:
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, HTTPException) and error.headers:
        headers.update(error.headers)  # a 405 names the methods that are allowed
    theirs = messages.VERSION in request.headers
    body = messages.envelope(told) if theirs else envelope(told)
    return Response(body, told.status, headers, "application/json")


def _told(request: Request, error: Exception) -> GatewayError:
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, UnknownAssistantError):
        return UnknownModelError(str(error), param="model")
    if isinstance(error, HTTPException):
        told = BadRequestError(_said(request, error))
        told.status = error.status_code
        return told
    return InternalError("The gateway made a mistake; its log says which.")


def _said(request: Request, error: HTTPException) -> str:
    path = request.url.path
    if error.status_code == 405:
        return f"{path} does not take {request.method}."
    if error.status_code != 404:
        return f"{error.detail}."
    known = [route.path for route in request.app.routes if isinstance(route, Route)]
    like = nearest(path, known)
    hint = f" Did you mean {like}?" if like else ""
    return f"There is no {path} here.{hint} The API is under /v1, and GET /docs tells all of it."
