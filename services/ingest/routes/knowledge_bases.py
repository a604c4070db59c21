"""Routes of knowledge bases."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query, Response

from services.common.access import needs
from services.common.models import KnowledgeBase
from services.common.pages import decode_cursor, encode_cursor
from services.common.prompts import validated_template
from services.common.telemetry import current_request_id
from services.common.web import problems
from services.ingest.routes.dependencies import BaseDep, IngestDep
from services.ingest.schemas import (
    CreateKnowledgeBase,
    KnowledgeBaseOut,
    KnowledgeBasePage,
    UpdateKnowledgeBase,
    knowledge_base_out,
)
from services.ingest.service import Ingest

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


def _shown(ingest: Ingest, base: KnowledgeBase) -> KnowledgeBaseOut:
    return knowledge_base_out(base, ingest.ledger.documents.count(base.id))


@router.post("", status_code=201, responses=problems(409, 503), dependencies=[Depends(needs("admin"))])
def create_knowledge_base(
    ingest: IngestDep, body: Annotated[CreateKnowledgeBase, Body(openapi_examples=CREATE_EXAMPLES)]
) -> KnowledgeBaseOut:
    """Create a knowledge base. 409 `knowledge-base-exists` when the name is taken."""
    return _shown(ingest, ingest.create_knowledge_base(body))


@router.get("", responses=problems(503), dependencies=[Depends(needs("read"))])
def list_knowledge_bases(
    ingest: IngestDep, cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> KnowledgeBasePage:
    """List knowledge bases in order of name."""
    after = decode_cursor(cursor, str)[0] if cursor else ""
    found = ingest.ledger.bases.list(after=after, limit=limit + 1)
    items = [_shown(ingest, base) for base in found[:limit]]
    return KnowledgeBasePage(items=items, next_cursor=encode_cursor([items[-1].name]) if len(found) > limit else None)


@router.get("/{kb}", responses=problems(404, 503), dependencies=[Depends(needs("read"))])
def get_knowledge_base(ingest: IngestDep, base: BaseDep) -> KnowledgeBaseOut:
    """Show one knowledge base, with its number of documents by status."""
    return _shown(ingest, base)


@router.patch("/{kb}", responses=problems(404, 503), dependencies=[Depends(needs("admin"))])
def update_knowledge_base(
    ingest: IngestDep,
    kb: str,
    body: Annotated[
        UpdateKnowledgeBase, Body(openapi_examples={"description": {"value": {"description": "The 2026 edition"}}})
    ],
) -> KnowledgeBaseOut:
    """Change description or prompt template; what is not sent stays."""
    changes = body.model_dump(exclude_unset=True)
    if changes.get("description", "") is None:
        changes["description"] = ""
    if body.prompt_template is not None:
        validated_template(body.prompt_template)
    return _shown(ingest, ingest.ledger.bases.update(kb, changes))


@router.delete("/{kb}", status_code=202, responses=problems(404, 503), dependencies=[Depends(needs("admin"))])
def delete_knowledge_base(ingest: IngestDep, kb: str) -> Response:
    """Hide a knowledge base at once; its chunks, originals and rows are removed in the background."""
    ingest.ledger.bases.begin_drop(kb, request_id=current_request_id())
    ingest.broker.wake(current_request_id())
    return Response(status_code=202)
