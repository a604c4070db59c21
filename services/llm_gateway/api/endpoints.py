"""The routes that answer, as plain ASGI: FastAPI's per-request machinery costs more than the rest of the gateway.

A client that goes away cancels everything that was under way for it, at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from starlette.requests import HTTPConnection
from starlette.types import Message, Receive, Scope, Send

from zhiwen.common.auth.dependency import principal_of
from zhiwen.common.errors import TooLarge
from zhiwen.llm_gateway.api.handler import Exchange
from zhiwen.llm_gateway.gateway import Gateway
from zhiwen.llm_gateway.request import Door

log = structlog.get_logger(__name__)


class ClientGone(Exception):
    """The client closed its connection."""


class DoorApp:
    """ASGI application of one route. `gateway` is asked at each request, it exists only once the lifespan began."""

    def __init__(self, door: Door, gateway: Callable[[], Gateway]) -> None:
        self.door = door
        self.gateway = gateway
        self.path = f"/v1{door.value}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self  # its path names the request in logs and metrics
        gateway = self.gateway()
        principal = await principal_of(HTTPConnection(scope), gateway.keyring)  # before megabytes of anybody are held
        try:
            body = await _read_body(dict(scope["headers"]), receive, gateway.settings.gateway_max_request_bytes)
        except ClientGone:
            return
        exchange = Exchange(gateway, self.door, principal, scope, body, send)
        watch = ClientWatch(receive)
        try:
            await exchange.run(watch.stop)
        except asyncio.CancelledError:
            if not watch.gone:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            log.info("client_left", door=self.door.value)
        finally:
            watch.stop()


class ClientWatch:
    """Cancels the task that created it when the client's connection closes, until `stop` is called."""

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
        self._task.cancel()


async def _read_body(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """Return the request's body. Raises `TooLarge` before more than `limit` bytes are held, `ClientGone`."""
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message: Message = await receive()
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
