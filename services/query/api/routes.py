"""The routes of the query API."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Depends, Request, Response
from fastapi import Query as Parameter
from fastapi.responses import StreamingResponse

from zhiwen.common.api.questions import Answer, AskBody, SearchBody, SearchOut, TookSearch, hit_out
from zhiwen.common.api.recall import RecallOut, TookRecall
from zhiwen.common.auth.dependency import Needs
from zhiwen.common.errors import InvalidRequest, TooMany
from zhiwen.common.lexical.bm25 import is_relevant
from zhiwen.common.models import IndexSpec, KnowledgeBase
from zhiwen.common.store.index_specs import validated_search
from zhiwen.common.web import problems
from zhiwen.query.search.filters import compile_filter
from zhiwen.query.search.recall import measure_recall
from zhiwen.query.search.retriever import Search

if TYPE_CHECKING:
    from zhiwen.query.api.app import Query

router = APIRouter(prefix="/v1/knowledge-bases/{kb}", tags=["questions"])

SEARCH_EXAMPLES = {
    "plain": {"summary": "The best five", "value": {"query": "年假有几天?"}},
    "filtered": {
        "summary": "One folder, full text only",
        "value": {"query": "annual leave", "mode": "full_text", "filter": {"source": {"prefix": "handbook"}}},
    },
}
ASK_EXAMPLES = {
    "plain": {"summary": "One answer", "value": {"question": "年假有几天?"}},
    "streamed": {"summary": "As server-sent events", "value": {"question": "年假有几天?", "stream": True}},
}


async def get_base(request: Request, kb: str) -> KnowledgeBase:
    """Return the knowledge base named in the path. Raises `NotFound`."""
    query: Query = request.app.state.query
    return await asyncio.to_thread(query.ledger.bases.get, kb)


BaseDep = Annotated[KnowledgeBase, Depends(get_base)]


@router.post("/search", response_model=SearchOut, responses=problems(404, 503), dependencies=[Depends(Needs("read"))])
async def search(
    request: Request, kb: str, body: Annotated[SearchBody, Body(openapi_examples=SEARCH_EXAMPLES)]
) -> Response:
    """Find the chunks that fit a question best."""
    query: Query = request.app.state.query
    # One thread for all of it: each change of threads costs a tenth of a search.
    found = await asyncio.to_thread(lambda: search_in(query, kb, body).model_dump_json())
    return Response(found, media_type="application/json")


def search_in(query: Query, kb: str, body: SearchBody) -> SearchOut:
    """Do what `search` promises. Blocking."""
    base = query.ledger.bases.get(kb)
    query.answerer.check_question(body.query)
    validated_search(base.live.index, body.params or {})
    found = query.retriever.search(
        base,
        Search(
            query=body.query,
            top_k=body.top_k,
            mode=body.mode,
            fusion=body.fusion,
            expression=compile_filter(body.filter),
            min_score=body.min_score,
            neighbours=body.neighbours,
            params=body.params,
            cross_language=query.answerer.crosses(base, body.cross_language),
            rerank=body.rerank,
        ),
    )
    return SearchOut(
        hits=[hit_out(hit) for hit in found.hits],
        answerable=any(
            is_relevant(body.query, hit.text, hit.score, query.answerer.min_relevance) for hit in found.hits
        ),
        mode=found.mode,
        reranked=found.reranked,
        took_ms=TookSearch(
            embed=round(found.embed_ms, 2), search=round(found.search_ms, 2), total=round(found.total_ms, 2)
        ),
    )


@router.get("/recall", responses=problems(404, 429, 503), dependencies=[Depends(Needs("write"))])
async def recall(
    request: Request,
    base: BaseDep,
    queries: Annotated[int, Parameter(ge=1, le=1000, description="Stored chunks to ask with.")] = 100,
    k: Annotated[int, Parameter(ge=1, le=100, description="Neighbours to ask for.")] = 10,
    params: Annotated[str, Parameter(description='Search parameters to try, as JSON: {"ef": 128}.')] = "{}",
) -> RecallOut:
    """Compare the live index with an exact search over all stored vectors. Reads all of them: one at a time."""
    query: Query = request.app.state.query
    index = base.live.index
    index = replace(index, search={**index.search, **checked_params(index, params)})
    if query.recalling.locked():
        raise TooMany("recall-busy", "Another recall is being measured; try again later.", retry_after=5)
    async with query.recalling:
        live = replace(base.live, index=index)
        found = await asyncio.to_thread(measure_recall, query.store, live, queries=queries, k=k)
    return RecallOut(
        index={"type": index.type, "metric": index.metric, "params": dict(index.params), "search": dict(index.search)},
        chunks=found.chunks,
        queries=found.queries,
        k=k,
        recall=round(found.recall, 4),
        took_ms=TookRecall(p50=round(found.p50_ms, 2), p99=round(found.p99_ms, 2)),
    )


def checked_params(index: IndexSpec, text: str) -> dict[str, Any]:
    """Return search parameters given as JSON. Raises `InvalidRequest` (`bad-search-parameter`)."""
    try:
        params = json.loads(text)
    except (ValueError, RecursionError):
        params = None
    if not isinstance(params, dict):
        raise InvalidRequest("bad-search-parameter", "params must be a JSON object.")
    return validated_search(index, params)


@router.post(
    "/ask",
    response_model=Answer,
    responses={
        **problems(404, 429, 502, 503, 504),
        200: {
            "description": "The answer; with `stream` as server-sent events `sources`, `token`…, `done` (or `error`).",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
    },
    dependencies=[Depends(Needs("read"))],
)
async def ask(
    request: Request, base: BaseDep, body: Annotated[AskBody, Body(openapi_examples=ASK_EXAMPLES)]
) -> Answer | Response:
    """Answer a question from the knowledge base, with numbered sources; refuse when the answer is not there."""
    query: Query = request.app.state.query
    query.answerer.check_question(body.question)
    compile_filter(body.filter)  # what is wrong with a request is answered before a stream begins
    query.retriever.check_rerank(body.rerank)
    if not body.stream:
        return await query.answerer.answer(base, body)
    return StreamingResponse(
        query.answerer.events(base, body),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
