"""HTTP to model servers. Only this module uses aiohttp, and it translates aiohttp's exceptions.

Bodies are sent and received as bytes. Only what the caller reads is held in memory. Nothing is decoded but the
compression of a server that compresses without being asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from zhiwen.llm_gateway.errors import FailureKind, UpstreamFailure
from zhiwen.llm_gateway.upstreams.failures import parse_retry_after

Headers = list[tuple[bytes, bytes]]
"""Headers in ASGI's form, with names in lower case."""

_ERROR_BYTES = 64 * 1024
_LIST_BYTES = 2**20
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"}
)
_OURS = frozenset({"content-length", "content-encoding", "content-type", "date", "server", "x-request-id"})
_NOT_PASSED = _HOP_BY_HOP | _OURS | {"upgrade", "set-cookie", "alt-svc"}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits in seconds: to connect, to the first byte of the answer, and for a silence within it."""

    connect: float
    first_byte: float
    idle: float


class UpstreamResponse:
    """A 2xx response whose first body bytes have arrived. Close it; closing it early ends the call."""

    __slots__ = ("_first", "_idle", "_response", "_timer", "_waits_since")

    def __init__(self, response: aiohttp.ClientResponse, first: bytes, idle: float) -> None:
        self._response = response
        self._first = first
        self._idle = idle
        self._waits_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def content_type(self) -> str:
        """The media type as the server wrote it."""
        return self._response.headers.get("Content-Type", "")

    @property
    def is_event_stream(self) -> bool:
        """True when the body consists of server-sent events."""
        return self.content_type.lower().startswith("text/event-stream")

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._response.status

    def headers(self) -> Headers:
        """Return the end-to-end headers that a client may see, without the content type."""
        return [
            (name.encode("latin-1").lower(), value.encode("utf-8", "surrogateescape"))
            for name, value in self._response.headers.items()
            if name.lower() not in _NOT_PASSED
        ]

    async def next_chunk(self) -> bytes:
        """Return the next bytes as soon as they come, `b""` at the end. Raises `UpstreamFailure`."""
        if self._first:
            first, self._first = self._first, b""
            return first
        loop = asyncio.get_running_loop()
        self._waits_since = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._idle, self._check_idle)
        try:
            with _answer_failures():
                return await self._response.content.readany()
        finally:
            self._waits_since = None

    async def read(self, limit: int) -> bytes:
        """Return the whole body. Raises `UpstreamFailure`, also when it is longer than `limit` bytes."""
        if self._response.content.at_eof():
            first, self._first = self._first, b""
            return first
        parts = []
        size = 0
        while chunk := await self.next_chunk():
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                raise UpstreamFailure(FailureKind.GARBAGE, f"sent an answer of more than {limit} bytes")
        return b"".join(parts)

    async def drain(self, seconds: float = 0.5) -> None:
        """Read the rest after a complete answer, so that the connection can be reused. Gives up after `seconds`."""
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            if not self._response.content.at_eof():
                async with asyncio.timeout(seconds):
                    while await self._response.content.readany():
                        pass

    def close(self) -> None:
        """Keep the connection for reuse if the body was read to its end; otherwise close it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._response.close()

    def _check_idle(self) -> None:
        if self._waits_since is None:  # nobody reads: the client is slow, not the server
            self._timer = None
            return
        loop = asyncio.get_running_loop()
        quiet = loop.time() - self._waits_since
        if quiet < self._idle:
            self._timer = loop.call_later(self._idle - quiet, self._check_idle)
        else:
            self._response.content.set_exception(TimeoutError())


class UpstreamClient:
    """Connections to all model servers. Create and close it within the running event loop."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30, ttl_dns_cache=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"Accept-Encoding": "identity"},
            skip_auto_headers=("User-Agent", "Accept"),
            trust_env=False,
            read_bufsize=2**18,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def post(self, url: URL, body: bytes, headers: Mapping[str, str], timeouts: Timeouts) -> UpstreamResponse:
        """Send one request and return when the first byte of a 2xx body has arrived.

        Raises `UpstreamFailure` otherwise. That of an HTTP error holds the error's body.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect)
        response: aiohttp.ClientResponse | None = None
        try:
            with _opening_failures(timeouts.first_byte):
                async with asyncio.timeout(timeouts.first_byte):
                    response = await self._session.post(
                        url, data=body, headers=headers, timeout=timeout, allow_redirects=False
                    )
                    if not 200 <= response.status < 300:
                        raise await _http_error(response)
                    first = await response.content.readany()
            if not first:
                raise UpstreamFailure(FailureKind.EMPTY, f"answered {response.status} with an empty body")
        except BaseException:
            if response is not None:
                response.close()
            raise
        return UpstreamResponse(response, first, timeouts.idle)

    async def get(self, url: URL, headers: Mapping[str, str], seconds: float) -> tuple[int, bytes]:
        """Return status and body of a GET, for health checks and lists of models. `seconds` is its time limit.

        Raises `UpstreamFailure`.
        """
        with _opening_failures(seconds):
            async with asyncio.timeout(seconds):
                async with self._session.get(url, headers=headers, allow_redirects=False) as response:
                    return response.status, await _read_up_to(response, _LIST_BYTES)


async def _read_up_to(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return at most `limit` bytes of the body."""
    parts: list[bytes] = []
    while limit > 0 and (part := await response.content.read(limit)):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


async def _http_error(response: aiohttp.ClientResponse) -> UpstreamFailure:
    body = b""
    with contextlib.suppress(aiohttp.ClientError):
        body = await _read_up_to(response, _ERROR_BYTES)
    return UpstreamFailure(
        FailureKind.STATUS,
        f"answered {response.status}",
        status=response.status,
        retry_after=parse_retry_after(response.headers.get("Retry-After"), now=time.time()),
        body=body,
    )


@contextlib.contextmanager
def _opening_failures(seconds: float) -> Iterator[None]:
    try:
        yield
    except aiohttp.ConnectionTimeoutError as exc:
        raise UpstreamFailure(FailureKind.CONNECT, "did not accept a connection in time") from exc
    except aiohttp.ClientConnectorError as exc:
        raise UpstreamFailure(FailureKind.CONNECT, "cannot be reached") from exc
    except TimeoutError as exc:
        raise UpstreamFailure(FailureKind.TIMEOUT, f"sent nothing within {seconds:g} s") from exc
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
        raise UpstreamFailure(FailureKind.DISCONNECT, "closed the connection without an answer") from exc
    except aiohttp.ClientPayloadError as exc:
        raise UpstreamFailure(FailureKind.DIED, "broke off within its answer") from exc
    except (aiohttp.ClientError, ValueError) as exc:
        raise UpstreamFailure(FailureKind.GARBAGE, "sent something that is not HTTP") from exc


@contextlib.contextmanager
def _answer_failures() -> Iterator[None]:
    try:
        yield
    except TimeoutError as exc:
        raise UpstreamFailure(FailureKind.IDLE, "fell silent within its answer") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise UpstreamFailure(FailureKind.DIED, "broke off within its answer") from exc
