"""The route that measures how much of an exact search the live index finds."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from zhiwen.common.api.recall import RecallOut, TookRecall
from zhiwen.common.auth.dependency import Needs
from zhiwen.common.errors import InvalidRequest, TooMany
from zhiwen.common.models import IndexSpec
from zhiwen.common.store.index_specs import validated_search
from zhiwen.common.web import problems
from zhiwen.query.api.state import BaseDep, parts_of
from zhiwen.query.search.recall import measure_recall

router = APIRouter(prefix="/v1/knowledge-bases/{kb}", tags=["questions"])


@router.get("/recall", responses=problems(404, 429, 503), dependencies=[Depends(Needs("write"))])
async def recall(
    request: Request,
    base: BaseDep,
    queries: Annotated[int, Query(ge=1, le=1000, description="Stored chunks to ask with.")] = 100,
    k: Annotated[int, Query(ge=1, le=100, description="Neighbours to ask for.")] = 10,
    params: Annotated[str, Query(description='Search parameters to try, as JSON: {"ef": 128}.')] = "{}",
) -> RecallOut:
    """Compare the live index with an exact search over all stored vectors. One such measurement runs at a time."""
    parts = parts_of(request)
    index = base.live.index
    index = replace(index, search={**index.search, **_checked_params(index, params)})
    if parts.recalling.locked():
        raise TooMany("recall-busy", "Another recall is being measured; try again later.", retry_after=5)
    async with parts.recalling:
        live = replace(base.live, index=index)
        found = await asyncio.to_thread(measure_recall, parts.store, live, queries=queries, k=k)
    return RecallOut(
        index={"type": index.type, "metric": index.metric, "params": dict(index.params), "search": dict(index.search)},
        chunks=found.chunks,
        queries=found.queries,
        k=k,
        recall=round(found.recall, 4),
        took_ms=TookRecall(p50=round(found.p50_ms, 2), p99=round(found.p99_ms, 2)),
    )


def _checked_params(index: IndexSpec, text: str) -> dict[str, Any]:
    """Return search parameters that are given as JSON. Raises `InvalidRequest` (`bad-search-parameter`)."""
    try:
        params = json.loads(text)
    except (ValueError, RecursionError):
        params = None
    if not isinstance(params, dict):
        raise InvalidRequest("bad-search-parameter", "params must be a JSON object.")
    return validated_search(index, params)
