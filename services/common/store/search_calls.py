"""The two calls of every search: find the ids nearest to a vector, and read the rows of the best ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import pymilvus
import structlog

from zhiwen.common.store.rows import OUTPUT, STRONG, Nearest, VectorSearch, with_ids

log = structlog.get_logger(__name__)


class SearchCalls(Protocol):
    """The calls over one connection. A call may take `timeout` seconds, and raises what gRPC or pymilvus raises."""

    def nearest(self, search: VectorSearch, *, timeout: float) -> Nearest:
        """Return the ids of the nearest rows and their distances, nearest first."""

    def rows(self, collection: str, ids: Iterable[str], *, strong: bool, timeout: float) -> Sequence[Mapping[str, Any]]:
        """Return the fields `OUTPUT` of the rows that have these ids, in any order."""


def calls_of(client: Any) -> SearchCalls:
    """Return the fastest available calls over a `MilvusClient`.

    The calls of `milvus_messages` need private names of pymilvus. If one is missing, this is logged once, and the
    public methods of the client are used: they give the same hits and take more CPU time.
    """
    try:
        from zhiwen.common.store.milvus_messages import Messages

        return Messages.over(client)
    except (ImportError, AttributeError) as exc:
        _log_once(str(exc))
        return PublicCalls(client)


@cache
def _log_once(reason: str) -> None:
    log.warning("milvus_searched_by_public_methods", reason=reason, pymilvus=pymilvus.__version__)


@dataclass(frozen=True, slots=True)
class PublicCalls:
    """The `SearchCalls` over the public methods of a `MilvusClient`."""

    client: Any

    def nearest(self, search: VectorSearch, *, timeout: float) -> Nearest:
        (hits,) = self.client.search(
            search.collection,
            [search.vector],
            filter=search.expression,
            limit=search.limit,
            search_params={"metric_type": search.metric, "params": dict(search.params)},
            anns_field=search.field,
            timeout=timeout,
            **_consistency(search.strong),
        )
        return [hit["id"] for hit in hits], [hit["distance"] for hit in hits]

    def rows(self, collection: str, ids: Iterable[str], *, strong: bool, timeout: float) -> Sequence[Mapping[str, Any]]:
        return list(
            self.client.query(
                collection, filter=with_ids(ids), output_fields=OUTPUT, timeout=timeout, **_consistency(strong)
            )
        )


def _consistency(strong: bool) -> dict[str, str]:
    """Return the option for a strong read; without it the consistency level of the collection applies."""
    return {"consistency_level": STRONG} if strong else {}
