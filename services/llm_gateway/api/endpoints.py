"""The endpoints that models answer, as plain ASGI: FastAPI's layers would cost more than the rest of the gateway.

When a client closes its connection, everything that is done for it is cancelled at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from zhiwen.common.auth.dependency import principal_of
from zhiwen.common.errors import TooLarge
from zhiwen.llm_gateway.api.handler import IncomingRequest, handle
from zhiwen.llm_gateway.api.response import ResponseWriter
from zhiwen.llm_gateway.request import Endpoint
from zhiwen.llm_gateway.state import gateway_of

log = structlog.get_logger(__name__)


class ClientGone(Exception):
    """The client closed its connection."""


class EndpointApp:
    """The ASGI application of one endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.path = f"/v1{endpoint.value}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self  # logs and metrics name the request by its path
        gateway = gateway_of(scope)
        principal = await principal_of(HTTPConnection(scope), gateway.keyring)  # before the body is read
        headers: dict[bytes, bytes] = dict(scope["headers"])
        try:
            body = await _read_body(headers, receive, gateway.bounds.request_bytes)
        except ClientGone:
            return
        incoming = IncomingRequest(self.endpoint, principal, headers, body, gateway.clock())
        watch = ClientWatch(receive)
        writer = ResponseWriter(send, asked=incoming.asked, clock=gateway.clock, before_end=watch.stop)
        try:
            await handle(gateway, incoming, writer)
        except asyncio.CancelledError:
            if not watch.gone:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            log.info("client_left", endpoint=self.endpoint.value)
        finally:
            watch.stop()


class ClientWatch:
    """Cancels the task that created it when the client closes its connection, unless `stop` was called before."""

    def __init__(self, receive: Receive) -> None:
        self.gone = False
        self._receive = receive
        task = asyncio.current_task()
        assert task is not None
        self._served = task
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._served.cancel()

    def stop(self) -> None:
        """Stop watching."""
        self._task.cancel()


async def _read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """Return the request's body.

    Raises `TooLarge` as soon as it exceeds `limit` bytes, and `ClientGone` when the client closes its connection.
    """
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return b"".join(parts)


def _too_large(limit: int) -> TooLarge:
    return TooLarge("request-too-large", f"The request body is larger than {limit} bytes.")
