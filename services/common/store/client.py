"""The chunk store: Milvus, a real server or Milvus Lite.

It holds what can be rebuilt from ledger and originals at any time. Reads that decide something (counts, listings)
ask for strong consistency: the default may be seconds stale. Only upserts write: inserting an existing key doubles it.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import grpc
import numpy as np
import structlog
from numpy.typing import NDArray
from pymilvus import MilvusClient, MilvusException

from services.common.errors import ServiceError, Unavailable
from services.common.index_specs import fitted_search
from services.common.models import Generation, Hit, IndexSpec
from services.common.store import wire
from services.common.store.engine import Capabilities, probe, require_full_text, timed_out, translated
from services.common.store.rows import (
    OUTPUT,
    ChunkKey,
    ChunkRow,
    SparseVector,
    index_params_of,
    of_document,
    quoted,
    schema_of,
    similarities,
    to_hit,
    to_row,
)

log = structlog.get_logger(__name__)

STRONG = "Strong"
UPSERT_ROWS = 256
PAGE = 1000
# gRPC shares the pause after a failed connection, up to two minutes, between all channels to an address: ours must not
# wait for it when the server is back.
GRPC_OPTIONS = {"grpc.use_local_subchannel_pool": 1, "grpc.max_reconnect_backoff_ms": 1000}

CONNECT_SECONDS = 5.0
CONNECT_PAUSE = 1.0
"""Seconds after a failed connection in which nobody tries again."""

T = TypeVar("T")

Ranking = dict[str, float]
"""Scores by chunk id, best first. `parse_chunk_id` says whose chunk it is; `ChunkStore.hits` brings the rest."""


class ChunkStore:
    """Collections of chunks. Thread-safe; connects when first used and again after a loss.

    Raises `Unavailable` (`milvus-unavailable`) when Milvus does not answer or (`milvus-unauthorized`) takes the token
    for wrong, `ServiceError` (`milvus-refused`) when it refuses the call, `CollectionGone` where that is why.
    """

    def __init__(self, url: str, *, token: str = "", timeout: float = 30.0) -> None:
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs each error that we translate
        self.url = url
        self._token = token
        self._timeout = timeout
        self._lock = threading.Lock()
        self._client: Any = None
        self._capabilities: Capabilities | None = None
        self._loaded: set[str] = set()
        self._failure: tuple[float, Exception | None] = (0.0, None)

    # Connection

    def ping(self) -> None:
        """Raise `Unavailable` unless Milvus answers."""
        self._call(lambda client: client.list_collections(timeout=3))

    def capabilities(self) -> Capabilities:
        """Ask the server, once, what it can do."""
        if self._capabilities is None:
            self._capabilities = self._call(probe)
        return self._capabilities

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _call(self, function: Callable[[Any], T]) -> T:
        client = None
        try:
            client = self._connected()
            return function(client)
        except (MilvusException, grpc.RpcError, ValueError) as exc:
            error = translated(exc)
            if isinstance(error, Unavailable):
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
                        self.url,
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

    # Collections

    def create(self, collection: str, dimension: int, index: IndexSpec) -> None:
        """Create a collection, its indexes, and load it. An existing one of that name is left as it is."""
        sparse = self.capabilities().sparse

        def create(client: Any) -> None:
            if client.has_collection(collection, timeout=self._timeout):
                return
            client.create_collection(
                collection,
                schema=schema_of(client, dimension, sparse=sparse),
                index_params=index_params_of(client, index, sparse=sparse),
                consistency_level="Bounded",
                timeout=self._timeout,
            )

        self._call(create)

    def drop(self, collection: str) -> None:
        """Remove a collection, if it is there, with its aliases: one that has any cannot be dropped."""
        aliased = self.capabilities().aliases

        def drop(client: Any) -> None:
            if aliased and client.has_collection(collection, timeout=self._timeout):
                for alias in client.list_aliases(collection, timeout=self._timeout).get("aliases", []):
                    client.drop_alias(alias, timeout=self._timeout)
            client.drop_collection(collection, timeout=self._timeout)

        self._call(drop)
        self._loaded.discard(collection)

    def collections(self) -> list[str]:
        """Return the names of all collections."""
        return list(self._call(lambda client: client.list_collections(timeout=self._timeout)))

    def _on(self, collection: str, function: Callable[[Any], T]) -> T:
        """Call with the collection loaded: after a restart a server answers only for loaded ones."""

        def call(client: Any) -> T:
            if collection not in self._loaded:
                client.load_collection(collection, timeout=self._timeout)
                self._loaded.add(collection)
            return function(client)

        return self._call(call)

    def _reading(self, collection: str, function: Callable[[Any], T]) -> T:
        """Call what changes nothing: once more when the connection or the loaded collection was lost."""
        try:
            return self._on(collection, function)
        except Unavailable as exc:
            if timed_out(exc.__cause__):
                raise
            return self._on(collection, function)

    # Writing

    def upsert(self, collection: str, rows: Sequence[ChunkRow]) -> None:
        """Write rows; the same ids again replace them. Raises `ServiceError` (`bad-vector`) for NaN or infinity."""
        sparse = self.capabilities().sparse
        for start in range(0, len(rows), UPSERT_ROWS):
            self._upsert(collection, [to_row(row, sparse=sparse) for row in rows[start : start + UPSERT_ROWS]])

    def _upsert(self, collection: str, data: list[dict[str, Any]]) -> None:
        self._on(collection, lambda client: client.upsert(collection, data, timeout=self._timeout))

    def flush(self, collection: str) -> None:
        """Seal what was written, so that searches are fast. Written rows are durable without it."""
        self._call(lambda client: client.flush(collection, timeout=self._timeout))

    def delete(self, collection: str, document_id: str, version: int | None = None) -> None:
        """Delete the chunks of a document, of one version if given, and verify with a strong count that none is left.

        Raises `Unavailable` (`delete-not-visible`) when some still are: try again.
        """
        expression = of_document(document_id, version)
        self._on(collection, lambda client: client.delete(collection, filter=expression, timeout=self._timeout))
        if left := self.count(collection, document_id, version):
            raise Unavailable("delete-not-visible", f"{left} deleted chunks are still visible.")

    # Reading

    def count(self, collection: str, document_id: str | None = None, version: int | None = None) -> int:
        """Return the number of rows, strongly consistent."""
        expression = of_document(document_id, version) if document_id else ""
        rows = self._on(
            collection,
            lambda client: client.query(
                collection,
                filter=expression,
                output_fields=["count(*)"],
                consistency_level=STRONG,
                timeout=self._timeout,
            ),
        )
        return int(rows[0]["count(*)"])

    def chunks(self, collection: str, document_id: str, version: int, *, first: int, count: int) -> list[Hit]:
        """Return the chunks `first` to `first + count - 1` of a document in order, those that exist."""
        expression = f"{of_document(document_id, version)} and ordinal >= {first} and ordinal < {first + count}"
        rows = self._on(
            collection,
            lambda client: client.query(
                collection,
                filter=expression,
                output_fields=OUTPUT,
                limit=count,
                consistency_level=STRONG,
                timeout=self._timeout,
            ),
        )
        return sorted((to_hit(row, 1.0) for row in rows), key=lambda hit: hit.ordinal)

    def keys(self, collection: str) -> Iterator[ChunkKey]:
        """Yield the key of every row in order of id, strongly consistent."""
        last = ""
        while page := self._keys_after(collection, last):
            yield from page
            last = page[-1].id

    def _keys_after(self, collection: str, last: str) -> list[ChunkKey]:
        rows = self._on(
            collection,
            lambda client: client.query(
                collection,
                filter=f"id > {quoted(last)}",
                output_fields=["id", "document_id", "version", "ordinal"],
                limit=PAGE,
                consistency_level=STRONG,
                timeout=self._timeout,
            ),
        )
        keys = [ChunkKey(r["id"], r["document_id"], int(r["version"]), int(r["ordinal"])) for r in rows]
        return sorted(keys, key=lambda key: key.id)

    def vectors(self, collection: str) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Yield pages of all stored rows in order of id: ids, and their vectors `(rows, dimension) float32`."""
        last = ""
        while page := self._vectors(collection, f"id > {quoted(last)}"):
            yield page
            last = page[0][-1]

    def vectors_of(self, collection: str, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Return the rows of these ids, at most `PAGE`, in order of id, as `vectors` does."""
        return self._vectors(collection, f"id in [{', '.join(map(quoted, ids))}]") or ([], np.empty((0, 0), np.float32))

    def _vectors(self, collection: str, expression: str) -> tuple[list[str], NDArray[np.float32]] | None:
        rows = self._on(
            collection,
            lambda client: client.query(
                collection,
                filter=expression,
                output_fields=["id", "dense"],
                limit=PAGE,
                consistency_level=STRONG,
                timeout=self._timeout,
            ),
        )
        rows = sorted(rows, key=lambda row: str(row["id"]))
        if not rows:
            return None
        return [row["id"] for row in rows], np.array([row["dense"] for row in rows], np.float32)

    def search_dense(
        self,
        generation: Generation,
        vector: NDArray[np.float32],
        *,
        limit: int,
        expression: str = "",
        params: Mapping[str, Any] | None = None,
        strong: bool = False,
    ) -> Ranking:
        """Return the nearest chunks; a score is the cosine similarity, negative ones as 0.

        Stored and asked vectors have length 1, so all three metrics rank alike and convert to the cosine exactly.
        `strong` sees all that is written by now, where a server may else be seconds behind.
        """
        metric = generation.index.metric
        ids, distances = self._search(
            generation.collection,
            "dense",
            np.asarray(vector, dtype=np.float32),
            metric=metric,
            params=fitted_search(generation.index, params or {}, limit),
            limit=limit,
            expression=expression,
            strong=strong,
        )
        return dict(zip(ids, similarities(distances, metric), strict=True))

    def search_sparse(
        self,
        generation: Generation,
        vector: SparseVector,
        *,
        limit: int,
        expression: str = "",
        strong: bool = False,
    ) -> Ranking:
        """Return the chunks with the largest inner product, which is the score; `strong` as in `search_dense`.

        Raises `InvalidRequest` (`full-text-not-available`) where the server has no sparse vectors.
        """
        require_full_text(self.capabilities())
        if not vector:
            return {}
        ids, products = self._search(
            generation.collection,
            "sparse",
            vector,
            metric="IP",
            params={"drop_ratio_search": 0.0},
            limit=limit,
            expression=expression,
            strong=strong,
        )
        return dict(zip(ids, products, strict=True))

    def _search(
        self,
        collection: str,
        field: str,
        vector: NDArray[np.float32] | SparseVector,
        *,
        metric: str,
        params: Mapping[str, Any],
        limit: int,
        expression: str,
        strong: bool,
    ) -> tuple[Sequence[str], Sequence[float]]:
        """Return ids and distances only: rows are decoded for the few hits that are shown (`hits`)."""
        return self._reading(
            collection,
            lambda client: wire.search(
                client,
                collection,
                field,
                vector,
                metric=metric,
                params=params,
                limit=limit,
                expression=expression,
                strong=strong,
                timeout=self._timeout,
            ),
        )

    def hits(self, collection: str, ranking: Ranking) -> list[Hit]:
        """Return the rows of ranked chunks as hits, in this order; those that are gone are left out.

        What a search has found may be newer than what another read sees: chunks that seem gone are asked for again,
        strongly consistent.
        """
        found = self._rows(collection, ranking)
        if missing := [id for id in ranking if id not in found]:
            found |= self._rows(collection, missing, strong=True)
        return [to_hit(found[id], score) for id, score in ranking.items() if id in found]

    def _rows(self, collection: str, ids: Iterable[str], *, strong: bool = False) -> dict[str, Mapping[str, Any]]:
        if not (expression := ", ".join(map(quoted, ids))):
            return {}
        rows = self._reading(
            collection,
            lambda client: wire.rows(
                client, collection, f"id in [{expression}]", OUTPUT, strong=strong, timeout=self._timeout
            ),
        )
        return {row["id"]: row for row in rows}

    # Aliases

    def point_alias(self, name: str, collection: str) -> None:
        """Let a knowledge base's alias mean `collection`, where the server has aliases.

        It is for people who look with Attu, nothing here reads it: when it cannot be pointed, the log says so.
        """

        alias = alias_of(name)

        def point(client: Any) -> None:
            if alias in client.list_aliases(collection, timeout=self._timeout).get("aliases", []):
                return
            try:
                client.alter_alias(collection, alias, timeout=self._timeout)
            except MilvusException:  # there is none of that name, which each engine says in another way
                client.create_alias(collection, alias, timeout=self._timeout)

        try:
            if self.capabilities().aliases:
                self._call(point)
        except ServiceError as exc:
            log.warning("alias_not_pointed", alias=alias, collection=collection, exc_info=exc)

    def aliases(self, collection: str) -> list[str]:
        """Return the aliases of a collection, none where the server has no aliases."""
        if not self.capabilities().aliases:
            return []
        found = self._call(lambda client: client.list_aliases(collection, timeout=self._timeout))
        return list(found.get("aliases", []))


def alias_of(name: str) -> str:
    """Return the alias of a knowledge base: its name, with what Milvus does not take in one written as code points.

    Milvus takes ASCII letters, digits and `_`, at most 255 of them: https://milvus.io/docs/limitations.md
    """
    if len(name) < 255 and re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name):
        return name
    return "_" + "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):x}" for c in name)[:254]
