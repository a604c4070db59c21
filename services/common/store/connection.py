"""The connection to Milvus: made when first used, again after a loss, and with the collections loaded."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from pymilvus import MilvusClient, MilvusException

from zhiwen.common.errors import Unavailable
from zhiwen.common.store.capabilities import Capabilities, is_busy, probe, timed_out, translated

# gRPC shares the pause after a failed connection, up to two minutes, between all channels to an address: ours must not
# wait for it when the server is back.
GRPC_OPTIONS = {"grpc.use_local_subchannel_pool": 1, "grpc.max_reconnect_backoff_ms": 1000}

CONNECT_SECONDS = 5.0
CONNECT_PAUSE = 1.0
"""Seconds after a failed connection in which nobody tries again."""

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 3.0
"""Seconds between two calls of a busy server, as pymilvus has them."""

T = TypeVar("T")


class Connection:
    """Calls functions with pymilvus's client and translates what they raise. Thread-safe.

    Raises `Unavailable` (`milvus-unavailable`) when Milvus does not answer or (`milvus-unauthorized`) takes the token
    for wrong, `ServiceError` (`milvus-refused`) when it refuses the call, `CollectionGone` where that is why.
    """

    def __init__(self, url: str, token: str, timeout: float) -> None:
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs each error that we translate
        self._url = url
        self._token = token
        self._timeout = timeout
        self._lock = threading.Lock()
        self._client: Any = None
        self._capabilities: Capabilities | None = None
        self._loaded: set[str] = set()
        self._failure: tuple[float, Exception | None] = (0.0, None)

    def capabilities(self) -> Capabilities:
        """Ask the server, once, what it can do."""
        if self._capabilities is None:
            self._capabilities = self.call(probe)
        return self._capabilities

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def call(self, function: Callable[[Any], T]) -> T:
        """Call with the client."""
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
                    # Those who waited for this need not find out one after the other.
                    self._failure = time.monotonic(), exc
                    raise
                self._failure = 0.0, None
                self._loaded.clear()
            return self._client

    def _forget(self, client: Any) -> None:
        """Connect anew next time, unless another thread has done so already."""
        with self._lock:
            if client is None or client is not self._client:
                return
            self._client = None
            self._loaded.clear()
        client.close()

    def on(self, collection: str, function: Callable[[Any], T]) -> T:
        """Call with the collection loaded: after a restart a server answers only for loaded ones."""

        def call(client: Any) -> T:
            if collection not in self._loaded:
                client.load_collection(collection, timeout=self._timeout)
                self._loaded.add(collection)
            return function(client)

        return self.call(call)

    def reading(self, collection: str, function: Callable[[Any], T]) -> T:
        """Call what changes nothing: again while Milvus takes no more calls, and once more when the connection or the
        loaded collection was lost."""
        give_up, pause, lost = time.monotonic() + self._timeout, FIRST_PAUSE, False
        while True:
            try:
                return self.on(collection, function)
            except Unavailable as exc:
                busy = is_busy(exc.__cause__)
                if timed_out(exc.__cause__) or (lost and not busy) or time.monotonic() + pause > give_up:
                    raise
                lost = lost or not busy
            if busy:
                time.sleep(pause)
                pause = min(3 * pause, LONGEST_PAUSE)

    def forget_collection(self, collection: str) -> None:
        """Note that a collection is not loaded any more."""
        self._loaded.discard(collection)
