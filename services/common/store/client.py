"""The chunk store: Milvus, a real server or Milvus Lite.

Everything in it can be rebuilt from the ledger and the originals. Counts and listings decide what happens next, so they
ask for strong consistency; the default may be seconds behind. Rows are upserted and never inserted: to insert a key
that exists would make a second row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhiwen.common.errors import Unavailable
from zhiwen.common.models import Generation, Hit, IndexSpec
from zhiwen.common.store.aliases import Aliases
from zhiwen.common.store.capabilities import Capabilities, require_full_text
from zhiwen.common.store.connection import Connection, import_scipy
from zhiwen.common.store.index_specs import fitted_search
from zhiwen.common.store.rows import (
    OUTPUT,
    STRONG,
    ChunkKey,
    ChunkRow,
    Nearest,
    SparseVector,
    VectorSearch,
    index_params_of,
    of_document,
    quoted,
    schema_of,
    similarities,
    to_hit,
    to_row,
    with_ids,
)
from zhiwen.common.store.search_calls import calls_of

UPSERT_ROWS = 256
PAGE = 1000

Ranking = dict[str, float]
"""Scores by chunk id, best first. `parse_chunk_id` gives the document of an id; `ChunkStore.hits` reads the chunks."""


class ChunkStore:
    """Collections of chunks. Thread-safe. It connects at its first use, and again after the connection was lost.

    Every method raises what `Connection` raises.
    """

    def __init__(self, url: str, *, token: str = "", timeout: float = 30.0) -> None:
        """`url` is Milvus's address, or `unix:/path`. One call may take `timeout` seconds."""
        self.url = url
        self._timeout = timeout
        self._connection = Connection(url, token, timeout)
        self._aliases = Aliases(self._connection, timeout)

    def ping(self) -> None:
        """Raise `Unavailable` unless Milvus answers."""
        self._connection.call(lambda client: client.list_collections(timeout=3))

    def capabilities(self) -> Capabilities:
        """Return the capabilities of the server. The server is asked once."""
        return self._connection.capabilities()

    def close(self) -> None:
        """Close the connection to Milvus."""
        self._connection.close()

    # Collections

    def create(self, collection: str, dimension: int, index: IndexSpec) -> None:
        """Create a collection with its indexes, and load it. A collection that exists is not changed."""
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
        """Drop a collection, if it exists. Its aliases go first: Milvus keeps a collection that has any."""

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
        """Write rows; each replaces the row with its id. Raises `ServiceError` (`bad-vector`) for NaN or infinity."""
        sparse = self.capabilities().sparse
        import_scipy()
        for start in range(0, len(rows), UPSERT_ROWS):
            self._upsert(collection, [to_row(row, sparse=sparse) for row in rows[start : start + UPSERT_ROWS]])

    def _upsert(self, collection: str, data: list[dict[str, Any]]) -> None:
        self._connection.call_loaded(collection, lambda client: client.upsert(collection, data, timeout=self._timeout))

    def flush(self, collection: str) -> None:
        """Seal the written rows, so that searches are fast. Rows are durable even before this."""
        self._connection.call(lambda client: client.flush(collection, timeout=self._timeout))

    def delete(self, collection: str, document_id: str, version: int | None = None) -> None:
        """Delete the chunks of a document, or of one version of it, and check by a count that none is left.

        Raises `Unavailable` (`delete-not-visible`) if some are still counted; the caller tries again.
        """
        expression = of_document(document_id, version)
        self._connection.call_loaded(
            collection, lambda client: client.delete(collection, filter=expression, timeout=self._timeout)
        )
        if left := self.count(collection, document_id, version):
            raise Unavailable("delete-not-visible", f"{left} deleted chunks are still visible.")

    # Reading

    def count(self, collection: str, document_id: str | None = None, version: int | None = None) -> int:
        """Return the number of rows of a collection, a document, or one version of it. Strongly consistent."""
        expression = of_document(document_id, version) if document_id else ""
        rows = self._connection.call_loaded(
            collection, lambda client: self._query(client, collection, expression, ["count(*)"], limit=None)
        )
        return int(rows[0]["count(*)"])

    def chunks(self, collection: str, document_id: str, version: int, *, first: int, count: int) -> list[Hit]:
        """Return the chunks of a version of a document in a collection, in order.

        They are the chunks with the ordinals `first` to `first + count - 1`, as far as they exist. `document_id` and
        `version` name the version.
        """
        expression = f"{of_document(document_id, version)} and ordinal >= {first} and ordinal < {first + count}"
        rows = self._connection.read(
            collection, lambda client: self._query(client, collection, expression, OUTPUT, limit=count)
        )
        return sorted((to_hit(row, 1.0) for row in rows), key=lambda hit: hit.ordinal)

    def keys(self, collection: str) -> Iterator[ChunkKey]:
        """Yield the key of every row in order of id. Strongly consistent."""
        last = ""
        fields = ["id", "document_id", "version", "ordinal"]
        while page := self._page(collection, f"id > {quoted(last)}", fields):
            for row in page:
                yield ChunkKey(row["id"], row["document_id"], int(row["version"]), int(row["ordinal"]))
            last = page[-1]["id"]

    def vectors(self, collection: str) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Yield the ids of all rows in order, page by page, with their vectors `(rows, dimension) float32`."""
        last = ""
        while page := self._page(collection, f"id > {quoted(last)}", ["id", "dense"]):
            yield _vectors_of(page)
            last = page[-1]["id"]

    def vectors_of(self, collection: str, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Return the ids and vectors of the rows with these ids, at most `PAGE`, as `vectors` does."""
        return _vectors_of(self._page(collection, with_ids(ids), ["id", "dense"]))

    def _page(self, collection: str, expression: str, fields: Sequence[str]) -> list[dict[str, Any]]:
        """Return at most `PAGE` rows in order of id."""
        rows = self._connection.call_loaded(
            collection, lambda client: self._query(client, collection, expression, fields, limit=PAGE)
        )
        return sorted(rows, key=lambda row: str(row["id"]))

    def _query(
        self, client: Any, collection: str, expression: str, fields: Sequence[str], *, limit: int | None
    ) -> Sequence[dict[str, Any]]:
        """Return the given fields of the rows that an expression selects. Strongly consistent."""
        limits = {} if limit is None else {"limit": limit}
        rows: Sequence[dict[str, Any]] = client.query(
            collection,
            filter=expression,
            output_fields=fields,
            consistency_level=STRONG,
            timeout=self._timeout,
            **limits,
        )
        return rows

    # Searching

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
        """Return the `limit` chunks of a `generation` nearest to `vector`, a unit vector `(dimension,) float32`.

        A score is the cosine similarity; a negative one counts as 0. All vectors have length 1, so all three metrics
        rank alike and convert to the cosine exactly. `expression` selects chunks in Milvus's filter language. `params`
        replace search parameters of the generation's index. A `strong` search sees everything that was written before
        it; otherwise a server may be seconds behind.
        """
        index = generation.index
        ids, distances = self._nearest(
            VectorSearch(
                generation.collection,
                "dense",
                np.asarray(vector, dtype=np.float32),
                index.metric,
                fitted_search(index, params or {}, limit),
                limit,
                expression,
                strong,
            )
        )
        return dict(zip(ids, similarities(distances, index.metric), strict=True))

    def search_sparse(
        self,
        generation: Generation,
        vector: SparseVector,
        *,
        limit: int,
        expression: str = "",
        strong: bool = False,
    ) -> Ranking:
        """Return the `limit` chunks of a `generation` with the largest inner product with `vector`: their score.

        `expression` and `strong` are as in `search_dense`. Raises `InvalidRequest` (`full-text-not-available`) if the
        server has no sparse vectors.
        """
        require_full_text(self.capabilities())
        if not vector:
            return {}
        ids, products = self._nearest(
            VectorSearch(
                generation.collection, "sparse", vector, "IP", {"drop_ratio_search": 0.0}, limit, expression, strong
            )
        )
        return dict(zip(ids, products, strict=True))

    def _nearest(self, search: VectorSearch) -> Nearest:
        return self._connection.read(
            search.collection, lambda client: calls_of(client).nearest(search, timeout=self._timeout)
        )

    def hits(self, collection: str, ranking: Ranking) -> list[Hit]:
        """Return the hits of a ranking, in its order. Chunks that are gone are left out.

        A search may find rows that the next read does not see yet. So chunks that seem to be gone are read again with
        strong consistency.
        """
        found = self._rows(collection, ranking)
        if missing := [id for id in ranking if id not in found]:
            found |= self._rows(collection, missing, strong=True)
        return [to_hit(found[id], score) for id, score in ranking.items() if id in found]

    def _rows(self, collection: str, ids: Iterable[str], *, strong: bool = False) -> dict[str, Mapping[str, Any]]:
        wanted = list(ids)
        if not wanted:
            return {}
        rows = self._connection.read(
            collection,
            lambda client: calls_of(client).rows(collection, wanted, strong=strong, timeout=self._timeout),
        )
        return {row["id"]: row for row in rows}

    # Aliases

    def point_alias(self, name: str, collection: str) -> None:
        """Point the alias of a knowledge base to a collection, if the server has aliases."""
        self._aliases.point(name, collection)

    def aliases(self, collection: str) -> list[str]:
        """Return the aliases of a collection; an empty list if the server has no aliases."""
        return self._aliases.of(collection)


def _vectors_of(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], NDArray[np.float32]]:
    if not rows:
        return [], np.empty((0, 0), np.float32)
    return [row["id"] for row in rows], np.array([row["dense"] for row in rows], np.float32)
