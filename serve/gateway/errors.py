"""Every way a request can fail, with the status and OpenAI type its client is told.

HanlinError
└── GatewayError
    ├── BadRequestError          400   the request cannot be read, or asks for the impossible
    │   └── NotOfferedError            … for this assistant or its engine, whatever is sent
    ├── UnauthorizedError        401   no key, or one that is not known
    ├── NotAllowedError          403   a key that may not use this assistant
    ├── StrangerError            403   a web page of an origin not allowed, and no keys are set
    ├── UnknownModelError        404
    ├── TooSlowError             408   the request did not come to its end in time
    ├── TooLargeError            413
    ├── EncodedError             415   a body that is compressed
    ├── HeadTooLargeError        431
    ├── RateLimitedError         429   the key has used up what it may in a minute, or at once
    ├── BusyError                429   the assistant's queue is full, or the wait in it too long
    │   └── EngineBusyError            … or its engine says so itself
    ├── EngineRefusedError       4xx   the engine's own word about this request
    ├── EngineFailedError        502   no engine could answer it
    │   ├── EngineUnreachableError     … not even a connection
    │   └── EngineDroppedError         … the connection ended too early
    ├── NotReadyError            503   the engine is starting, stopped or failed
    ├── DrainingError            503   the gateway is being stopped
    ├── EngineTimeoutError       504
    └── InternalError            500   a bug in the gateway
ClientLeftError                        there is nobody left to answer

`envelope` is the one format in which they reach a client.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from assistants import HanlinError

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"

RETRY_AFTER_SECONDS = 2
"""What `Retry-After` says where nothing better is known."""


class GatewayError(HanlinError):
    """One sentence for the client; `status`, `type` and `code` are what programs look at."""

    status: int = 500
    type: str = SERVER_ERROR
    code: str | None = None
    retry_after: int | None = None
    engine_status: int | None = None
    """With which status the engine said so, where one did."""
    elsewhere: ClassVar[bool] = False
    """Whether another replica may do better, as long as the client has seen nothing."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        if code is not None:
            self.code = code


class BadRequestError(GatewayError):
    """The client's request is not one that can be passed on."""

    status = 400
    type = INVALID_REQUEST


class NotOfferedError(BadRequestError):
    """The assistant, or its engine, does not do this at all."""

    code = "not_offered"


class UnauthorizedError(GatewayError):
    """Whoever this is has no key, or one that is not known here."""

    status = 401
    type = INVALID_REQUEST
    code = "invalid_api_key"


class NotAllowedError(GatewayError):
    """The key is known, but not for this assistant; OpenAI uses the same code for this."""

    status = 403
    type = INVALID_REQUEST
    code = "model_not_found"


class StrangerError(GatewayError):
    """A browser sent it for a web page whose origin nobody named."""

    status = 403
    type = INVALID_REQUEST
    code = "origin_not_allowed"


class UnknownModelError(GatewayError):
    """No assistant has that name."""

    status = 404
    type = INVALID_REQUEST
    code = "model_not_found"


class TooSlowError(GatewayError):
    """The client took too long over its request."""

    status = 408
    type = INVALID_REQUEST
    code = "request_timeout"


class TooLargeError(GatewayError):
    """The body is longer than this gateway reads."""

    status = 413
    type = INVALID_REQUEST
    code = "request_too_large"

    def __init__(self, most: int) -> None:
        super().__init__(f"The body is larger than {most} bytes, the most this gateway reads.")


class EncodedError(GatewayError):
    """The body is compressed, and would have to be unpacked to be measured."""

    status = 415
    type = INVALID_REQUEST


class HeadTooLargeError(GatewayError):
    """The head of a request is longer than this gateway reads."""

    status = 431
    type = INVALID_REQUEST
    code = "request_too_large"


class RateLimitedError(GatewayError):
    """A key has used up what it may; `type` says of what, as OpenAI does."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, kind: str, retry_after: int) -> None:
        super().__init__(message)
        self.type = kind
        self.retry_after = retry_after


class BusyError(GatewayError):
    """The assistant has no place left, or none became free in time."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    retry_after = RETRY_AFTER_SECONDS


class EngineBusyError(BusyError):
    """The engine itself takes no more now."""

    elsewhere = True


class EngineRefusedError(GatewayError):
    """The engine looked at the request and said no; asking another would be asking again."""

    def __init__(self, status: int, message: str, *, code: str | None, param: str | None) -> None:
        super().__init__(message, param=param, code=code)
        self.status = status
        self.type = INVALID_REQUEST


class EngineFailedError(GatewayError):
    """An engine took the request and did not come to an answer."""

    status = 502
    code = "engine_failed"
    elsewhere = True


class EngineUnreachableError(EngineFailedError):
    """No connection to the engine."""

    code = "engine_unreachable"


class EngineDroppedError(EngineFailedError):
    """The connection ended before the answer did."""

    code = "engine_dropped"


class NotReadyError(GatewayError):
    """The assistant's engine cannot answer now; the sentence says in which state it is and why."""

    status = 503
    code = "engine_not_ready"
    retry_after = RETRY_AFTER_SECONDS
    elsewhere = True


class DrainingError(GatewayError):
    """The gateway is being stopped; another one will answer."""

    status = 503
    code = "gateway_stopping"
    retry_after = RETRY_AFTER_SECONDS


class EngineTimeoutError(GatewayError):
    """The engine was silent for longer than it may be."""

    status = 504
    code = "engine_timeout"
    elsewhere = True


class InternalError(GatewayError):
    """A mistake of ours: the log has the traceback, the client a sentence without it."""

    code = "internal_error"


class ClientLeftError(Exception):
    """The client closed its connection: whatever was done for it ends here."""


def envelope(error: GatewayError, *, param: str | None = None) -> bytes:
    """The error as OpenAI's clients expect it; `param` is how the client calls the field."""
    return msgspec.json.encode(
        {
            "error": {
                "message": str(error),
                "type": error.type,
                "param": param or error.param,
                "code": error.code,
            }
        }
    )
