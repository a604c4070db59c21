"""The status of a document: which may follow which, and what each change sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tests.servers.ledgers import add, an_upload, claim, empty_ledger, ledger_on, new_base, record
from zhiwen.common.errors import Conflict
from zhiwen.common.ledger import RETRY_POLICY, LeaseLost, Ledger, lifecycle
from zhiwen.common.ledger.schema import documents
from zhiwen.common.models import Document, DocumentStatus, Job, JobKind, KnowledgeBase

NAME = "手册.txt"
OLD, NEW = b"old", b"new"

QUEUED, PARSING, EMBEDDING, INDEXING, READY, FAILED, CANCELLED, DELETING, DELETED = DocumentStatus

# Which status may follow which: what a client or a worker asks for, and the status in which that leaves the document.

Act = Callable[[Ledger, KnowledgeBase, Document], object]

REQUESTS: dict[str, Act] = {
    "retry": lambda ledger, base, document: ledger.documents.retry(base.id, document.id),
    "cancel": lambda ledger, base, document: ledger.documents.cancel(base.id, document.id),
    "delete": lambda ledger, base, document: ledger.documents.begin_delete(base.id, document.id),
    "same bytes": lambda ledger, base, document: record(ledger, base, an_upload(NAME, OLD)),
    "new bytes": lambda ledger, base, document: record(ledger, base, an_upload(NAME, NEW)),
}
REFUSED = {"retry": "not-retryable", "cancel": "not-cancellable"}

# A dash says that the request is refused. A name that a document held is free once it is deleted: an upload to that
# name makes another document and leaves this one as it is.
FOLLOWS_REQUEST = """
    status     retry   cancel     delete    same bytes  new bytes
    queued     -       cancelled  deleting  queued      queued
    parsing    -       cancelled  deleting  parsing     queued
    embedding  -       cancelled  deleting  embedding   queued
    indexing   -       cancelled  deleting  indexing    queued
    ready      -       -          deleting  ready       queued
    failed     queued  -          deleting  queued      queued
    cancelled  queued  -          deleting  queued      queued
    deleting   -       -          deleting  deleting    deleting
    deleted    -       -          deleted   deleted     deleted
"""

REPORTS: dict[str, Callable[[Ledger, KnowledgeBase, Job], object]] = {
    "advance": lambda ledger, base, job: ledger.jobs.advance(job, EMBEDDING, 1, 2),
    "commit": lambda ledger, base, job: ledger.endings.commit(job, base.live.id, 3),
    "fail": lambda ledger, base, job: ledger.endings.fail(job, "corrupt", "Damaged."),
    "put off": lambda ledger, base, job: ledger.endings.put_off(
        job, RETRY_POLICY.after_outage(job), "milvus-unavailable", "Away."
    ),
}

# A dash says that the worker has lost its job, and changes nothing.
FOLLOWS_REPORT = """
    status     advance    commit  fail    put off
    queued     embedding  ready   failed  queued
    parsing    embedding  ready   failed  queued
    embedding  embedding  ready   failed  queued
    indexing   embedding  ready   failed  queued
    ready      -          -       -       -
    failed     -          -       -       -
    cancelled  -          -       -       -
    deleting   -          -       -       -
    deleted    -          -       -       -
"""


def cells(table: str) -> list[tuple[str, str, str]]:
    """Return (status, act, status that follows) for each cell of a table whose columns stand two spaces apart."""
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table.strip().splitlines()]
    return [(row[0], act, after) for row in rows[1:] for act, after in zip(rows[0][1:], row[1:], strict=True)]


def test_tables_name_every_status_and_every_act() -> None:
    for table, acts in ((FOLLOWS_REQUEST, set(REQUESTS)), (FOLLOWS_REPORT, set(REPORTS))):
        assert {(status, act) for status, act, _ in cells(table)} == {
            (s.value, act) for s in DocumentStatus for act in acts
        }


def document_in(ledger: Ledger, base: KnowledgeBase, status: DocumentStatus) -> tuple[Document, Job]:
    """Bring a new document into a status as clients and workers do; return it and its ingest job."""
    document = add(ledger, base, NAME, OLD)
    job = claim(ledger)
    match status:
        case DocumentStatus.QUEUED:
            pass
        case DocumentStatus.READY:
            ledger.endings.commit(job, base.live.id, 3)
        case DocumentStatus.FAILED:
            ledger.endings.fail(job, "corrupt", "Damaged.")
        case DocumentStatus.CANCELLED:
            ledger.documents.cancel(base.id, document.id)
        case DocumentStatus.DELETING:
            ledger.documents.begin_delete(base.id, document.id)
        case DocumentStatus.DELETED:
            ledger.documents.begin_delete(base.id, document.id)
            ledger.endings.abandon(job)
            while (removal := claim(ledger)).kind is JobKind.PURGE:
                ledger.endings.finish_purge(removal)
            ledger.endings.finish_delete(removal)
        case stage:
            ledger.jobs.advance(job, stage, 1, 3)
    document = ledger.documents.get(base.id, document.id)
    assert document.status is status
    return document, job


@pytest.fixture(scope="module")
def shared_ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    ledger = ledger_on(f"sqlite:///{tmp_path_factory.mktemp('lifecycle') / 'ledger.db'}")
    ledger.database.migrate()
    yield ledger
    ledger.close()


@pytest.fixture
def ledger(shared_ledger: Ledger) -> Ledger:
    """An empty ledger on SQLite: one for all tests, because making one takes longer than any test."""
    empty_ledger(shared_ledger)
    return shared_ledger


@pytest.fixture
def base(ledger: Ledger) -> KnowledgeBase:
    return new_base(ledger)


@pytest.mark.parametrize(("status", "act", "after"), cells(FOLLOWS_REQUEST))
def test_what_follows_a_request(ledger: Ledger, base: KnowledgeBase, status: str, act: str, after: str) -> None:
    document, _ = document_in(ledger, base, DocumentStatus(status))
    if after == "-":
        with pytest.raises(Conflict, match=REFUSED[act]):
            REQUESTS[act](ledger, base, document)
        assert ledger.documents.get(base.id, document.id) == document
    else:
        REQUESTS[act](ledger, base, document)
        assert ledger.documents.get(base.id, document.id).status == after


@pytest.mark.parametrize(("status", "report", "after"), cells(FOLLOWS_REPORT))
def test_what_follows_a_report(ledger: Ledger, base: KnowledgeBase, status: str, report: str, after: str) -> None:
    document, job = document_in(ledger, base, DocumentStatus(status))
    if after == "-":
        with pytest.raises(LeaseLost):
            REPORTS[report](ledger, base, job)
        assert ledger.documents.get(base.id, document.id) == document
    else:
        REPORTS[report](ledger, base, job)
        assert ledger.documents.get(base.id, document.id).status == after


# What each change sets: the columns that differ afterwards, and no other.

NOW = 2_000_000_000.0
WAITING = {"stage_done": 0, "stage_total": 0, "error_code": None, "error_detail": None, "attempts": 0}
BEFORE = {
    "version": 2,
    "live_version": 1,
    "status": "indexing",
    "stage_done": 5,
    "stage_total": 9,
    "error_code": "earlier",
    "error_detail": "An earlier error.",
    "attempts": 2,
    "created_at": 1.0,
    "updated_at": 1.0,
}
JOB = Job("job", JobKind.INGEST, "base", "document", 2, None, attempts=2, waits=0, fence=1, request_id=None)

Change = Callable[[Connection], object]

CHANGES: dict[str, tuple[Change, dict[str, Any]]] = {
    "replace": (lambda c: lifecycle.replace(c, NOW, "document", 3), {"status": "queued", "version": 3, **WAITING}),
    "retry": (lambda c: lifecycle.retry(c, NOW, "document"), {"status": "queued", **WAITING}),
    "cancel": (lambda c: lifecycle.cancel(c, NOW, "document"), {"status": "cancelled", **WAITING}),
    "begin_delete": (
        lambda c: lifecycle.begin_delete(c, NOW, "document"),
        {"status": "deleting", "live_version": None, **WAITING},
    ),
    "claim": (lambda c: lifecycle.claim(c, NOW, "document", 3), {"attempts": 3}),
    "advance": (
        lambda c: lifecycle.advance(c, NOW, JOB, EMBEDDING, 128, 500),
        {"status": "embedding", "stage_done": 128, "stage_total": 500},
    ),
    "put_off": (
        lambda c: lifecycle.put_off(c, NOW, JOB, "away", "Away."),
        {"status": "queued", "stage_done": 0, "stage_total": 0, "error_code": "away", "error_detail": "Away."},
    ),
    "commit": (
        lambda c: lifecycle.commit(c, NOW, JOB, 7),
        {
            "status": "ready",
            "live_version": 2,
            "stage_done": 7,
            "stage_total": 7,
            "error_code": None,
            "error_detail": None,
        },
    ),
    "fail": (
        lambda c: lifecycle.fail(c, NOW, "document", 2, "corrupt", "Damaged."),
        {"status": "failed", "error_code": "corrupt", "error_detail": "Damaged."},
    ),
    "finish_delete": (lambda c: lifecycle.finish_delete(c, NOW, "document"), {"status": "deleted"}),
}


def row_of(c: Connection, document_id: str) -> dict[str, Any]:
    return dict(c.execute(sa.select(documents).where(documents.c.id == document_id)).mappings().one())


def insert(c: Connection, base: KnowledgeBase, document_id: str, **changes: Any) -> None:
    values = {"id": document_id, "knowledge_base_id": base.id, "name": document_id, **BEFORE, **changes}
    c.execute(documents.insert().values(values))


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES.keys())
def test_change_sets_these_columns_of_this_document_and_no_others(
    ledger: Ledger, base: KnowledgeBase, change: Change, expected: dict[str, Any]
) -> None:
    with ledger.database.write() as c:
        insert(c, base, "document")
        insert(c, base, "another")
        before, another = row_of(c, "document"), row_of(c, "another")
        change(c)
        assert row_of(c, "document") == {**before, **expected, "updated_at": NOW}
        assert row_of(c, "another") == another


@pytest.mark.parametrize("name", ["advance", "put_off", "fail"])
def test_report_about_a_version_that_was_replaced_changes_nothing(
    ledger: Ledger, base: KnowledgeBase, name: str
) -> None:
    change, _ = CHANGES[name]
    with ledger.database.write() as c:
        insert(c, base, "document", version=3)
        before = row_of(c, "document")
        change(c)
        assert row_of(c, "document") == before


def test_created_document_is_queued_in_its_first_version(ledger: Ledger, base: KnowledgeBase) -> None:
    with ledger.database.write() as c:
        document_id = lifecycle.create(c, NOW, base.id, NAME)
        assert row_of(c, document_id) == {
            "id": document_id,
            "knowledge_base_id": base.id,
            "name": NAME,
            "version": 1,
            "live_version": None,
            "status": "queued",
            **WAITING,
            "created_at": NOW,
            "updated_at": NOW,
        }


@pytest.mark.parametrize("status", DocumentStatus)
@pytest.mark.parametrize(("seconds", "old"), [(0.0, False), (0.001, True)])
def test_only_documents_that_were_deleted_long_ago_are_forgotten(
    ledger: Ledger, base: KnowledgeBase, status: DocumentStatus, seconds: float, old: bool
) -> None:
    with ledger.database.write() as c:
        insert(c, base, "document", status=status, updated_at=NOW - lifecycle.TOMBSTONE_SECONDS - seconds)
        lifecycle.forget_deleted(c, NOW)
        left = c.scalar(sa.select(sa.func.count()).select_from(documents))
        assert left == (0 if old and status is DocumentStatus.DELETED else 1)


def test_statuses_that_allow_a_request_are_told_apart() -> None:
    assert lifecycle.RETRYABLE | lifecycle.CANCELLABLE | lifecycle.GONE | {READY} == set(DocumentStatus)
    assert len(lifecycle.RETRYABLE) + len(lifecycle.CANCELLABLE) + len(lifecycle.GONE) + 1 == len(DocumentStatus)
