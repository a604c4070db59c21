"""The route for searches: the chunks that fit a question best."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request, Response

from zhiwen.common.answering.confidence import confidence
from zhiwen.common.api.questions import SearchBody, SearchOut, TookSearch, hit_out
from zhiwen.common.auth.dependency import Needs
from zhiwen.common.web import problems
from zhiwen.query.api.state import Parts, parts_of
from zhiwen.query.search.request import checked_search

router = APIRouter(prefix="/v1/knowledge-bases/{kb}", tags=["questions"])

EXAMPLES = {
    "plain": {"summary": "The best five", "value": {"query": "年假有几天?"}},
    "filtered": {
        "summary": "One folder, full text only",
        "value": {"query": "annual leave", "mode": "full_text", "filter": {"source": {"prefix": "handbook"}}},
    },
}


@router.post("/search", response_model=SearchOut, responses=problems(404, 503), dependencies=[Depends(Needs("read"))])
async def search(request: Request, kb: str, body: Annotated[SearchBody, Body(openapi_examples=EXAMPLES)]) -> Response:
    """Find the chunks that fit a question best."""
    parts = parts_of(request)
    # One thread does everything, because each change of threads costs a tenth of a search.
    found = await asyncio.to_thread(lambda: _search(parts, kb, body).model_dump_json())
    return Response(found, media_type="application/json")


def _search(parts: Parts, kb: str, body: SearchBody) -> SearchOut:
    """Check the request, search, and return the hits. Blocking."""
    base = parts.ledger.bases.get(kb)
    asked = checked_search(body, base, parts.rules)
    found = parts.retriever.search(base, asked)
    sure = confidence(asked.query, found.hits)
    return SearchOut(
        hits=[hit_out(hit) for hit in found.hits],
        answerable=parts.rules.is_sure(sure, base),
        confidence=round(sure, 4),
        mode=found.mode,
        reranked=found.reranked,
        took_ms=TookSearch(
            embed=round(found.embed_ms, 2), search=round(found.search_ms, 2), total=round(found.total_ms, 2)
        ),
    )
