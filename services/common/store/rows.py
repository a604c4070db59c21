"""Chunks as rows of a collection: the schema, writing and reading a row, and the expressions that select rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType

from zhiwen.common.errors import ServiceError
from zhiwen.common.models import Chunk, Hit, IndexSpec, chunk_id

OUTPUT = ["id", "document_id", "version", "ordinal", "text", "source", "page", "heading", "metadata"]
STRONG = "Strong"
"""The consistency level of a read that sees everything that was written before it."""
LEAST_WEIGHT = 1e-9

SparseVector = Mapping[int, float]
Vector = NDArray[np.float32] | SparseVector
Nearest = tuple[Sequence[str], Sequence[float]]
"""Ids and their distances, nearest first."""


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A chunk to store. `source` is the document's name, and `dense` a unit vector `(dimension,) float32`."""

    document_id: str
    version: int
    chunk: Chunk
    source: str
    metadata: Mapping[str, Any]
    dense: NDArray[np.float32]
    sparse: SparseVector


@dataclass(frozen=True, slots=True)
class ChunkKey:
    """The key of a stored row: its document, version and ordinal. `fsck` compares these."""

    id: str
    document_id: str
    version: int
    ordinal: int


@dataclass(frozen=True, slots=True)
class VectorSearch:
    """A search for the `limit` rows nearest to a vector, among the rows that `expression` selects; empty: all rows.

    `metric` is Milvus's name, and `params` are the search parameters of the index. A `strong` search sees everything
    that was written before it.
    """

    collection: str
    field: str
    vector: Vector
    metric: str
    params: Mapping[str, Any]
    limit: int
    expression: str
    strong: bool


def schema_of(client: Any, dimension: int, *, sparse: bool) -> Any:
    """Return the schema of a collection. `sparse` adds a field for sparse vectors."""
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("document_id", DataType.VARCHAR, max_length=32)
    schema.add_field("version", DataType.INT64)
    schema.add_field("ordinal", DataType.INT64)
    schema.add_field("text", DataType.VARCHAR, max_length=65535)
    schema.add_field("dense", DataType.FLOAT_VECTOR, dim=dimension)
    if sparse:
        schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_field("source", DataType.VARCHAR, max_length=4096)
    schema.add_field("page", DataType.INT64)  # 0 for none: Milvus Lite has no nullable fields
    schema.add_field("heading", DataType.VARCHAR, max_length=4096)
    schema.add_field("metadata", DataType.JSON)
    return schema


def index_params_of(client: Any, index: IndexSpec, *, sparse: bool) -> Any:
    """Return the parameters of a collection's indexes; `sparse` is as in `schema_of`."""
    params = client.prepare_index_params()
    params.add_index("dense", index_type=index.type, metric_type=index.metric, params=dict(index.params))
    if sparse:
        params.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="IP", params={})
    return params


def to_row(row: ChunkRow, *, sparse: bool) -> dict[str, Any]:
    """Return a chunk as a row for Milvus; `sparse` is as in `schema_of`.

    Raises `ServiceError` (`bad-vector`) for NaN or infinity.
    """
    if not np.isfinite(row.dense).all():
        raise ServiceError("bad-vector", "The embedding model returned a vector that is not a number.")
    chunk = row.chunk
    data: dict[str, Any] = {
        "id": chunk_id(row.document_id, row.version, chunk.ordinal),
        "document_id": row.document_id,
        "version": row.version,
        "ordinal": chunk.ordinal,
        "text": chunk.text,
        "dense": row.dense,
        "source": row.source,
        "page": chunk.page or 0,
        "heading": chunk.heading[:1024],
        "metadata": dict(row.metadata),
    }
    if sparse:
        data["sparse"] = dict(row.sparse) or {0: LEAST_WEIGHT}  # Milvus refuses an empty sparse vector
    return data


def to_hit(row: Mapping[str, Any], score: float) -> Hit:
    """Return a row that was read as a hit with this score."""
    return Hit(
        chunk_id=row["id"],
        document_id=row["document_id"],
        version=int(row["version"]),
        ordinal=int(row["ordinal"]),
        source=row["source"],
        page=int(row["page"]) or None,
        heading=row["heading"],
        text=row["text"],
        score=score,
        metadata=row["metadata"],
    )


def similarities(distances: Sequence[float], metric: str) -> list[float]:
    """Return the cosines for distances of unit vectors in a metric; a negative cosine counts as 0."""
    found = np.asarray(distances, np.float64)
    cosines = 1.0 - found / 2.0 if metric == "L2" else found  # |a-b|² = 2 - 2 a·b for unit vectors
    return cast(list[float], np.clip(cosines, 0.0, 1.0).tolist())


def quoted(text: str) -> str:
    """Return `text` as a string literal of Milvus's filter language."""
    return json.dumps(text, ensure_ascii=False)


def with_ids(ids: Iterable[str]) -> str:
    """Return the expression for the rows that have one of these ids."""
    return f"id in [{', '.join(map(quoted, ids))}]"


def of_document(document_id: str, version: int | None) -> str:
    """Return the expression for the chunks of a document, or of one version of it."""
    expression = f"document_id == {quoted(document_id)}"
    return expression if version is None else f"{expression} and version == {int(version)}"
