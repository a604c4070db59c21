"""The middlewares of every service: request ids and metrics, responses to unexpected errors, a limit on bodies.

All are plain ASGI. Starlette's `BaseHTTPMiddleware` buffers streams and hides that a client has disconnected.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache

import structlog
from fastapi import Request
from fastapi.responses import Response
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zhiwen.common.errors import InvalidRequest, TooLarge
from zhiwen.common.telemetry import REQUEST_ID_HEADER, REQUEST_SECONDS, REQUESTS, request_id_from

log = structlog.get_logger(__package__)

MAX_BODY_BYTES = 2**20
"""The largest body of a request that is read as a whole. FastAPI parses JSON before it checks the key."""


class RequestContext:
    """Gives each request an id, writes its log line, and counts it."""

    def __init__(self, app: ASGIApp, service: str) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = request_id_from(headers.get(REQUEST_ID_HEADER.lower().encode(), b"").decode("latin-1"))
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID_HEADER.encode(), request_id.encode())]
            await send(message)

        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"]
        counter, histogram = _metrics_of(self.service, method, route, status)
        counter.inc()
        histogram.observe(seconds)
        if route not in {"/healthz", "/readyz", "/metrics"}:
            log.info("request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))


@lru_cache(maxsize=1024)
def _metrics_of(service: str, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Return the counter and the histogram with these labels. This cache is faster than prometheus_client's lookup."""
    return REQUESTS.labels(service, method, route, str(status)), REQUEST_SECONDS.labels(service, method, route)


class CatchAll:
    """Renders an unexpected exception as a 500. It runs inside `RequestContext`, so its log line has the request id."""

    def __init__(self, app: ASGIApp, render: Callable[[Request, Exception], Awaitable[Response]]) -> None:
        self.app = app
        self.render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            if "\0" in scope["path"] or b"%00" in scope["query_string"]:  # PostgreSQL cannot store NUL
                raise InvalidRequest("invalid-request", "An address cannot hold the character NUL.")
            await self.app(scope, receive, note_start)
        except Exception as exc:  # `render` logs what it is; the client gets a plain 500
            response = await self.render(Request(scope, receive), exc)
            if started:
                raise
            await response(scope, receive, send)


class BodyLimit:
    """Refuses a body that is larger than `MAX_BODY_BYTES` before any code reads it. It runs inside `CatchAll`.

    `unlimited_paths` matches the paths whose routes have their own limit. FastAPI's `max_body_size` is not used: its
    response is plain text without a request id.
    """

    def __init__(self, app: ASGIApp, unlimited_paths: re.Pattern[str] | None = None) -> None:
        self.app = app
        self.unlimited_paths = unlimited_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (self.unlimited_paths and self.unlimited_paths.fullmatch(scope["path"])):
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
            raise _body_too_large()
        received: Message | None = await _whole_body(receive)

        async def receive_again() -> Message:
            nonlocal received
            message, received = received, None
            return await receive() if message is None else message

        await self.app(scope, receive_again, send)


async def _whole_body(receive: Receive) -> Message:
    """Return the whole body as one message, or the message that the client has disconnected. Raises `TooLarge`."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise _body_too_large()
        if not message.get("more_body", False):
            return {"type": "http.request", "body": b"".join(parts), "more_body": False}


def _body_too_large() -> TooLarge:
    return TooLarge("request-too-large", f"The body of this request is larger than {MAX_BODY_BYTES} bytes.")
