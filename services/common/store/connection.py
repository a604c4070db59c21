"""The connection to Milvus. It opens at its first use, opens again after a loss, and loads collections."""

from __future__ import annotations

import contextlib
import importlib
import logging
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import grpc
from pymilvus import MilvusClient, MilvusException

from zhiwen.common.errors import Unavailable
from zhiwen.common.store.capabilities import Capabilities, is_busy, probe, timed_out, translated

# After a failed connection, gRPC pauses for up to two minutes on all channels to the address. With these options each
# channel has its own pause of at most one second, so a restarted server is found soon.
GRPC_OPTIONS = {"grpc.use_local_subchannel_pool": 1, "grpc.max_reconnect_backoff_ms": 1000}

CONNECT_SECONDS = 5.0
CONNECT_PAUSE = 1.0
"""Seconds after a failed connection in which no new one is tried, and calls fail at once."""

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 3.0
"""Seconds between two calls to a busy server; pymilvus has the same values."""

T = TypeVar("T")


@cache
def import_scipy() -> None:
    """Import scipy, if it is installed, before pymilvus does.

    pymilvus imports scipy in the first thread that writes a sparse vector, without Python's import lock. When two
    threads do so at the same time, both find scipy half imported, and both writes fail.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("scipy.sparse")


class Connection:
    """Calls functions with a connected `MilvusClient` and translates their errors. Thread-safe.

    Raises `Unavailable` (`milvus-unavailable`) when Milvus does not answer, `Unavailable` (`milvus-unauthorized`) when
    it refuses the token, `CollectionGone` when the collection does not exist, and `ServiceError` (`milvus-refused`)
    when it refuses the call for another reason.
    """

    def __init__(self, url: str, token: str, timeout: float) -> None:
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # pymilvus logs errors that we translate
        self._url = url
        self._token = token
        self._timeout = timeout
        self._lock = threading.Lock()
        self._client: Any = None
        self._capabilities: Capabilities | None = None
        self._loaded: set[str] = set()
        self._failure: tuple[float, Exception | None] = (0.0, None)

    def capabilities(self) -> Capabilities:
        """Return the capabilities of the server. The server is asked once."""
        if self._capabilities is None:
            self._capabilities = self.call(probe)
        return self._capabilities

    def close(self) -> None:
        """Close the connection. It opens again at the next call."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def call(self, function: Callable[[Any], T]) -> T:
        """Return the result of `function` for the client. After a lost connection, the next call makes a new client."""
        client = None
        try:
            client = self._connected()
            return function(client)
        except (MilvusException, grpc.RpcError, ValueError) as exc:
            error = translated(exc)
            if isinstance(error, Unavailable) and not is_busy(exc):
                self._forget(client)
            raise error from exc

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                failed_at, failure = self._failure
                if failure is not None and time.monotonic() < failed_at + CONNECT_PAUSE:
                    raise translated(failure)
                try:
                    self._client = MilvusClient(
                        self._url,
                        token=self._token,
                        timeout=min(self._timeout, CONNECT_SECONDS),
                        grpc_options=GRPC_OPTIONS,
                    )
                except (MilvusException, grpc.RpcError, ValueError) as exc:
                    # Threads that wait for this lock fail at once; they do not each try again.
                    self._failure = time.monotonic(), exc
                    raise
                self._failure = 0.0, None
                self._loaded.clear()
            return self._client

    def _forget(self, client: Any) -> None:
        """Drop a lost client, unless another thread has replaced it already. The next call connects again."""
        with self._lock:
            if client is None or client is not self._client:
                return
            self._client = None
            self._loaded.clear()
        client.close()

    def call_loaded(self, collection: str, function: Callable[[Any], T]) -> T:
        """Call `function` after loading the collection: a restarted server answers only for loaded collections."""

        def call(client: Any) -> T:
            if collection not in self._loaded:
                client.load_collection(collection, timeout=self._timeout)
                self._loaded.add(collection)
            return function(client)

        return self.call(call)

    def read(self, collection: str, function: Callable[[Any], T]) -> T:
        """Call a `function` that only reads, on a loaded collection, and repeat it where that may help.

        While Milvus is busy, the call is repeated until the timeout. After the connection or the loaded collection was
        lost, it is repeated once. A call without an answer in time is not repeated.
        """
        give_up, pause, lost = time.monotonic() + self._timeout, FIRST_PAUSE, False
        while True:
            try:
                return self.call_loaded(collection, function)
            except Unavailable as exc:
                busy = is_busy(exc.__cause__)
                if timed_out(exc.__cause__) or (lost and not busy) or time.monotonic() + pause > give_up:
                    raise
                lost = lost or not busy
            if busy:
                time.sleep(pause)
                pause = min(3 * pause, LONGEST_PAUSE)

    def forget_collection(self, collection: str) -> None:
        """Record that a collection is no longer loaded."""
        self._loaded.discard(collection)
