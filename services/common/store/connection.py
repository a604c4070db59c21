"""The connection to Milvus: made when it is first used, made again when it was lost, collections loaded on it."""

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

# After a failed connection gRPC pauses up to two minutes, on all channels to the address. With these options a channel
# has its own pause, of a second at most, so that a server that is back is found soon.
GRPC_OPTIONS = {"grpc.use_local_subchannel_pool": 1, "grpc.max_reconnect_backoff_ms": 1000}

CONNECT_SECONDS = 5.0
CONNECT_PAUSE = 1.0
"""Seconds after a failed connection in which none is tried, and calls fail at once."""

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 3.0
"""Seconds between two calls of a busy server, the same as pymilvus has."""

T = TypeVar("T")


@cache
def import_scipy() -> None:
    """Import scipy, where it is installed, before pymilvus does.

    pymilvus executes its modules in the first thread that writes a sparse vector, without Python's import lock. When
    two threads write their first one at the same time, both find scipy half imported, and both writes fail.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("scipy.sparse")


class Connection:
    """Calls functions with a connected `MilvusClient` and translates what they raise. Thread-safe.

    Raises `Unavailable` with `milvus-unavailable` when Milvus does not answer and with `milvus-unauthorized` when it
    refuses the token, `CollectionGone` when the collection does not exist, and `ServiceError` (`milvus-refused`) when
    it refuses the call for another reason.
    """

    def __init__(self, url: str, token: str, timeout: float) -> None:
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs the errors that are translated here
        self._url = url
        self._token = token
        self._timeout = timeout
        self._lock = threading.Lock()
        self._client: Any = None
        self._capabilities: Capabilities | None = None
        self._loaded: set[str] = set()
        self._failure: tuple[float, Exception | None] = (0.0, None)

    def capabilities(self) -> Capabilities:
        """Return what the server can do. It is asked once."""
        if self._capabilities is None:
            self._capabilities = self.call(probe)
        return self._capabilities

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def call(self, function: Callable[[Any], T]) -> T:
        """Return what `function` returns for the client. After a lost connection, the next call makes a new client."""
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
                    # The threads that waited for this one need not wait again, one after the other.
                    self._failure = time.monotonic(), exc
                    raise
                self._failure = 0.0, None
                self._loaded.clear()
            return self._client

    def _forget(self, client: Any) -> None:
        """Let the next call connect anew, unless another thread has done so already."""
        with self._lock:
            if client is None or client is not self._client:
                return
            self._client = None
            self._loaded.clear()
        client.close()

    def call_loaded(self, collection: str, function: Callable[[Any], T]) -> T:
        """Call with the collection loaded, since a restarted server answers only for collections that were loaded."""

        def call(client: Any) -> T:
            if collection not in self._loaded:
                client.load_collection(collection, timeout=self._timeout)
                self._loaded.add(collection)
            return function(client)

        return self.call(call)

    def read(self, collection: str, function: Callable[[Any], T]) -> T:
        """Call what only reads, and more than once where that may help.

        While Milvus is busy, the call is repeated until the timeout. When the connection or the loaded collection was
        lost, it is repeated once. When it had no answer in time, it is not repeated.
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
        """Note that a collection is no longer loaded."""
        self._loaded.discard(collection)
