"""The status of a document: one function for each change of status.

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

Every function changes only the document's row, in the transaction of the connection `c`. `now` is the time in seconds
since 1970. The caller has checked that the change is allowed: a client's request reads the status under the lock of the
row, and a worker proves by its fencing number that it holds the job. The sets below say which status allows which
request.
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
"""A document that is being deleted, or is deleted, is hidden, and another document may take its name."""

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
    """Give a document a new version. Its live version stays searchable."""
    _update(c, documents.c.id == document_id, now, version=version, **_from_start(DocumentStatus.QUEUED))


def retry(c: Connection, now: float, document_id: str) -> None:
    """Queue the newest version for indexing once more."""
    _update(c, documents.c.id == document_id, now, **_from_start(DocumentStatus.QUEUED))


def cancel(c: Connection, now: float, document_id: str) -> None:
    """Cancel the indexing of the newest version. The live version stays searchable."""
    _update(c, documents.c.id == document_id, now, **_from_start(DocumentStatus.CANCELLED))


def begin_delete(c: Connection, now: float, document_id: str) -> None:
    """Hide a document: from now on searches find no version of it."""
    _update(c, documents.c.id == document_id, now, live_version=None, **_from_start(DocumentStatus.DELETING))


# What workers report


def claim(c: Connection, now: float, document_id: str, attempts: int) -> None:
    """Set the number of attempts that have begun. The status changes with the first progress."""
    _update(c, documents.c.id == document_id, now, attempts=attempts)


def advance(c: Connection, now: float, job: Job, status: DocumentStatus, done: int, total: int) -> None:
    """Set the progress of the document of `job`: `done` of `total` in the stage `status`.

    The unit is bytes while parsing, and chunks after that.
    """
    _update(c, _version_of(job.document_id, job.version), now, status=status, stage_done=done, stage_total=total)


def put_off(c: Connection, now: float, job: Job, code: str, detail: str) -> None:
    """Queue the document of `job` for its next try, and show why: the error's `code` and its sentence `detail`."""
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
    """Make the version that the job has indexed the live version; `chunks` is the number of its chunks."""
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
    """Mark a `version` of the document `document_id` as failed: the error's `code` and its sentence `detail`."""
    _update(
        c,
        _version_of(document_id, version),
        now,
        status=DocumentStatus.FAILED,
        error_code=code,
        error_detail=detail,
    )


def finish_delete(c: Connection, now: float, document_id: str | None) -> None:
    """Mark a document as deleted: only its row is left."""
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
    """Match the document as long as this is its newest version."""
    return (documents.c.id == document_id) & (documents.c.version == version)


def _update(c: Connection, which: sa.ColumnElement[bool], now: float, **columns: Any) -> None:
    c.execute(documents.update().where(which).values(updated_at=now, **columns))
