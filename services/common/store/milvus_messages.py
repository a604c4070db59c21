"""The two calls of a search as Milvus's own messages: `milvus.proto` of the repository milvus-io/milvus-proto.

`MilvusClient` builds and reads these messages field by field for every possible option, which costs more than the rest
of a search. So this module fills and reads the message classes of pymilvus directly, and sends them over its
connection. Errors of gRPC and pymilvus pass unchanged, and no call is repeated.

The connection and the database are private names of pymilvus, so `pyproject.toml` pins its version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import orjson
from pymilvus.client.utils import check_status
from pymilvus.grpc_gen.common_pb2 import (
    ConsistencyLevel,
    KeyValuePair,
    PlaceholderGroup,
    PlaceholderType,
    PlaceholderValue,
)
from pymilvus.grpc_gen.milvus_pb2 import QueryRequest, SearchRequest

from zhiwen.common.store.rows import OUTPUT, Nearest, Vector, VectorSearch, with_ids

EVENTUALLY: Final = 1
"""A guarantee timestamp that every server has passed, so the consistency level of the collection applies."""
_EXPRESSION: Final = 1  # the `DslType` of a filter


@dataclass(frozen=True, slots=True)
class Messages:
    """The `SearchCalls` of a connection: its gRPC stub, and the name of its database; empty: the default database."""

    stub: Any
    database: str

    @classmethod
    def over(cls, client: Any) -> Self:
        """Return the calls over a `MilvusClient`. Raises `AttributeError` if pymilvus has renamed its private names."""
        return cls(client._get_connection()._stub, str(client._config.db_name))

    def nearest(self, search: VectorSearch, *, timeout: float) -> Nearest:
        options = {
            "anns_field": search.field,
            "metric_type": search.metric,
            "topk": str(search.limit),
            "params": orjson.dumps(dict(search.params)).decode(),
            "round_decimal": "-1",
            "ignore_growing": "False",
        }
        request = SearchRequest(
            db_name=self.database,
            collection_name=search.collection,
            dsl=search.expression,
            dsl_type=_EXPRESSION,
            nq=1,
            placeholder_group=_placeholder(search.vector),
            search_params=[KeyValuePair(key=key, value=value) for key, value in options.items()],
            **_consistency(search.strong),
        )
        response = self.stub.Search(request, timeout=timeout)
        check_status(response.status)
        return response.results.ids.str_id.data, response.results.scores

    def rows(self, collection: str, ids: Iterable[str], *, strong: bool, timeout: float) -> Sequence[Mapping[str, Any]]:
        request = QueryRequest(
            db_name=self.database,
            collection_name=collection,
            expr=with_ids(ids),
            output_fields=OUTPUT,
            **_consistency(strong),
        )
        response = self.stub.Query(request, timeout=timeout)
        check_status(response.status)
        columns = {field.field_name: _values(field.scalars) for field in response.fields_data}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _consistency(strong: bool) -> dict[str, Any]:
    if strong:
        return {"consistency_level": ConsistencyLevel.Strong, "guarantee_timestamp": 0}
    return {"use_default_consistency": True, "guarantee_timestamp": EVENTUALLY}


def _placeholder(vector: Vector) -> bytes:
    """Return the bytes of a vector: float32, or ascending pairs of uint32 and float32, little endian."""
    if isinstance(vector, Mapping):
        pairs = np.array(sorted(vector.items()), [("term", "<u4"), ("weight", "<f4")])
        value = PlaceholderValue(tag="$0", type=PlaceholderType.SparseFloatVector, values=[pairs.tobytes()])
    else:
        value = PlaceholderValue(tag="$0", type=PlaceholderType.FloatVector, values=[vector.astype("<f4").tobytes()])
    return bytes(PlaceholderGroup(placeholders=[value]).SerializeToString())


def _values(scalars: Any) -> Sequence[Any]:
    """Return the values of a column of texts, integers or JSON."""
    match scalars.WhichOneof("data"):
        case "json_data":
            return [orjson.loads(value) for value in scalars.json_data.data]
        case kind:
            return getattr(scalars, kind).data if kind else ()
