"""Reading, retrying, cancelling and deleting documents, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.servers.ledgers import Clock, add, add_ready, an_upload, claim, index, kinds_of_jobs, new_base, record
from zhiwen.common.errors import Conflict, NotFound
from zhiwen.common.ledger import Ledger
from zhiwen.common.models import Document, DocumentStatus, JobKind, KnowledgeBase


@pytest.fixture
def base(ledger: Ledger) -> KnowledgeBase:
    return new_base(ledger)


# Reading


def test_pages_of_documents_hold_each_document_once_in_order(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    names = []
    for number in range(7):
        names.append(add(ledger, base, f"{number}.txt", str(number).encode()).name)
        clock.pass_by(0.0000007 if number % 2 else 0.0)  # less than the microsecond that times are shown with
    seen: list[str] = []
    after = None
    for _ in range(4):
        page = ledger.documents.list(base.id, after=after, limit=2)
        seen += [document.name for document in page]
        after = (page[-1].created_at.timestamp(), page[-1].id)
    assert sorted(seen) == names
    assert ledger.documents.list(base.id, after=after) == []


def test_list_filters_by_status(ledger: Ledger, base: KnowledgeBase) -> None:
    add_ready(ledger, base, "a.txt")
    add(ledger, base, "b.txt", b"b")
    assert [d.name for d in ledger.documents.list(base.id, status=DocumentStatus.READY)] == ["a.txt"]
    assert [d.name for d in ledger.documents.list(base.id, status=DocumentStatus.QUEUED)] == ["b.txt"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("手册/年假.txt", ["手册/年假.txt"]),
        ("手册/*", ["手册/年假.txt", "手册/100%_off.txt"]),
        ("手册/100%*", ["手册/100%_off.txt"]),
        ("%*", []),
        ("手册", []),
        ("ABC*", ["ABC.txt"]),
    ],
)
def test_list_filters_by_name_or_prefix(ledger: Ledger, base: KnowledgeBase, asked: str, found: list[str]) -> None:
    for number, name in enumerate(("手册/年假.txt", "手册/100%_off.txt", "ABC.txt", "abc.txt")):
        add(ledger, base, name, str(number).encode())
    assert sorted(d.name for d in ledger.documents.list(base.id, name=asked)) == sorted(found)


def test_document_of_another_base_is_not_found(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(ledger, base)
    other = new_base(ledger, "另一个")
    looks: list[Callable[[], object]] = [
        lambda: ledger.documents.get(other.id, document.id),
        lambda: ledger.documents.cancel(other.id, document.id),
        lambda: ledger.documents.retry(other.id, document.id),
        lambda: ledger.documents.begin_delete(other.id, document.id),
    ]
    for look in looks:
        with pytest.raises(NotFound, match="document-not-found"):
            look()


def test_counts_say_how_many_documents_are_where_and_how_many_chunks_are_live(
    ledger: Ledger, base: KnowledgeBase
) -> None:
    add(ledger, base, "a.txt", b"a")
    index(ledger, base, chunks=3)
    add(ledger, base, "b.txt", b"b")
    index(ledger, base, chunks=4)
    add(ledger, base, "c.txt", b"c")
    assert ledger.documents.count(base.id) == {"ready": 2, "queued": 1, "chunks": 7}


def test_version_that_was_purged_is_not_found(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add_ready(ledger, base, content=b"1")
    record(ledger, base, an_upload(content=b"2"))
    assert ledger.documents.version(document.id, 1).sha256 == an_upload(content=b"1").sha256
    index(ledger, base)
    ledger.endings.finish_purge(claim(ledger))
    with pytest.raises(NotFound):
        ledger.documents.version(document.id, 1)
    assert ledger.documents.version(document.id, 2).bytes == 1


# Retry, cancel, delete


def test_only_failed_and_cancelled_documents_can_be_retried(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(ledger, base)

    def retry() -> Document:
        return ledger.documents.retry(base.id, document.id)

    with pytest.raises(Conflict, match="not-retryable"):
        retry()
    ledger.endings.fail(claim(ledger), "corrupt", "Damaged.")
    assert retry().status is DocumentStatus.QUEUED
    with pytest.raises(Conflict, match="not-retryable"):
        retry()


def test_cancelled_document_is_never_claimed_and_is_purged(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(ledger, base)
    assert ledger.documents.cancel(base.id, document.id).status is DocumentStatus.CANCELLED
    assert kinds_of_jobs(ledger) == ["purge"]


def test_cancel_of_a_new_version_leaves_the_old_one_live(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add_ready(ledger, base, content=b"1")
    record(ledger, base, an_upload(content=b"2"))
    cancelled = ledger.documents.cancel(base.id, document.id)
    assert (cancelled.status, cancelled.live_version) == (DocumentStatus.CANCELLED, 1)
    job = claim(ledger)
    assert (job.kind, job.version) == (JobKind.PURGE, 2)
    ledger.endings.finish_purge(job)
    assert ledger.documents.live_versions([document.id]) == {document.id: 1}


@pytest.mark.parametrize("state", ["ready", "cancelled", "deleting"])
def test_what_is_settled_cannot_be_cancelled(ledger: Ledger, base: KnowledgeBase, state: str) -> None:
    document = add_ready(ledger, base) if state == "ready" else add(ledger, base)
    if state == "cancelled":
        ledger.documents.cancel(base.id, document.id)
    if state == "deleting":
        ledger.documents.begin_delete(base.id, document.id)
    with pytest.raises(Conflict, match="not-cancellable"):
        ledger.documents.cancel(base.id, document.id)


def test_delete_hides_at_once_and_is_reported_when_done(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add_ready(ledger, base)
    revision = ledger.bases.get(base.name).revision
    assert ledger.documents.begin_delete(base.id, document.id).status is DocumentStatus.DELETING
    assert ledger.documents.live_versions([document.id]) == {}
    assert ledger.documents.live_pairs(base.live.id) == set()
    assert ledger.documents.list(base.id) == []
    assert ledger.bases.get(base.name).revision > revision
    released = ledger.endings.finish_delete(claim(ledger))
    assert released == [document.sha256]
    assert ledger.documents.get(base.id, document.id).status is DocumentStatus.DELETED


def test_deleting_twice_queues_one_job(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add_ready(ledger, base)
    for _ in range(2):
        ledger.documents.begin_delete(base.id, document.id)
    assert kinds_of_jobs(ledger) == ["delete"]
