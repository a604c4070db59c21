"""Adding files to a knowledge base: find them, upload them in batches, follow their documents until settled."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from zhiwen.cli.client import Client, LocalFile
from zhiwen.cli.problems import ApiError, Json, Usage, problem
from zhiwen.common.models import SETTLED

BATCH_FILES = 8
BATCH_BYTES = 64 * 1024 * 1024
FOLLOWED_AT_ONCE = 40
POLL_SECONDS = 0.3
PATIENCE_SECONDS = 60.0
STALL_SECONDS = 30.0
TRIES_WHEN_FULL = 20
STAGES = ("parsing", "embedding", "indexing")
_RANK = {"queued": 0, "parsing": 1, "embedding": 2, "indexing": 3}
BAD = frozenset({"failed", "rejected", "cancelled"})


class Watcher(Protocol):
    """Hears how adding goes: a progress bar on a terminal, nothing for a program."""

    def uploading(self, total_bytes: int) -> None: ...
    def uploaded(self, more_bytes: int) -> None: ...
    def following(self, documents: int) -> None: ...
    def stages(self, passed: Mapping[str, float]) -> None: ...
    def say(self, text: str) -> None: ...


@dataclass(slots=True)
class Result:
    """What became of one document. `outcome` is the upload's (`created`, `replaced`, `unchanged`, `duplicate`,
    `rejected`), or `failed` or `cancelled` when indexing ended so."""

    name: str
    outcome: str
    id: str | None = None
    version: int | None = None
    status: str | None = None
    chunks: int | None = None
    error: Json | None = None
    duplicate_of: str | None = None

    def as_json(self) -> Json:
        return {key: getattr(self, key) for key in self.__slots__}


@dataclass(frozen=True, slots=True)
class Adder:
    """Uploads to one knowledge base. `clock` and `sleep` are in seconds."""

    client: Client
    kb: str
    watcher: Watcher
    metadata: Mapping[str, Any] | None = None
    on_duplicate: str = "keep"
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def add(self, files: Sequence[LocalFile], *, wait: bool = True) -> list[Result]:
        """Upload all files and, with `wait`, follow what is not yet settled. Raises `ApiError`."""
        results = self._upload_all(files)
        if wait:
            self._settle(results)
        return results

    def _upload_all(self, files: Sequence[LocalFile]) -> list[Result]:
        self.watcher.uploading(sum(file.size for file in files))
        results: list[Result] = []
        for batch in batches(files):
            results += self._upload(batch)
        return results

    def _upload(self, batch: Sequence[LocalFile]) -> list[Result]:
        """Upload a batch; one that is refused is sent again file by file, so that one file never fails the others."""
        try:
            return [_result(item) for item in self._send(batch)]
        except (ApiError, OSError) as exc:
            if len(batch) == 1 and _blames_the_file(exc):
                return [_rejected(batch[0], exc)]
            if len(batch) == 1 or not _blames_the_file(exc):
                raise
        return [result for file in batch for result in self._upload([file])]

    def _send(self, batch: Sequence[LocalFile]) -> list[Json]:
        for left in reversed(range(TRIES_WHEN_FULL)):
            sent = _Sent(self.watcher)
            try:
                return self.client.upload(
                    self.kb, batch, metadata=self.metadata, on_duplicate=self.on_duplicate, on_bytes=sent
                )
            except (ApiError, OSError) as exc:
                sent.take_back()
                if not isinstance(exc, ApiError) or exc.status != 429 or left == 0:
                    raise
                pause = exc.retry_after or 5.0
                self.watcher.say(f"{exc.detail} Trying again in {pause:.0f} s.")
                self.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _settle(self, results: Sequence[Result]) -> None:
        of_document = {r.id: r for r in results if r.id and r.outcome not in {"rejected", "duplicate"}}
        new = [id for id, r in of_document.items() if r.outcome != "unchanged" or not _is_settled(r.status)]
        self.watcher.following(len(new))
        for id, document in self.follow(new).items():
            _take_over(of_document[id], document)
        for id, result in of_document.items():
            if id not in new:
                _take_over(result, self.client.document(self.kb, id))

    def follow(self, ids: Sequence[str]) -> dict[str, Json]:
        """Return the documents once all of them are settled, telling the watcher of each stage on the way."""
        latest: dict[str, Json] = {}
        pending = list(ids)
        stall = _Stall(self.clock, self.watcher)
        answered = self.clock()
        while pending:
            try:
                latest |= self._look(pending[:FOLLOWED_AT_ONCE])
                answered = self.clock()
            except ApiError as exc:
                if exc.status not in {0, 503} or self.clock() - answered > PATIENCE_SECONDS:
                    raise
            pending = [id for id in pending if not _is_settled(latest.get(id, {}).get("status"))]
            self.watcher.stages(stages_passed(latest.values()))
            if pending:
                stall.note([latest.get(id, {}).get("status") for id in pending])
                self.sleep(POLL_SECONDS)
        return latest

    def _look(self, ids: Iterable[str]) -> dict[str, Json]:
        return {id: self._document_or_deleted(id) for id in ids}

    def _document_or_deleted(self, id: str) -> Json:
        try:
            return self.client.document(self.kb, id)
        except ApiError as exc:
            if exc.status == 404:
                return {"id": id, "status": "deleted"}
            raise


@dataclass(slots=True)
class _Sent:
    """Counts the bytes of one try, and takes them back from the watcher when it fails."""

    watcher: Watcher
    bytes: int = 0

    def __call__(self, more: int) -> None:
        self.bytes += more
        self.watcher.uploaded(more)

    def take_back(self) -> None:
        self.watcher.uploaded(-self.bytes)


@dataclass(slots=True)
class _Stall:
    """Says once that nothing moves."""

    clock: Callable[[], float]
    watcher: Watcher
    seen: list[str | None] = field(default_factory=list)
    since: float = 0.0
    said: bool = False

    def note(self, statuses: list[str | None]) -> None:
        now = self.clock()
        if statuses != self.seen or set(statuses) != {"queued"}:
            self.seen, self.since = statuses, now
        elif not self.said and now - self.since > STALL_SECONDS:
            self.said = True
            self.watcher.say(f"Nothing has been taken up for {STALL_SECONDS:.0f} s: is the worker running?")


def collect(paths: Sequence[Path]) -> list[LocalFile]:
    """Return the files to upload: those named, and those in named folders, recursively, hidden ones left out.

    A document is named by its file name; in a folder, by its path below that folder. Raises `Usage` when a path does
    not exist or two files would have the same name.
    """
    found: dict[str, LocalFile] = {}
    for path in paths:
        for file in _files_at(path):
            other = found.setdefault(file.name, file)
            if other.path.resolve() != file.path.resolve():
                raise Usage(
                    f"{other.path} and {file.path} would both be the document {file.name}; "
                    "add the folder above them, or one after the other under other names."
                )
    return list(found.values())


def _files_at(path: Path) -> Iterator[LocalFile]:
    if path.is_file():
        yield LocalFile.at(path)
    elif path.is_dir():
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                file = Path(folder) / name
                if not name.startswith(".") and file.is_file():
                    yield LocalFile.at(file, file.relative_to(path).as_posix())
    else:
        raise Usage(f"{path} does not exist." if not path.exists() else f"{path} is neither a file nor a folder.")


def batches(files: Iterable[LocalFile]) -> Iterator[list[LocalFile]]:
    """Cut files into batches of at most `BATCH_FILES` and, where a file is not larger alone, `BATCH_BYTES`."""
    batch: list[LocalFile] = []
    size = 0
    for file in files:
        if batch and (len(batch) == BATCH_FILES or size + file.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def stages_passed(documents: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return how many documents have passed each stage; one in the middle of a stage counts for its part."""
    passed = dict.fromkeys(STAGES, 0.0)
    for document in documents:
        rank = _RANK.get(document["status"], len(STAGES) + 1)
        for place, stage in enumerate(STAGES, 1):
            passed[stage] += 1.0 if rank > place else _part(document) if rank == place else 0.0
    return passed


def counts(results: Iterable[Result]) -> dict[str, int]:
    """Return how many documents had which outcome, in a fixed order, none left out."""
    numbers = dict.fromkeys(("created", "replaced", "unchanged", "duplicate", "failed", "rejected"), 0)
    for result in results:
        numbers[result.outcome] = numbers.get(result.outcome, 0) + 1
    return numbers


def _part(document: Mapping[str, Any]) -> float:
    progress = document.get("progress") or {}
    total = progress.get("total") or 0
    return min(progress.get("done", 0) / total, 1.0) if total and progress.get("stage") == document["status"] else 0.0


def _is_settled(status: str | None) -> bool:
    return status in SETTLED


def _blames_the_file(exc: ApiError | OSError) -> bool:
    """True when sending the other files of the batch makes sense: the fault lies in one file, not in the request."""
    return isinstance(exc, OSError) or exc.status in {413, 415, 422}


def _result(item: Json) -> Result:
    kept = {key: item.get(key) for key in ("id", "version", "status", "error", "duplicate_of")}
    return Result(name=item["name"], outcome=item["outcome"], **kept)


def _rejected(file: LocalFile, exc: ApiError | OSError) -> Result:
    if isinstance(exc, ApiError):
        error = {"code": exc.code, "detail": exc.detail}
    else:
        made = problem("file-unreadable", "File unreadable", f"{file.path} cannot be read: {exc.strerror or exc}.")
        error = {"code": made["code"], "detail": made["detail"]}
    return Result(name=file.name, outcome="rejected", status="rejected", error=error)


def _take_over(result: Result, document: Json) -> None:
    result.status = document["status"]
    result.chunks = document.get("chunks")
    result.version = document.get("version", result.version)
    if document["status"] in {"failed", "cancelled"}:
        result.outcome = document["status"]
        result.error = document.get("error") or {"code": "cancelled", "detail": "Its indexing was cancelled."}
    elif document["status"] == "deleted":
        result.outcome = "failed"
        result.error = {"code": "deleted", "detail": "It was deleted while it was being indexed."}
