"""What both clients share: addresses, key, timeouts, retries, building requests, and reading answers.

Nothing here sends anything, so the blocking and the asynchronous client use the same code.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, TypedDict, TypeVar

import httpx
from httpx_sse import SSEError

from zhiwen.client.addresses import Service, is_on_this_machine, url_of
from zhiwen.client.calls import Call
from zhiwen.client.errors import (
    ConnectionLostError,
    connection_lost,
    error_of_exception,
    error_of_response,
    unexpected_answer,
)
from zhiwen.client.retrying import Attempts, RetryPolicy

T = TypeVar("T")

PIECE_BYTES = 64 * 1024
CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=20)
"""Each followed document holds a connection: with httpx's limit of 100, other calls would wait for them to settle."""


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of a client. `Client` explains them."""

    ingest_url: str | None
    query_url: str | None
    gateway_url: str | None
    api_key: str | None
    timeout: float
    long_timeout: float
    connect_timeout: float
    retries: int
    retry_seconds: float
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Connection:
    """Addresses, key, timeouts in seconds, and retries of a client."""

    urls: Mapping[Service, str]
    headers: Mapping[bytes, bytes]
    timeout: httpx.Timeout
    long_timeout: httpx.Timeout
    policy: RetryPolicy
    clock: Callable[[], float]

    @classmethod
    def of(
        cls,
        *,
        ingest_url: str | None = None,
        query_url: str | None = None,
        gateway_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        long_timeout: float = 600.0,
        connect_timeout: float = 5.0,
        retries: int = 2,
        retry_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> Connection:
        """Return the connection for a client's keyword arguments.

        `ingest_url`, `query_url`, `gateway_url`, `api_key`, `timeout`, `long_timeout`, `connect_timeout`, `retries`,
        `retry_seconds` and `clock` are explained in `Client`.
        """
        given: dict[Service, str | None] = {"ingest": ingest_url, "query": query_url, "gateway": gateway_url}
        key = (os.environ.get("ZHIWEN_API_KEY", "") if api_key is None else api_key).strip()
        return cls(
            urls={service: url_of(service, url) for service, url in given.items()},
            headers={b"Authorization": f"Bearer {key}".encode()} if key else {},
            timeout=httpx.Timeout(timeout, connect=connect_timeout),
            long_timeout=httpx.Timeout(long_timeout, connect=connect_timeout),
            policy=RetryPolicy(retries, retry_seconds),
            clock=clock,
        )

    def pool(self, service: Service) -> dict[str, Any]:
        """Return the keyword arguments of httpx's client for one service."""
        of_environment = not is_on_this_machine(self.urls[service])  # a proxy of the environment is not for loopback
        return {
            "headers": dict(self.headers),
            "timeout": self.timeout,
            "trust_env": of_environment,
            "limits": CONNECTIONS,
        }

    def attempts(self, call: Call[Any]) -> Attempts:
        """Start counting the attempts of a call."""
        return Attempts(self.policy, call.is_repeatable, self.clock)

    @contextmanager
    def request(self, http: httpx.Client | httpx.AsyncClient, call: Call[Any]) -> Iterator[httpx.Request]:
        """Build the request of a call, and keep its files open during the block.

        Raises `OSError` when a file cannot be opened, and `httpx.InvalidURL` when the address is not valid.
        """
        call.meter.restart()
        with ExitStack() as opened:
            files = [("file", (f.name, opened.enter_context(f.open(call.meter)))) for f in call.files]
            request = http.build_request(
                call.method,
                self.urls[call.service] + call.path,
                params=call.params or None,
                json=call.json,
                data=call.form or None,
                files=files or None,
                headers=_headers(call),
                timeout=self.long_timeout if call.is_slow else self.timeout,
            )
            if call.content is not None:
                body = _Body(opened.enter_context(call.content.open(call.meter)))
                request = httpx.Request(
                    request.method, request.url, headers=request.headers, stream=body, extensions=request.extensions
                )
            yield request

    def checked(self, call: Call[Any], outcome: httpx.Response | Exception) -> httpx.Response:
        """Return the response of a call that succeeded. Raises `ApiError` for any other outcome."""
        if isinstance(outcome, Exception):
            raise error_of_exception(outcome, call.service, self.urls[call.service]) from outcome
        if not outcome.is_success and outcome.status_code not in call.accepted:
            raise error_of_response(outcome, call.service)
        return outcome

    def read(self, call: Call[T], response: httpx.Response) -> T:
        """Return the value that a response holds. Raises `UnexpectedAnswerError`."""
        try:
            return call.read(response)
        except ValueError as exc:
            raise unexpected_answer(response, call.service) from exc

    @contextmanager
    def reading(self, call: Call[Any], response: httpx.Response) -> Iterator[None]:
        """Translate exceptions that occur while the body of a response is read piece by piece."""
        try:
            yield
        except (SSEError, ValueError) as exc:
            raise unexpected_answer(response, call.service) from exc
        except httpx.HTTPError as exc:
            raise error_of_exception(exc, call.service, self.urls[call.service]) from exc

    def ended_early(self, call: Call[Any]) -> ConnectionLostError:
        """Return the exception for a streamed answer that ended before its last event."""
        return connection_lost(call.service, self.urls[call.service], "the answer ended early")


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The bytes of an open file as the body of a request, for both kinds of client."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._file.read(PIECE_BYTES):
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def _headers(call: Call[Any]) -> dict[str, str]:
    length = {} if call.content is None else {"Content-Length": str(call.content.size)}
    return {**call.headers, **length}
