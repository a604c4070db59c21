"""Routes of knowledge bases."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query, Response

from zhiwen.common.api.cursors import decode_cursor, encode_cursor
from zhiwen.common.api.knowledge_bases import (
    CosinesOut,
    CreateKnowledgeBase,
    KnowledgeBaseOut,
    KnowledgeBasePage,
    UpdateKnowledgeBase,
    knowledge_base_out,
)
from zhiwen.common.auth.dependency import Needs
from zhiwen.common.embedding.background import cosines_of
from zhiwen.common.models import KnowledgeBase
from zhiwen.common.web import problems
from zhiwen.ingest.api.dependencies import BaseDep, IngestDep
from zhiwen.ingest.api.state import Ingest

router = APIRouter(prefix="/v1/knowledge-bases", tags=["knowledge bases"])

CREATE_EXAMPLES = {
    "defaults": {"summary": "Everything by default", "value": {"name": "员工手册"}},
    "chosen": {
        "summary": "Index, metric and chunking chosen",
        "value": {
            "name": "manuals",
            "description": "Manuals of the workshop",
            "index": {"type": "IVF_FLAT", "metric": "IP", "params": {"nlist": 128}, "search": {"nprobe": 16}},
            "chunking": {"size": 200, "overlap": 30},
        },
    },
}

UPDATE_EXAMPLES = {
    "description": {"summary": "Another description", "value": {"description": "The 2026 edition"}},
    "chunking": {"summary": "A rebuild with smaller chunks", "value": {"chunking": {"size": 120, "overlap": 20}}},
}


def _shown(ingest: Ingest, base: KnowledgeBase, cosines: CosinesOut | None = None) -> KnowledgeBaseOut:
    counts = ingest.ledger.documents.count(base.id)
    return knowledge_base_out(base, counts, ingest.ledger.rebuilds.progress(base), cosines)


def _cosines(ingest: Ingest, base: KnowledgeBase) -> CosinesOut | None:
    found = cosines_of(ingest.ledger.samples.of(base.live.id))
    return None if found is None else CosinesOut(**{key: round(value, 6) for key, value in asdict(found).items()})


@router.post("", status_code=201, responses=problems(409, 503), dependencies=[Depends(Needs("admin"))])
def create_knowledge_base(
    ingest: IngestDep, body: Annotated[CreateKnowledgeBase, Body(openapi_examples=CREATE_EXAMPLES)]
) -> KnowledgeBaseOut:
    """Create a knowledge base. 409 `knowledge-base-exists` when the name is taken."""
    return _shown(ingest, ingest.knowledge_bases.create(body))


@router.get("", responses=problems(503), dependencies=[Depends(Needs("read"))])
def list_knowledge_bases(
    ingest: IngestDep, cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> KnowledgeBasePage:
    """List knowledge bases in order of name."""
    after = decode_cursor(cursor, str)[0] if cursor else ""
    found = ingest.ledger.bases.list(after=after, limit=limit + 1)
    items = [_shown(ingest, base) for base in found[:limit]]
    return KnowledgeBasePage(items=items, next_cursor=encode_cursor([items[-1].name]) if len(found) > limit else None)


@router.get("/{kb}", responses=problems(404, 503), dependencies=[Depends(Needs("read"))])
def get_knowledge_base(ingest: IngestDep, base: BaseDep) -> KnowledgeBaseOut:
    """Show one knowledge base, with its number of documents by status."""
    return _shown(ingest, base, _cosines(ingest, base))


@router.patch("/{kb}", responses=problems(404, 409, 503), dependencies=[Depends(Needs("admin"))])
def update_knowledge_base(
    ingest: IngestDep, base: BaseDep, body: Annotated[UpdateKnowledgeBase, Body(openapi_examples=UPDATE_EXAMPLES)]
) -> KnowledgeBaseOut:
    """Change the fields that are sent. All others stay as they are.

    A new embedding model, index or chunking starts a rebuild. Searches use the old index until the new one is complete.
    """
    return _shown(ingest, ingest.knowledge_bases.update(base, body))


@router.delete(
    "/{kb}/rebuild", status_code=202, responses=problems(404, 409, 503), dependencies=[Depends(Needs("admin"))]
)
def cancel_rebuild(ingest: IngestDep, base: BaseDep) -> KnowledgeBaseOut:
    """Give up the running rebuild. The present index stays in use."""
    return _shown(ingest, ingest.knowledge_bases.cancel_rebuild(base))


@router.delete(
    "/{kb}",
    status_code=202,
    responses=problems(404, 503),
    response_class=Response,
    dependencies=[Depends(Needs("admin"))],
)
def delete_knowledge_base(ingest: IngestDep, kb: str) -> Response:
    """Hide a knowledge base at once. Its chunks, originals and rows are removed in the background."""
    ingest.knowledge_bases.drop(kb)
    return Response(status_code=202)
