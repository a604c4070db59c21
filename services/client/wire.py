"""Sends calls: `Wire` blocks, and `AsyncWire` does the same for asyncio.

The decisions (retries, errors, how to read an answer) are made in `connection` and `retrying`, which both use.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing, asynccontextmanager, contextmanager
from typing import Any, Protocol, TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent

from zhiwen.client.calls import Call
from zhiwen.client.connection import Connection

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Page(Protocol[T_co]):
    """A part of a list, and the cursor of the next part."""

    @property
    def items(self) -> Sequence[T_co]:
        """The items of the page."""

    @property
    def next_cursor(self) -> str | None:
        """The cursor of the next page, None on the last one."""


PageAt = Callable[[str | None], Call[Page[T]]]
"""Returns the call for the page at a cursor; None means the first page."""
ReadEvent = Callable[[ServerSentEvent], T | None]
"""Reads a server-sent event. Returns None for an event that is to be left out."""


class Wire:
    """Sends calls and waits for their answers. `sleep` takes seconds."""

    def __init__(
        self, connection: Connection, transport: httpx.BaseTransport | None, sleep: Callable[[float], None]
    ) -> None:
        self.connection = connection
        self.clock = connection.clock
        self.sleep = sleep
        self._http = {
            service: httpx.Client(transport=transport, **connection.pool(service)) for service in connection.urls
        }

    def close(self) -> None:
        """Close the connections."""
        with ExitStack() as stack:
            for http in self._http.values():
                stack.callback(http.close)

    def do(self, call: Call[T]) -> T:
        """Send a call and return its value. Raises `ApiError`."""
        return self.connection.read(call, self._answer(call, stream=False))

    def items(self, page_at: PageAt[T]) -> Iterator[T]:
        """Yield the items of a list, page after page."""
        page = self.do(page_at(None))
        yield from page.items
        while page.next_cursor is not None:
            page = self.do(page_at(page.next_cursor))
            yield from page.items

    @contextmanager
    def stream(self, call: Call[Any]) -> Iterator[httpx.Response]:
        """Send a call and open its answer, to read it piece by piece within the block. Raises `ApiError`."""
        response = self._answer(call, stream=True)
        try:
            with self.connection.reading(call, response):
                yield response
        finally:
            response.close()

    def events(self, call: Call[Any], read: ReadEvent[T], *, wanted: Callable[[], bool] = lambda: True) -> Iterator[T]:
        """Send a call and yield the server-sent events of its answer, each read by `read`.

        `wanted` is asked at each piece of the answer; the stream ends when it returns False. The services send a
        comment every 15 s, so a thread that waits for an event ends within that time.
        """
        with self.stream(call) as response:
            assert isinstance(response.stream, httpx.SyncByteStream)
            response.stream = _WhileWanted(response.stream, wanted)
            for event in EventSource(response).iter_sse():
                if (value := read(event)) is not None:
                    yield value

    def _answer(self, call: Call[Any], *, stream: bool) -> httpx.Response:
        attempts = self.connection.attempts(call)
        while True:
            outcome = self._send(call, stream=stream)
            if (pause := attempts.pause_after(outcome)) is None:
                return self.connection.checked(call, outcome)
            self.sleep(pause)

    def _send(self, call: Call[Any], *, stream: bool) -> httpx.Response | Exception:
        http = self._http[call.service]
        try:
            with self.connection.request(http, call) as request:
                response = http.send(request, stream=stream)
                if not response.is_success:
                    response.read()
                return response
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            return exc


class _WhileWanted(httpx.SyncByteStream):
    """The body of a response, which ends when a piece comes that is not wanted any more."""

    def __init__(self, stream: httpx.SyncByteStream, wanted: Callable[[], bool]) -> None:
        self._stream = stream
        self._wanted = wanted

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            if not self._wanted():
                return
            yield piece

    def close(self) -> None:
        self._stream.close()


class AsyncWire:
    """Does what `Wire` does, without blocking the event loop."""

    def __init__(
        self,
        connection: Connection,
        transport: httpx.AsyncBaseTransport | None,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.connection = connection
        self.clock = connection.clock
        self.sleep = sleep
        self._http = {
            service: httpx.AsyncClient(transport=transport, **connection.pool(service)) for service in connection.urls
        }

    async def close(self) -> None:
        """Close the connections."""
        async with AsyncExitStack() as stack:
            for http in self._http.values():
                stack.push_async_callback(http.aclose)

    async def do(self, call: Call[T]) -> T:
        """Send a call and return its value. Raises `ApiError`."""
        return self.connection.read(call, await self._answer(call, stream=False))

    async def items(self, page_at: PageAt[T]) -> AsyncIterator[T]:
        """Yield the items of a list, page after page."""
        page = await self.do(page_at(None))
        for item in page.items:
            yield item
        while page.next_cursor is not None:
            page = await self.do(page_at(page.next_cursor))
            for item in page.items:
                yield item

    @asynccontextmanager
    async def stream(self, call: Call[Any]) -> AsyncIterator[httpx.Response]:
        """Send a call and open its answer, to read it piece by piece within the block. Raises `ApiError`."""
        response = await self._answer(call, stream=True)
        try:
            with self.connection.reading(call, response):
                yield response
        finally:
            await response.aclose()

    async def events(self, call: Call[Any], read: ReadEvent[T]) -> AsyncGenerator[T, None]:
        """Send a call and yield the server-sent events of its answer, each read by `read`."""
        async with self.stream(call) as response, aclosing(EventSource(response).aiter_sse()) as events:
            async for event in events:
                if (value := read(event)) is not None:
                    yield value

    async def _answer(self, call: Call[Any], *, stream: bool) -> httpx.Response:
        attempts = self.connection.attempts(call)
        while True:
            outcome = await self._send(call, stream=stream)
            if (pause := attempts.pause_after(outcome)) is None:
                return self.connection.checked(call, outcome)
            await self.sleep(pause)

    async def _send(self, call: Call[Any], *, stream: bool) -> httpx.Response | Exception:
        http = self._http[call.service]
        try:
            with self.connection.request(http, call) as request:
                response = await http.send(request, stream=stream)
                if not response.is_success:
                    await response.aread()
                return response
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            return exc
