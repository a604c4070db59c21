"""How routes get at what the application was built with."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from zhiwen.common.models import KnowledgeBase
from zhiwen.ingest.service import Ingest


def get_ingest(request: Request) -> Ingest:
    """Return the application's `Ingest`."""
    ingest: Ingest = request.app.state.ingest
    return ingest


IngestDep = Annotated[Ingest, Depends(get_ingest)]


def get_base(kb: str, ingest: IngestDep) -> KnowledgeBase:
    """Return the knowledge base named in the path. Raises `NotFound`."""
    return ingest.ledger.bases.get(kb)


BaseDep = Annotated[KnowledgeBase, Depends(get_base)]
