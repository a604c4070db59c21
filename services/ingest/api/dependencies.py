"""The dependencies of routes: the application's parts, and the knowledge base that the path names."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from zhiwen.common.models import KnowledgeBase
from zhiwen.ingest.api.state import Ingest, IngestRequest


def get_ingest(request: IngestRequest) -> Ingest:
    """Return the application's parts."""
    return request.state["ingest"]


IngestDep = Annotated[Ingest, Depends(get_ingest)]


def get_base(kb: str, ingest: IngestDep) -> KnowledgeBase:
    """Return the knowledge base that the path names. Raises `NotFound`."""
    return ingest.ledger.bases.get(kb)


BaseDep = Annotated[KnowledgeBase, Depends(get_base)]
