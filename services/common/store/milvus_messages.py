"""Milvus's two calls of a search, in its own messages (`milvus.proto` of the repository milvus-io/milvus-proto).

pymilvus builds and takes apart these messages field by field, for every option there is: that costs a search more than
all of retrieval. So here the messages that pymilvus generates are filled and read directly, over its connection. An
error is raised as gRPC or pymilvus has it; nothing is tried again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pymilvus.client.utils import check_status
from pymilvus.grpc_gen.common_pb2 import (
    ConsistencyLevel,
    KeyValuePair,
    PlaceholderGroup,
    PlaceholderType,
    PlaceholderValue,
)
from pymilvus.grpc_gen.milvus_pb2 import QueryRequest, SearchRequest

from zhiwen.common.store.rows import SparseVector

EVENTUALLY = 1
"""A guaranteed timestamp that every server has passed: the collection's own consistency level counts."""


def search(
    client: Any,
    collection: str,
    field: str,
    vector: NDArray[np.float32] | SparseVector,
    *,
    metric: str,
    params: Mapping[str, Any],
    limit: int,
    expression: str,
    strong: bool,
    timeout: float,
) -> tuple[Sequence[str], Sequence[float]]:
    """Return the ids of the nearest rows and their distances, nearest first."""
    options = {
        "anns_field": field,
        "metric_type": metric,
        "topk": str(limit),
        "params": orjson.dumps(dict(params)).decode(),
        "round_decimal": "-1",
        "ignore_growing": "False",
    }
    request = SearchRequest(
        db_name=_database(client),
        collection_name=collection,
        dsl=expression,
        dsl_type=1,  # an expression
        nq=1,
        placeholder_group=_placeholder(vector),
        search_params=[KeyValuePair(key=key, value=value) for key, value in options.items()],
        **_consistency(strong),
    )
    response = _stub(client).Search(request, timeout=timeout)
    check_status(response.status)
    return response.results.ids.str_id.data, response.results.scores


def rows(
    client: Any, collection: str, expression: str, fields: Sequence[str], *, strong: bool, timeout: float
) -> Iterable[dict[str, Any]]:
    """Return the given fields of the rows that an expression matches: texts, integers and JSON."""
    request = QueryRequest(
        db_name=_database(client),
        collection_name=collection,
        expr=expression,
        output_fields=fields,
        **_consistency(strong),
    )
    response = _stub(client).Query(request, timeout=timeout)
    check_status(response.status)
    columns = {field.field_name: _values(field.scalars) for field in response.fields_data}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _stub(client: Any) -> Any:
    return client._get_connection()._stub  # pymilvus has no public name for it


def _database(client: Any) -> str:
    """Return the database that the address names, empty for the default one."""
    return str(client._config.db_name)  # nor for this


def _consistency(strong: bool) -> dict[str, Any]:
    if strong:
        return {"consistency_level": ConsistencyLevel.Strong, "guarantee_timestamp": 0}
    return {"use_default_consistency": True, "guarantee_timestamp": EVENTUALLY}


def _placeholder(vector: NDArray[np.float32] | SparseVector) -> bytes:
    """Return the vector as Milvus reads it: float32, or ascending pairs of uint32 and float32, little endian."""
    if isinstance(vector, Mapping):
        pairs = np.array(sorted(vector.items()), [("term", "<u4"), ("weight", "<f4")])
        value = PlaceholderValue(tag="$0", type=PlaceholderType.SparseFloatVector, values=[pairs.tobytes()])
    else:
        value = PlaceholderValue(tag="$0", type=PlaceholderType.FloatVector, values=[vector.astype("<f4").tobytes()])
    return bytes(PlaceholderGroup(placeholders=[value]).SerializeToString())


def _values(scalars: Any) -> Sequence[Any]:
    match scalars.WhichOneof("data"):
        case "json_data":
            return [orjson.loads(value) for value in scalars.json_data.data]
        case kind:
            return getattr(scalars, kind).data if kind else ()
