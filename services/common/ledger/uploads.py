"""Records uploads: an upload creates a document, adds a version to one, or changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from zhiwen.common.errors import Conflict
from zhiwen.common.ledger import lifecycle
from zhiwen.common.ledger.bases import lock_base, read_knowledge_base
from zhiwen.common.ledger.database import Database
from zhiwen.common.ledger.documents import ACTIVE, find_document, queue_indexing, read_document, retry_document
from zhiwen.common.ledger.jobs import add_job, cancel_ingests
from zhiwen.common.ledger.originals import lock_originals
from zhiwen.common.ledger.schema import documents, knowledge_bases, versions
from zhiwen.common.models import Document, JobKind

OnDuplicate = Literal["keep", "skip", "error"]
"""What to do with bytes that another document of the knowledge base already has."""
Outcome = Literal["created", "replaced", "unchanged", "duplicate"]

TRIES = 3
"""How often an upload is recorded anew when another client creates a document of the same name at that moment."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A complete upload: its bytes by their sha256, and what the client says about them."""

    name: str
    sha256: str
    bytes: int
    media_type: str
    metadata: Mapping[str, Any] | None  # None: keep the present metadata


@dataclass(frozen=True, slots=True)
class Recorded:
    """The outcome of an upload; `document` is the document that holds its bytes."""

    outcome: Outcome
    document: Document


class Uploads:
    """Records uploads. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def record(
        self, knowledge_base_id: str, upload: Upload, *, on_duplicate: OnDuplicate, keep_original: Callable[[], None]
    ) -> Recorded:
        """Record an upload and queue its indexing.

        `keep_original` stores the bytes durably. It is called inside the transaction, under the lock that a removal of
        the same bytes takes. Raises `NotFound` when the knowledge base is being dropped, and
        `Conflict` (`duplicate-content`) when another document has the same bytes and `on_duplicate` is `error`.
        """
        for attempt in range(1, TRIES + 1):
            try:
                with self.database.write() as c:
                    return self._record(c, knowledge_base_id, upload, on_duplicate, keep_original)
            except IntegrityError:  # another client has inserted the same name after we looked
                if attempt == TRIES:
                    raise
        raise AssertionError("unreachable")

    def _record(
        self,
        c: Connection,
        knowledge_base_id: str,
        upload: Upload,
        on_duplicate: OnDuplicate,
        keep_original: Callable[[], None],
    ) -> Recorded:
        lock_base(c, knowledge_base_id)
        read_knowledge_base(c, (knowledge_bases.c.id == knowledge_base_id) & ~knowledge_bases.c.deleting)
        in_base = documents.c.knowledge_base_id == knowledge_base_id
        current = find_document(c, in_base & (documents.c.name == upload.name) & ACTIVE, lock=True)
        unchanged = current is not None and _is_unchanged(current, upload)
        if current is not None and unchanged and current.status not in lifecycle.RETRYABLE:
            return Recorded("unchanged", current)
        if current is None and on_duplicate != "keep":
            holder = find_document(c, in_base & (versions.c.sha256 == upload.sha256) & ACTIVE)
            if holder is not None and on_duplicate == "skip":
                return Recorded("duplicate", holder)
            if holder is not None:
                raise _duplicate_of(holder)
        lock_originals(c, self.database.now(), [upload.sha256])
        keep_original()
        now = self.database.now()  # storing the bytes may have taken long
        if current is None:
            return Recorded("created", _create(c, now, knowledge_base_id, upload))
        if unchanged:
            return Recorded("unchanged", retry_document(c, now, current))
        return Recorded("replaced", _replace(c, now, current, upload))


def _is_unchanged(current: Document, upload: Upload) -> bool:
    same_metadata = upload.metadata is None or dict(upload.metadata) == dict(current.metadata)
    return current.sha256 == upload.sha256 and same_metadata


def _duplicate_of(holder: Document) -> Conflict:
    return Conflict(
        "duplicate-content",
        f"The same bytes are already stored as {holder.name}.",
        errors=[{"document_id": holder.id, "name": holder.name}],
    )


def _create(c: Connection, now: float, knowledge_base_id: str, upload: Upload) -> Document:
    document_id = lifecycle.create(c, now, knowledge_base_id, upload.name)
    _insert_version(c, now, document_id, 1, upload, {})
    add_job(c, now, JobKind.INGEST, knowledge_base_id, document_id, version=1)
    return read_document(c, document_id)


def _replace(c: Connection, now: float, current: Document, upload: Upload) -> Document:
    version = current.version + 1
    _insert_version(c, now, current.id, version, upload, current.metadata)
    lifecycle.replace(c, now, current.id, version)
    cancel_ingests(c, current.id)
    if current.version != current.live_version:  # it will never be live, so nothing needs its chunks
        add_job(c, now, JobKind.PURGE, current.knowledge_base_id, current.id, version=current.version)
    queue_indexing(c, now, current, version)
    return read_document(c, current.id)


def _insert_version(
    c: Connection, now: float, document_id: str, version: int, upload: Upload, before: Mapping[str, Any]
) -> None:
    """Write a version's row, which names its bytes. `before` is the metadata of the version that it replaces."""
    metadata = before if upload.metadata is None else upload.metadata
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
