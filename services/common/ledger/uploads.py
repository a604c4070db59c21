"""What becomes of an upload: a new document, a new version of one, the one that is there, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.engine import Connection

from zhiwen.common.errors import Conflict
from zhiwen.common.ledger.bases import read_knowledge_base
from zhiwen.common.ledger.database import new_id
from zhiwen.common.ledger.document_rows import ACTIVE, find_document, fresh_state, lock_base, read_document
from zhiwen.common.ledger.queue import add_job, cancel_ingests
from zhiwen.common.ledger.schema import documents, knowledge_bases, versions
from zhiwen.common.ledger.touching import touch_originals
from zhiwen.common.models import Document, DocumentStatus, JobKind

OnDuplicate = Literal["keep", "skip", "error"]
Outcome = Literal["created", "replaced", "unchanged", "duplicate"]


@dataclass(frozen=True, slots=True)
class Upload:
    """Bytes that have arrived: their identity and what the uploader says about them."""

    name: str
    sha256: str
    bytes: int
    media_type: str
    metadata: Mapping[str, Any] | None  # None: as before


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of an upload; `document` is the one that now stands for it."""

    outcome: Outcome
    document: Document


def record_upload(
    c: Connection,
    clock: Callable[[], float],
    knowledge_base_id: str,
    upload: Upload,
    on_duplicate: OnDuplicate,
    request_id: str | None,
    keep_original: Callable[[], None],
) -> Recorded:
    """Make an upload part of the ledger, in the caller's transaction, and queue its indexing: `Documents.record`.

    `clock` is asked again after `keep_original`, which may take long.
    """
    lock_base(c, knowledge_base_id)
    read_knowledge_base(c, (knowledge_bases.c.id == knowledge_base_id) & ~knowledge_bases.c.deleting)
    same_name = (documents.c.knowledge_base_id == knowledge_base_id) & (documents.c.name == upload.name) & ACTIVE
    current = find_document(c, same_name, lock=True)
    if current is not None and current.sha256 == upload.sha256 and _same_metadata(current, upload):
        if current.status in {DocumentStatus.FAILED, DocumentStatus.CANCELLED}:
            touch_originals(c, clock(), [upload.sha256])
            keep_original()
            current = requeue(c, clock(), current, request_id)
        return Recorded("unchanged", current)
    if current is None and on_duplicate != "keep":
        holder = find_document(
            c,
            (documents.c.knowledge_base_id == knowledge_base_id) & (versions.c.sha256 == upload.sha256) & ACTIVE,
        )
        if holder is not None and on_duplicate == "skip":
            return Recorded("duplicate", holder)
        if holder is not None:
            raise Conflict(
                "duplicate-content",
                f"The same bytes are already here as {holder.name}.",
                errors=[{"document_id": holder.id, "name": holder.name}],
            )
    touch_originals(c, clock(), [upload.sha256])
    keep_original()
    if current is None:
        return Recorded("created", _insert_document(c, clock(), knowledge_base_id, upload, request_id))
    return Recorded("replaced", _insert_version(c, clock(), current, upload, request_id))


def _same_metadata(current: Document, upload: Upload) -> bool:
    return upload.metadata is None or dict(upload.metadata) == dict(current.metadata)


def _insert_document(
    c: Connection, now: float, knowledge_base_id: str, upload: Upload, request_id: str | None
) -> Document:
    document_id = new_id()
    c.execute(
        documents.insert().values(
            id=document_id,
            knowledge_base_id=knowledge_base_id,
            name=upload.name,
            version=1,
            status=DocumentStatus.QUEUED,
            stage_done=0,
            stage_total=0,
            attempts=0,
            created_at=now,
            updated_at=now,
        )
    )
    _insert_version_row(c, document_id, 1, upload, upload.metadata or {}, now)
    add_job(c, now, JobKind.INGEST, knowledge_base_id, document_id, version=1, request_id=request_id)
    return read_document(c, document_id)


def _insert_version(c: Connection, now: float, current: Document, upload: Upload, request_id: str | None) -> Document:
    version = current.version + 1
    metadata = current.metadata if upload.metadata is None else upload.metadata
    _insert_version_row(c, current.id, version, upload, metadata, now)
    c.execute(
        documents.update()
        .where(documents.c.id == current.id)
        .values(version=version, updated_at=now, **fresh_state(DocumentStatus.QUEUED))
    )
    cancel_ingests(c, current.id)
    if current.version != current.live_version:  # it will never be live: nobody needs it any more
        add_job(
            c,
            now,
            JobKind.PURGE,
            current.knowledge_base_id,
            current.id,
            version=current.version,
            request_id=request_id,
        )
    _queue_indexing(c, now, current, version, request_id)
    return read_document(c, current.id)


def _insert_version_row(
    c: Connection, document_id: str, version: int, upload: Upload, metadata: Mapping[str, Any], now: float
) -> None:
    c.execute(
        versions.insert().values(
            document_id=document_id,
            version=version,
            sha256=upload.sha256,
            bytes=upload.bytes,
            media_type=upload.media_type,
            metadata=dict(metadata),
            created_at=now,
        )
    )


def requeue(c: Connection, now: float, document: Document, request_id: str | None) -> Document:
    """Queue the indexing of a document's newest version again."""
    c.execute(
        documents.update()
        .where(documents.c.id == document.id)
        .values(updated_at=now, **fresh_state(DocumentStatus.QUEUED))
    )
    _queue_indexing(c, now, document, document.version, request_id)
    return read_document(c, document.id)


def _queue_indexing(c: Connection, now: float, document: Document, version: int, request_id: str | None) -> None:
    kb = document.knowledge_base_id
    add_job(c, now, JobKind.INGEST, kb, document.id, version=version, request_id=request_id)
