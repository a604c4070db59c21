"""The steps of an upload, from top to bottom: receive, stage, unpack, check, record, wake a worker.

Each step has its own type: a `StagedFile` is complete on disk, an `Upload` has a checked name and media type, a
`Recorded` is in the ledger, and an `UploadItem` tells the client the outcome.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request

from zhiwen.common.api.documents import ErrorOut, UploadItem
from zhiwen.common.errors import DocumentError, InvalidRequest, ServiceError, TooMany, Unsupported
from zhiwen.common.ledger import Ledger, Recorded, Upload
from zhiwen.common.models import KnowledgeBase
from zhiwen.common.names import is_plain
from zhiwen.common.originals import Originals, storage_error
from zhiwen.ingest.parsing import detect_media_type
from zhiwen.ingest.upload.archives import ArchiveLimits, RefusedMember, unpack
from zhiwen.ingest.upload.multipart import receive_form
from zhiwen.ingest.upload.options import UploadOptions, checked_options
from zhiwen.ingest.upload.staging import StagedFile, remove_leftovers, stage_body, staging_folder
from zhiwen.ingest.worker.broker import Broker

HEAD_BYTES = 8192
MAX_NAME_BYTES = 1024  # in UTF-8: fits into an index of PostgreSQL, and is four times the limit of a file name
RETRY_SECONDS = 30
ZIP = "application/zip"


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """The largest file and the largest request (bytes), the limits of a zip, and the number of jobs that may wait."""

    file_bytes: int
    request_bytes: int
    archive: ArchiveLimits
    waiting_jobs: int


@dataclass(frozen=True, slots=True)
class Uploads:
    """Accepts uploads. Once an item is returned, its bytes are durable and the ledger has committed its document.

    `folder` is where the files of requests are staged.
    """

    ledger: Ledger
    originals: Originals
    broker: Broker
    folder: Path
    limits: UploadLimits

    # Receive and stage

    async def accept_form(self, request: Request, base: KnowledgeBase) -> list[UploadItem]:
        """Accept the files of a multipart form. Each has its own item: a bad file never fails the others.

        Raises `TooMany` (`queue-full`), `InvalidRequest` (`no-file`), what `receive_form` and `checked_options` raise,
        and `Unavailable` when the bytes cannot be stored.
        """
        await asyncio.to_thread(self._refuse_when_full)
        async with staging_folder(self.folder) as folder:
            form = await receive_form(
                request, folder, max_file=self.limits.file_bytes, max_request=self.limits.request_bytes
            )
            if not form.files:
                raise InvalidRequest("no-file", "Send at least one file in a field named file.")
            options = checked_options(form.fields.get("metadata"), form.fields.get("on_duplicate"))
            return await asyncio.to_thread(self.accept, base, form.files, options)

    async def accept_body(self, request: Request, base: KnowledgeBase, name: str, options: UploadOptions) -> UploadItem:
        """Accept the raw body of a request as one file under a name. A zip archive is refused.

        Raises `TooMany` (`queue-full`), `InvalidRequest` (`bad-name`, `archive-by-name`), what `stage_body` raises, and
        `Unavailable` when the bytes cannot be stored.
        """
        await asyncio.to_thread(self._refuse_when_full)
        async with staging_folder(self.folder) as folder:
            file = await stage_body(request, folder, checked_name(name), max_bytes=self.limits.file_bytes)
            if await asyncio.to_thread(_is_archive, file):
                raise InvalidRequest("archive-by-name", "A zip holds many documents; upload it with POST.")
            items = await asyncio.to_thread(self.accept, base, [file], options)
        return items[0]

    def _refuse_when_full(self) -> None:
        if self.ledger.jobs.waiting() >= self.limits.waiting_jobs:
            raise TooMany(
                "queue-full",
                "Too many documents are waiting to be indexed; try again later.",
                retry_after=RETRY_SECONDS,
            )

    def remove_leftovers(self) -> None:
        """Remove the staged files of requests whose process was killed."""
        remove_leftovers(self.folder)

    # Unpack, check, record, wake

    def accept(self, base: KnowledgeBase, files: Sequence[StagedFile], options: UploadOptions) -> list[UploadItem]:
        """Record staged files, unpack those that are zips, and wake a worker. Blocking."""
        items = [item for file in files for item in self._accept_file(base, file, options)]
        self.broker.wake()
        return items

    def _accept_file(self, base: KnowledgeBase, file: StagedFile, options: UploadOptions) -> list[UploadItem]:
        try:
            upload = _checked(file, options)
            if upload.media_type == ZIP:
                return list(self._accept_archive(base, file, options))
            return [self._record(base, upload, file.path, options)]
        except ServiceError as exc:
            if not _is_error_of_file(exc):
                raise
            return [_rejected(file.name, exc)]

    def _accept_archive(self, base: KnowledgeBase, archive: StagedFile, options: UploadOptions) -> Iterator[UploadItem]:
        try:
            with _unpacking_folder(archive) as folder:
                for member in unpack(archive.path, folder, self.limits.archive):
                    if isinstance(member, RefusedMember):
                        yield _rejected(member.name, member.error)
                    else:
                        yield self._accept_member(base, member, options)
                        member.path.unlink(missing_ok=True)
        except DocumentError as exc:  # the rest of the archive is refused; the files before it are kept
            yield _rejected(archive.name, exc)

    def _accept_member(self, base: KnowledgeBase, file: StagedFile, options: UploadOptions) -> UploadItem:
        try:
            upload = _checked(file, options)
            if upload.media_type == ZIP:
                raise Unsupported(
                    "nested-archive", f"{upload.name} is an archive inside an archive; upload it by itself."
                )
            return self._record(base, upload, file.path, options)
        except ServiceError as exc:
            if not _is_error_of_file(exc):
                raise
            return _rejected(file.name, exc)

    def _record(self, base: KnowledgeBase, upload: Upload, path: Path, options: UploadOptions) -> UploadItem:
        """Store the bytes at `path`, and then record the upload."""

        def keep_original() -> None:
            if not self.originals.exists(upload.sha256):  # a delete of the same bytes has removed them meanwhile
                self.originals.put(upload.sha256, path)

        self.ledger.originals.expect(upload.sha256)
        self.originals.put(upload.sha256, path)  # the slow part runs outside the transaction
        recorded = self.ledger.uploads.record(
            base.id, upload, on_duplicate=options.on_duplicate, keep_original=keep_original
        )
        return _item(upload, recorded)


def checked_name(name: str) -> str:
    """Return the name of a document without surrounding spaces. Raises `InvalidRequest` (`bad-name`)."""
    cleaned = name.replace("\\", "/").strip().strip("/")
    if not cleaned or not is_plain(cleaned) or len(cleaned.encode()) > MAX_NAME_BYTES:
        raise InvalidRequest(
            "bad-name", f"A document needs a printable name of 1 to {MAX_NAME_BYTES} bytes in UTF-8, such as 手册.pdf."
        )
    return cleaned


def _checked(file: StagedFile, options: UploadOptions) -> Upload:
    name = checked_name(file.name)
    return Upload(name, file.sha256, file.bytes, _media_type(file.path, name), options.metadata)


def _media_type(path: Path, name: str) -> str:
    with path.open("rb") as data:
        return detect_media_type(data.read(HEAD_BYTES), name)


def _is_archive(file: StagedFile) -> bool:
    try:
        return _media_type(file.path, file.name) == ZIP
    except ServiceError:
        return False


@contextmanager
def _unpacking_folder(archive: StagedFile) -> Iterator[Path]:
    """Yield a folder beside the archive, and remove it after the block. An error of the disk is translated."""
    folder = archive.path.with_suffix(".unpacked")
    try:
        folder.mkdir()
        yield folder
    except OSError as exc:
        raise storage_error(exc) from exc
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _item(upload: Upload, recorded: Recorded) -> UploadItem:
    document = recorded.document
    return UploadItem(
        id=document.id,
        name=upload.name,
        status=document.status,
        version=document.version,
        outcome=recorded.outcome,
        duplicate_of=document.name if recorded.outcome == "duplicate" else None,
    )


def _is_error_of_file(error: ServiceError) -> bool:
    """Return whether an error concerns one file. A full disk or an outage ends the whole request instead."""
    return error.status < 500


def _rejected(name: str, error: ServiceError) -> UploadItem:
    return UploadItem(
        id=None,
        name=name,
        status="rejected",
        version=None,
        outcome="rejected",
        error=ErrorOut(code=error.code, detail=error.detail),
    )
