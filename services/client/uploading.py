"""Adds many files: cuts them into batches, retries refused batches, and records the outcome of each file.

The clients send the uploads that `Adding` returns, and tell it the results. Nothing here does I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel

from zhiwen.client.calls import Call, upload_documents
from zhiwen.client.errors import ApiError, TooManyRequestsError
from zhiwen.client.files import LocalFile, Meter, Source, batches
from zhiwen.client.following import DocumentEvent, Watcher
from zhiwen.client.options import OnDuplicate
from zhiwen.common.api.documents import ErrorOut, UploadItem
from zhiwen.common.api.fields import FROM_SERVICE, OrNewer
from zhiwen.common.models import SETTLED, DocumentStatus

TRIES_WHEN_FULL: Final = 20
WAIT_WHEN_FULL: Final = 5.0
"""Seconds to wait for a full queue, if the service does not say how long."""
LONGEST_WAIT: Final = 60.0
"""Most seconds to wait for a full queue, whatever the service says."""
Outcome = Annotated[
    Literal["created", "replaced", "unchanged", "duplicate", "rejected", "failed", "cancelled"], OrNewer
]


class AddedDocument(BaseModel):
    """The outcome of one file: that of the upload, or `failed` or `cancelled` when its indexing ended so."""

    name: str
    outcome: Outcome
    id: str | None = None
    version: int | None = None
    status: str | None = None
    chunks: int | None = None
    error: ErrorOut | None = None
    duplicate_of: str | None = None


class Adding:
    """The state of adding files to one knowledge base. `results` has a document for each file that was sent."""

    def __init__(
        self,
        kb: str,
        files: Iterable[Source],
        watcher: Watcher,
        *,
        metadata: Mapping[str, Any] | None,
        on_duplicate: OnDuplicate,
    ) -> None:
        """Cut `files` for the knowledge base `kb` into batches.

        `watcher` is told about the progress. `metadata` and `on_duplicate` are sent with each batch.
        """
        self.results: list[AddedDocument] = []
        self._kb = kb
        self._watcher = watcher
        self._meter = Meter(watcher.uploaded)
        self._metadata = metadata
        self._on_duplicate: OnDuplicate = on_duplicate
        self._documents: dict[str, AddedDocument] = {}
        self._batches = deque(batches(files))
        self._tries_left = TRIES_WHEN_FULL
        watcher.uploading(sum(file.size for batch in self._batches for file in batch))

    def next_upload(self) -> Call[list[UploadItem]] | None:
        """Return the upload of the next batch, or None when all batches are sent."""
        if not self._batches:
            return None
        return upload_documents(
            self._kb,
            self._batches[0],
            metadata=self._metadata,
            on_duplicate=self._on_duplicate,
            meter=self._meter,
        )

    def accepted(self, items: Iterable[UploadItem]) -> None:
        """Record the results of a batch that the service accepted."""
        self._meter.keep()
        self._go_on()
        for item in items:
            added = AddedDocument.model_validate(item, from_attributes=True, context=FROM_SERVICE)
            self.results.append(added)
            if added.id and added.outcome not in {"rejected", "duplicate"}:
                self._documents[added.id] = added

    def refused(self, exc: ApiError | OSError) -> float:
        """Record that the batch was refused, and return the seconds to wait before the next upload.

        When the queue is full, the batch is sent again later. A batch with a bad file is sent again file by file, so
        that the other files are not affected. Any other error is raised again.
        """
        self._meter.restart()
        if isinstance(exc, TooManyRequestsError) and self._tries_left > 1:
            self._tries_left -= 1
            pause = min(exc.retry_after or WAIT_WHEN_FULL, LONGEST_WAIT)
            self._watcher.waiting(exc.detail, pause)
            return pause
        if not _blames_a_file(exc):
            raise exc
        batch = self._go_on()
        if len(batch) == 1:
            self.results.append(_rejected(batch[0], exc))
        else:
            self._batches.extendleft([file] for file in reversed(batch))
        return 0.0

    def _go_on(self) -> list[Source]:
        self._tries_left = TRIES_WHEN_FULL
        return self._batches.popleft()

    def unsettled(self) -> list[str]:
        """Return the ids of the documents to follow."""
        return [id for id, added in self._documents.items() if not _needs_nothing(added)]

    def unchanged(self) -> list[str]:
        """Return the ids of the documents that were settled before the upload and whose state is not known yet."""
        return [id for id, added in self._documents.items() if _needs_nothing(added)]

    def note(self, event: DocumentEvent) -> None:
        """Record the new state of a document."""
        added = self._documents[event.id]
        added.status = event.status.value
        if event.document is not None:
            added.chunks, added.version = event.document.chunks, event.document.version
        if event.status in {DocumentStatus.FAILED, DocumentStatus.CANCELLED}:
            why = event.document.error if event.document else None
            added.outcome = "failed" if event.status == DocumentStatus.FAILED else "cancelled"
            added.error = why or ErrorOut(code="cancelled", detail="Its indexing was cancelled.")
        elif event.status == DocumentStatus.DELETED:
            added.outcome = "failed"
            added.error = ErrorOut(code="deleted", detail="It was deleted while it was being indexed.")


def _needs_nothing(added: AddedDocument) -> bool:
    return added.outcome == "unchanged" and added.status in SETTLED


def _blames_a_file(exc: ApiError | OSError) -> bool:
    """Return True when one file is at fault and not the request, so that the other files may be accepted."""
    return isinstance(exc, OSError) or exc.status in {413, 415, 422}


def _rejected(source: Source, exc: ApiError | OSError) -> AddedDocument:
    if isinstance(exc, ApiError):
        error = ErrorOut(code=exc.code, detail=exc.detail)
    else:
        place = source.path if isinstance(source, LocalFile) else source.name
        error = ErrorOut(code="file-unreadable", detail=f"{place} cannot be read: {exc.strerror or exc}.")
    return AddedDocument(name=source.name, outcome="rejected", status="rejected", error=error)
