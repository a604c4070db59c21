"""The chunk store: Milvus, a real server or Milvus Lite.

It holds what can be rebuilt from ledger and originals at any time. Reads that decide something (counts, listings)
ask for strong consistency: the default may be seconds stale. Only upserts write: inserting an existing key doubles it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhiwen.common.errors import Unavailable
from zhiwen.common.models import Generation, Hit, IndexSpec
from zhiwen.common.store import milvus_messages
from zhiwen.common.store.aliases import Aliases
from zhiwen.common.store.capabilities import Capabilities, require_full_text
from zhiwen.common.store.connection import Connection
from zhiwen.common.store.index_specs import fitted_search
from zhiwen.common.store.rows import (
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

STRONG = "Strong"
UPSERT_ROWS = 256
PAGE = 1000

Ranking = dict[str, float]
"""Scores by chunk id, best first. `parse_chunk_id` says whose chunk it is; `ChunkStore.hits` brings the rest."""


class ChunkStore:
    """Collections of chunks. Thread-safe; connects when first used and again after a loss.

    Raises what its `Connection` raises.
    """

    def __init__(self, url: str, *, token: str = "", timeout: float = 30.0) -> None:
        self.url = url
        self._timeout = timeout
        self._connection = Connection(url, token, timeout)
        self._aliases = Aliases(self._connection, timeout)

    def ping(self) -> None:
        """Raise `Unavailable` unless Milvus answers."""
        self._connection.call(lambda client: client.list_collections(timeout=3))

    def capabilities(self) -> Capabilities:
        """Ask the server, once, what it can do."""
        return self._connection.capabilities()

    def close(self) -> None:
        self._connection.close()

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

        self._connection.call(create)

    def drop(self, collection: str) -> None:
        """Remove a collection, if it is there, with its aliases: one that has any cannot be dropped."""

        def drop(client: Any) -> None:
            self._aliases.drop(client, collection)
            client.drop_collection(collection, timeout=self._timeout)

        self._connection.call(drop)
        self._connection.forget_collection(collection)

    def collections(self) -> list[str]:
        """Return the names of all collections."""
        return list(self._connection.call(lambda client: client.list_collections(timeout=self._timeout)))

    # Writing

    def upsert(self, collection: str, rows: Sequence[ChunkRow]) -> None:
        """Write rows; the same ids again replace them. Raises `ServiceError` (`bad-vector`) for NaN or infinity."""
        sparse = self.capabilities().sparse
        for start in range(0, len(rows), UPSERT_ROWS):
            self._upsert(collection, [to_row(row, sparse=sparse) for row in rows[start : start + UPSERT_ROWS]])

    def _upsert(self, collection: str, data: list[dict[str, Any]]) -> None:
        self._connection.on(collection, lambda client: client.upsert(collection, data, timeout=self._timeout))

    def flush(self, collection: str) -> None:
        """Seal what was written, so that searches are fast. Written rows are durable without it."""
        self._connection.call(lambda client: client.flush(collection, timeout=self._timeout))

    def delete(self, collection: str, document_id: str, version: int | None = None) -> None:
        """Delete the chunks of a document, of one version if given, and verify with a strong count that none is left.

        Raises `Unavailable` (`delete-not-visible`) when some still are: try again.
        """
        expression = of_document(document_id, version)
        self._connection.on(
            collection, lambda client: client.delete(collection, filter=expression, timeout=self._timeout)
        )
        if left := self.count(collection, document_id, version):
            raise Unavailable("delete-not-visible", f"{left} deleted chunks are still visible.")

    # Reading

    def count(self, collection: str, document_id: str | None = None, version: int | None = None) -> int:
        """Return the number of rows, strongly consistent."""
        expression = of_document(document_id, version) if document_id else ""
        rows = self._connection.on(
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
        rows = self._connection.reading(
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
        rows = self._connection.on(
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
        rows = self._connection.on(
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
        self, collection: str, field: str, vector: NDArray[np.float32] | SparseVector, **options: Any
    ) -> tuple[Sequence[str], Sequence[float]]:
        """Return ids and distances only: rows are decoded for the few hits that are shown (`hits`)."""
        return self._connection.reading(
            collection,
            lambda client: milvus_messages.search(client, collection, field, vector, timeout=self._timeout, **options),
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
        rows = self._connection.reading(
            collection,
            lambda client: milvus_messages.rows(
                client, collection, f"id in [{expression}]", OUTPUT, strong=strong, timeout=self._timeout
            ),
        )
        return {row["id"]: row for row in rows}

    # Aliases

    def point_alias(self, name: str, collection: str) -> None:
        """Let a knowledge base's alias mean `collection`, where the server has aliases."""
        self._aliases.point(name, collection)

    def aliases(self, collection: str) -> list[str]:
        """Return the aliases of a collection, none where the server has no aliases."""
        return self._aliases.of(collection)
