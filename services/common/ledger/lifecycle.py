"""The status of a document: one function for each change of it.

    create            nothing -> queued
    claim             queued, counted as an attempt
    advance           queued, parsing, embedding, indexing -> parsing, embedding, indexing
    put_off           queued, parsing, embedding, indexing -> queued
    commit            queued, parsing, embedding, indexing -> ready
    fail              queued, parsing, embedding, indexing -> failed
    cancel            queued, parsing, embedding, indexing -> cancelled
    retry             failed, cancelled -> queued
    replace           any but deleting and deleted -> queued
    begin_delete      any but deleting and deleted -> deleting
    finish_delete     deleting -> deleted
    forget_deleted    deleted -> nothing

Every function works in the caller's transaction and changes the document's row alone. The caller has made sure that
the change is allowed: a client's request reads the status under the row's lock, and a worker proves by its fencing
number that it holds the job. The sets below say which status allows which request.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zhiwen.common.ledger.database import new_id
from zhiwen.common.ledger.schema import documents
from zhiwen.common.models import DocumentStatus, Job

RETRYABLE = frozenset({DocumentStatus.FAILED, DocumentStatus.CANCELLED})
CANCELLABLE = frozenset(
    {DocumentStatus.QUEUED, DocumentStatus.PARSING, DocumentStatus.EMBEDDING, DocumentStatus.INDEXING}
)
GONE = frozenset({DocumentStatus.DELETING, DocumentStatus.DELETED})
"""A document that is going away is hidden and does not hold its name."""

TOMBSTONE_SECONDS = 24 * 3600.0
"""How long a deleted document is still shown as deleted."""


# What clients ask for


def create(c: Connection, now: float, knowledge_base_id: str, name: str) -> str:
    """Insert a document in its first version; return its id."""
    document_id = new_id()
    c.execute(
        documents.insert().values(
            id=document_id,
            knowledge_base_id=knowledge_base_id,
            name=name,
            version=1,
            status=DocumentStatus.QUEUED,
            stage_done=0,
            stage_total=0,
            attempts=0,
            created_at=now,
            updated_at=now,
        )
    )
    return document_id


def replace(c: Connection, now: float, document_id: str, version: int) -> None:
    """Give a document a new version; the version that answers goes on answering."""
    _update(c, documents.c.id == document_id, now, version=version, **_from_start(DocumentStatus.QUEUED))


def retry(c: Connection, now: float, document_id: str) -> None:
    """Let the indexing of the newest version begin again."""
    _update(c, documents.c.id == document_id, now, **_from_start(DocumentStatus.QUEUED))


def cancel(c: Connection, now: float, document_id: str) -> None:
    """Stop the indexing of the newest version; the version that answers goes on answering."""
    _update(c, documents.c.id == document_id, now, **_from_start(DocumentStatus.CANCELLED))


def begin_delete(c: Connection, now: float, document_id: str) -> None:
    """Hide a document: from now on no version of it answers."""
    _update(c, documents.c.id == document_id, now, live_version=None, **_from_start(DocumentStatus.DELETING))


# What workers report


def claim(c: Connection, now: float, document_id: str, attempts: int) -> None:
    """Show how many attempts at indexing were begun; the status changes with the first progress."""
    _update(c, documents.c.id == document_id, now, attempts=attempts)


def advance(c: Connection, now: float, job: Job, status: DocumentStatus, done: int, total: int) -> None:
    """Show that the stage `status` has done `done` of `total`: bytes while parsing, chunks after that."""
    _update(c, _version_of(job.document_id, job.version), now, status=status, stage_done=done, stage_total=total)


def put_off(c: Connection, now: float, job: Job, code: str, detail: str) -> None:
    """Let the indexing wait for its next try, and show why: the `code` and sentence of an error."""
    _update(
        c,
        _version_of(job.document_id, job.version),
        now,
        status=DocumentStatus.QUEUED,
        stage_done=0,
        stage_total=0,
        error_code=code,
        error_detail=detail,
    )


def commit(c: Connection, now: float, job: Job, chunks: int) -> None:
    """Let the version that the job indexed answer, with all its chunks."""
    _update(
        c,
        documents.c.id == job.document_id,
        now,
        live_version=job.version,
        status=DocumentStatus.READY,
        stage_done=chunks,
        stage_total=chunks,
        error_code=None,
        error_detail=None,
    )


def fail(c: Connection, now: float, document_id: str, version: int, code: str, detail: str) -> None:
    """End the indexing of a version for good, and show why: the `code` and sentence of an error."""
    _update(
        c,
        _version_of(document_id, version),
        now,
        status=DocumentStatus.FAILED,
        error_code=code,
        error_detail=detail,
    )


def finish_delete(c: Connection, now: float, document_id: str | None) -> None:
    """Report that nothing is left of a document but its row."""
    _update(c, documents.c.id == document_id, now, status=DocumentStatus.DELETED)


def forget_deleted(c: Connection, now: float) -> None:
    """Remove the rows of documents that were deleted more than `TOMBSTONE_SECONDS` ago."""
    c.execute(
        documents.delete().where(
            documents.c.status == DocumentStatus.DELETED, documents.c.updated_at < now - TOMBSTONE_SECONDS
        )
    )


def _from_start(status: DocumentStatus) -> dict[str, Any]:
    """Return the columns of a document that enters `status` with no progress, no error and no attempt."""
    return {
        "status": status,
        "stage_done": 0,
        "stage_total": 0,
        "error_code": None,
        "error_detail": None,
        "attempts": 0,
    }


def _version_of(document_id: str | None, version: int | None) -> sa.ColumnElement[bool]:
    """Fit the document as long as this is its newest version."""
    return (documents.c.id == document_id) & (documents.c.version == version)


def _update(c: Connection, which: sa.ColumnElement[bool], now: float, **columns: Any) -> None:
    c.execute(documents.update().where(which).values(updated_at=now, **columns))
