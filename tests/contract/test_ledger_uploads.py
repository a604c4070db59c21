"""The outcome of an upload in the ledger, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest
from structlog.contextvars import bound_contextvars

from tests.servers.ledgers import add, add_ready, an_upload, claim, index, kinds_of_jobs, new_base, record
from zhiwen.common.errors import Conflict, NotFound
from zhiwen.common.ledger import Ledger
from zhiwen.common.models import DocumentStatus, JobKind, KnowledgeBase


@pytest.fixture
def base(ledger: Ledger) -> KnowledgeBase:
    return new_base(ledger)


def test_upload_to_a_base_that_is_being_dropped_is_not_found(ledger: Ledger, base: KnowledgeBase) -> None:
    ledger.bases.begin_drop(base.name)
    with pytest.raises(NotFound, match=r"The knowledge base was deleted meanwhile\."):
        add(ledger, base)


def test_new_name_is_created_and_queued(ledger: Ledger, base: KnowledgeBase) -> None:
    with bound_contextvars(request_id="r7"):
        recorded = record(ledger, base, an_upload("手册.txt", metadata={"部门": "人事"}))
    document = recorded.document
    assert (recorded.outcome, document.version, document.status) == ("created", 1, DocumentStatus.QUEUED)
    assert (document.live_version, document.chunks) == (None, 0)
    assert document.metadata == {"部门": "人事"}
    job = claim(ledger)
    assert (job.kind, job.document_id, job.version, job.request_id) == (JobKind.INGEST, document.id, 1, "r7")


def test_bytes_are_kept_before_the_row_is_there(ledger: Ledger, base: KnowledgeBase) -> None:
    def keep() -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        ledger.uploads.record(base.id, an_upload(), on_duplicate="keep", keep_original=keep)
    assert ledger.documents.list(base.id) == []
    assert ledger.jobs.waiting() == 0


def test_same_name_and_bytes_are_unchanged_and_queue_nothing(ledger: Ledger, base: KnowledgeBase) -> None:
    first = add_ready(ledger, base)
    again = record(ledger, base, an_upload())
    assert (again.outcome, again.document) == ("unchanged", first)
    assert ledger.jobs.waiting() == 0


def test_same_name_and_bytes_while_queued_are_unchanged(ledger: Ledger, base: KnowledgeBase) -> None:
    add(ledger, base)
    assert record(ledger, base, an_upload()).outcome == "unchanged"
    assert ledger.jobs.waiting() == 1


def test_same_name_with_other_bytes_is_a_new_version_while_the_old_one_stays_live(
    ledger: Ledger, base: KnowledgeBase
) -> None:
    first = add_ready(ledger, base, content=b"old")
    second = record(ledger, base, an_upload(content=b"new")).document
    assert (second.id, second.version, second.live_version) == (first.id, 2, 1)
    assert second.status is DocumentStatus.QUEUED
    assert ledger.documents.live_versions([first.id]) == {first.id: 1}


def test_new_metadata_alone_is_a_new_version(ledger: Ledger, base: KnowledgeBase) -> None:
    record(ledger, base, an_upload(metadata={"年": 2025}))
    changed = record(ledger, base, an_upload(metadata={"年": 2026}))
    assert (changed.outcome, changed.document.version, changed.document.metadata) == ("replaced", 2, {"年": 2026})


def test_upload_without_metadata_keeps_what_was_said_before(ledger: Ledger, base: KnowledgeBase) -> None:
    record(ledger, base, an_upload(metadata={"年": 2025}))
    assert record(ledger, base, an_upload()).outcome == "unchanged"
    replaced = record(ledger, base, an_upload(content=b"new"))
    assert replaced.document.metadata == {"年": 2025}


@pytest.mark.parametrize("settled", ["failed", "cancelled"])
def test_unfinished_document_uploaded_again_is_queued_again(ledger: Ledger, base: KnowledgeBase, settled: str) -> None:
    document = add(ledger, base)
    if settled == "failed":
        ledger.endings.fail(claim(ledger), "no-text", "Nothing to read.")
    else:
        ledger.documents.cancel(base.id, document.id)
    again = record(ledger, base, an_upload())
    assert (again.outcome, again.document.status) == ("unchanged", DocumentStatus.QUEUED)
    assert again.document.error_code is None
    assert kinds_of_jobs(ledger) == ["purge"]  # first what the first try left, the ingest waits for it


def test_same_bytes_under_another_name_are_kept_by_default(ledger: Ledger, base: KnowledgeBase) -> None:
    first = add(ledger, base, "a.txt")
    second = record(ledger, base, an_upload("b.txt"))
    assert second.outcome == "created"
    assert second.document.id != first.id


def test_skip_names_the_document_that_holds_the_bytes(ledger: Ledger, base: KnowledgeBase) -> None:
    first = add(ledger, base, "a.txt")
    second = record(ledger, base, an_upload("b.txt"), "skip")
    assert (second.outcome, second.document.id) == ("duplicate", first.id)
    assert [document.name for document in ledger.documents.list(base.id)] == ["a.txt"]


def test_error_names_the_document_that_holds_the_bytes(ledger: Ledger, base: KnowledgeBase) -> None:
    first = add(ledger, base, "a.txt")
    with pytest.raises(Conflict, match="duplicate-content") as caught:
        record(ledger, base, an_upload("b.txt"), "error")
    assert caught.value.errors == [{"document_id": first.id, "name": "a.txt"}]


def test_same_bytes_in_another_base_are_no_duplicate(ledger: Ledger, base: KnowledgeBase) -> None:
    add(ledger, base, "a.txt")
    other = new_base(ledger, "另一个")
    assert record(ledger, other, an_upload("b.txt"), "error").outcome == "created"


def test_bytes_of_a_deleted_document_are_no_duplicate(ledger: Ledger, base: KnowledgeBase) -> None:
    first = add(ledger, base, "a.txt")
    ledger.documents.begin_delete(base.id, first.id)
    assert record(ledger, base, an_upload("b.txt"), "error").outcome == "created"


def test_name_of_a_deleted_document_is_free_at_once(ledger: Ledger, base: KnowledgeBase) -> None:
    first = add_ready(ledger, base)
    ledger.documents.begin_delete(base.id, first.id)
    again = record(ledger, base, an_upload())
    assert again.outcome == "created"
    assert again.document.id != first.id


def test_third_version_before_the_second_was_indexed_purges_the_second(ledger: Ledger, base: KnowledgeBase) -> None:
    add_ready(ledger, base, content=b"1")
    for content in (b"2", b"3"):
        record(ledger, base, an_upload(content=content))
    job = claim(ledger)
    assert (job.kind, job.version) == (JobKind.PURGE, 2)
    assert ledger.endings.finish_purge(job) == [an_upload(content=b"2").sha256]
    assert index(ledger, base).version == 3
