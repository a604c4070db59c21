"""How a document is read from its rows, and how what a change of it decides on is locked."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zhiwen.common.errors import NotFound
from zhiwen.common.ledger.database import moment
from zhiwen.common.ledger.schema import documents, indexed, jobs, knowledge_bases, versions
from zhiwen.common.models import Document, DocumentStatus, Progress

ACTIVE = documents.c.status.not_in([DocumentStatus.DELETING, DocumentStatus.DELETED])


def document_query(which: sa.ColumnElement[bool] | None = None) -> sa.Select[Any]:
    """Documents joined with their newest version, or with the version that `which` chooses."""
    chosen = versions.c.version == documents.c.version if which is None else which
    shown = documents.outerjoin(versions, (versions.c.document_id == documents.c.id) & chosen)
    in_live_generation = (
        sa.select(indexed.c.chunks)
        .join(knowledge_bases, knowledge_bases.c.live_generation == indexed.c.generation_id)
        .where(indexed.c.document_id == documents.c.id, indexed.c.version == documents.c.version)
        .scalar_subquery()
    )
    return sa.select(
        documents,
        # A deleted document has no version left.
        sa.func.coalesce(versions.c.sha256, "").label("sha256"),
        sa.func.coalesce(versions.c.bytes, 0).label("bytes"),
        sa.func.coalesce(versions.c.media_type, "").label("media_type"),
        versions.c.metadata,
        sa.func.coalesce(in_live_generation, 0).label("chunks"),
    ).select_from(shown)


def to_document(row: Any) -> Document:
    """Return the document of a row of `document_query`."""
    return Document(
        id=row.id,
        knowledge_base_id=row.knowledge_base_id,
        name=row.name,
        version=row.version,
        live_version=row.live_version,
        status=DocumentStatus(row.status),
        progress=Progress(row.status, row.stage_done, row.stage_total),
        chunks=row.chunks,
        bytes=row.bytes,
        sha256=row.sha256,
        media_type=row.media_type,
        metadata=row.metadata or {},
        error_code=row.error_code,
        error_detail=row.error_detail,
        attempts=row.attempts,
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
    )


def read_document(c: Connection, document_id: str) -> Document:
    """Return the document with this id; there must be one."""
    return to_document(c.execute(document_query().where(documents.c.id == document_id)).one())


def find_document(c: Connection, condition: sa.ColumnElement[bool], *, lock: bool = False) -> Document | None:
    """Return the oldest document that fits; `lock`, under the lock of its base, locks its jobs and its row."""
    query = document_query().where(condition).order_by(documents.c.created_at).limit(1)
    row = c.execute(query).one_or_none()
    if row is not None and lock:
        c.execute(sa.select(jobs.c.id).where(jobs.c.document_id == row.id).order_by(jobs.c.id).with_for_update())
        c.execute(sa.select(documents.c.id).where(documents.c.id == row.id).with_for_update())
        row = c.execute(query).one_or_none()
    return to_document(row) if row else None


def owned_document(c: Connection, knowledge_base_id: str, document_id: str, *, lock: bool = False) -> Document:
    """Return a document of a knowledge base; `lock` locks the base, its jobs and its row. Raises `NotFound`."""
    if lock:
        lock_base(c, knowledge_base_id)
    found = find_document(
        c, (documents.c.knowledge_base_id == knowledge_base_id) & (documents.c.id == document_id), lock=lock
    )
    if found is None:
        raise NotFound("document-not-found", f"There is no document with the id {document_id} here.")
    return found


def lock_base(c: Connection, knowledge_base_id: str) -> None:
    """Let one transaction at a time change which versions and jobs the documents of a knowledge base have.

    Every transaction locks in this order, so that none waits in a circle: knowledge base, jobs, documents.
    """
    row = sa.select(knowledge_bases.c.id).where(knowledge_bases.c.id == knowledge_base_id)
    c.execute(row.with_for_update(key_share=True))


def fresh_state(status: DocumentStatus) -> dict[str, Any]:
    """The column values of a document that enters `status` with nothing done and no error."""
    return {
        "status": status,
        "stage_done": 0,
        "stage_total": 0,
        "error_code": None,
        "error_detail": None,
        "attempts": 0,
    }
