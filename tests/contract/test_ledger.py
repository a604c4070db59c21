"""What the ledger promises about knowledge bases, documents and keys, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.servers.ledgers import Clock, add, add_ready, an_upload, claim, index, new_base, record
from zhiwen.common.errors import Conflict, NotFound
from zhiwen.common.ledger import Ledger
from zhiwen.common.models import Document, DocumentStatus, JobKind, KnowledgeBase


@pytest.fixture
def base(ledger: Ledger) -> KnowledgeBase:
    return new_base(ledger)


def kinds_of_jobs(ledger: Ledger) -> list[str]:
    """Claim everything that is due and return the kinds in order."""
    kinds = []
    while job := ledger.jobs.claim("reader", 30):
        kinds.append(str(job.kind))
    return kinds


# Knowledge bases


def test_base_comes_back_as_it_was_created(ledger: Ledger, clock: Clock) -> None:
    created = new_base(ledger, "产品 手册（2026）", description="说明", prompt_template="{context}{question}")
    found = ledger.bases.get("产品 手册（2026）")
    assert found == created
    assert (found.description, found.prompt_template) == ("说明", "{context}{question}")
    assert found.live.dimension == 64
    assert found.building is None
    assert found.created_at.timestamp() == clock.now


def test_second_base_of_one_name_is_a_conflict_and_changes_nothing(ledger: Ledger, base: KnowledgeBase) -> None:
    with pytest.raises(Conflict, match="knowledge-base-exists"):
        new_base(ledger, base.name, description="another")
    assert ledger.bases.get(base.name) == base
    assert len(ledger.bases.list()) == 1


def test_unknown_base_is_not_found(ledger: Ledger) -> None:
    with pytest.raises(NotFound, match="knowledge-base-not-found"):
        ledger.bases.get("没有")


def test_pages_of_bases_hold_each_base_once(ledger: Ledger) -> None:
    names = {new_base(ledger, name).name for name in ("丙", "甲", "a", "B", "乙", "Ω")}
    seen: list[str] = []
    while page := ledger.bases.list(after=seen[-1] if seen else "", limit=2):
        seen += [base.name for base in page]
    assert set(seen) == names
    assert len(seen) == len(names)


def test_update_changes_what_is_named_and_nothing_else(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    clock.pass_by(5)
    changed = ledger.bases.update(base.name, {"description": "新"})
    assert (changed.description, changed.prompt_template) == ("新", base.prompt_template)
    assert changed.updated_at > base.updated_at


def test_dropped_base_is_gone_at_once_and_its_name_is_free(ledger: Ledger, base: KnowledgeBase) -> None:
    ledger.bases.begin_drop(base.name, request_id="r1")
    with pytest.raises(NotFound):
        ledger.bases.get(base.name)
    assert ledger.bases.list() == []
    again = new_base(ledger, base.name)
    assert again.id != base.id
    job = claim(ledger)
    assert (job.kind, job.knowledge_base_id, job.request_id) == (JobKind.DROP, base.id, "r1")


def test_dropping_twice_is_not_found(ledger: Ledger, base: KnowledgeBase) -> None:
    ledger.bases.begin_drop(base.name, request_id=None)
    with pytest.raises(NotFound):
        ledger.bases.begin_drop(base.name, request_id=None)


def test_finished_drop_leaves_no_row_and_releases_every_original_once(ledger: Ledger, base: KnowledgeBase) -> None:
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        add_ready(ledger, base, name, content)
    ledger.bases.begin_drop(base.name, request_id=None)
    released = ledger.jobs.finish_drop(claim(ledger))
    assert sorted(released) == sorted({an_upload(content=b"1").sha256, an_upload(content=b"2").sha256})
    with pytest.raises(NotFound):
        ledger.bases.get_by_id(base.id)
    assert ledger.jobs.waiting() == 0


def test_upload_to_a_base_that_is_being_dropped_is_not_found(ledger: Ledger, base: KnowledgeBase) -> None:
    ledger.bases.begin_drop(base.name, request_id=None)
    with pytest.raises(NotFound, match=r"The knowledge base was deleted meanwhile\."):
        add(ledger, base)


# Uploads


def test_new_name_is_created_and_queued(ledger: Ledger, base: KnowledgeBase) -> None:
    recorded = record(ledger, base, an_upload("手册.txt", metadata={"部门": "人事"}), request_id="r7")
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
        ledger.documents.record(base.id, an_upload(), on_duplicate="keep", request_id=None, keep_original=keep)
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


def test_same_name_with_other_bytes_is_a_new_version_while_the_old_answers(ledger: Ledger, base: KnowledgeBase) -> None:
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
        ledger.jobs.fail(claim(ledger), "no-text", "Nothing to read.")
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
    ledger.documents.begin_delete(base.id, first.id, request_id=None)
    assert record(ledger, base, an_upload("b.txt"), "error").outcome == "created"


def test_name_of_a_deleted_document_is_free_at_once(ledger: Ledger, base: KnowledgeBase) -> None:
    first = add_ready(ledger, base)
    ledger.documents.begin_delete(base.id, first.id, request_id=None)
    again = record(ledger, base, an_upload())
    assert again.outcome == "created"
    assert again.document.id != first.id


def test_third_version_before_the_second_was_indexed_purges_the_second(ledger: Ledger, base: KnowledgeBase) -> None:
    add_ready(ledger, base, content=b"1")
    for content in (b"2", b"3"):
        record(ledger, base, an_upload(content=content))
    job = claim(ledger)
    assert (job.kind, job.version) == (JobKind.PURGE, 2)
    assert ledger.jobs.finish_purge(job) == [an_upload(content=b"2").sha256]
    assert index(ledger, base).version == 3


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
        lambda: ledger.documents.retry(other.id, document.id, request_id=None),
        lambda: ledger.documents.begin_delete(other.id, document.id, request_id=None),
    ]
    for look in looks:
        with pytest.raises(NotFound, match="document-not-found"):
            look()


def test_counts_say_how_many_documents_are_where_and_how_many_chunks_answer(
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
    ledger.jobs.finish_purge(claim(ledger))
    with pytest.raises(NotFound):
        ledger.documents.version(document.id, 1)
    assert ledger.documents.version(document.id, 2).bytes == 1


# Retry, cancel, delete


def test_only_failed_and_cancelled_documents_can_be_retried(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(ledger, base)

    def retry() -> Document:
        return ledger.documents.retry(base.id, document.id, request_id=None)

    with pytest.raises(Conflict, match="not-retryable"):
        retry()
    ledger.jobs.fail(claim(ledger), "corrupt", "Damaged.")
    assert retry().status is DocumentStatus.QUEUED
    with pytest.raises(Conflict, match="not-retryable"):
        retry()


def test_cancelled_document_is_never_claimed_and_is_purged(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(ledger, base)
    assert ledger.documents.cancel(base.id, document.id).status is DocumentStatus.CANCELLED
    assert kinds_of_jobs(ledger) == ["purge"]


def test_cancel_of_a_new_version_leaves_the_old_one_answering(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add_ready(ledger, base, content=b"1")
    record(ledger, base, an_upload(content=b"2"))
    cancelled = ledger.documents.cancel(base.id, document.id)
    assert (cancelled.status, cancelled.live_version) == (DocumentStatus.CANCELLED, 1)
    job = claim(ledger)
    assert (job.kind, job.version) == (JobKind.PURGE, 2)
    ledger.jobs.finish_purge(job)
    assert ledger.documents.live_versions([document.id]) == {document.id: 1}


@pytest.mark.parametrize("state", ["ready", "cancelled", "deleting"])
def test_what_is_settled_cannot_be_cancelled(ledger: Ledger, base: KnowledgeBase, state: str) -> None:
    document = add_ready(ledger, base) if state == "ready" else add(ledger, base)
    if state == "cancelled":
        ledger.documents.cancel(base.id, document.id)
    if state == "deleting":
        ledger.documents.begin_delete(base.id, document.id, request_id=None)
    with pytest.raises(Conflict, match="not-cancellable"):
        ledger.documents.cancel(base.id, document.id)


def test_delete_hides_at_once_and_is_reported_when_done(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add_ready(ledger, base)
    revision = ledger.bases.get(base.name).revision
    assert ledger.documents.begin_delete(base.id, document.id, request_id=None).status is DocumentStatus.DELETING
    assert ledger.documents.live_versions([document.id]) == {}
    assert ledger.documents.live_sets(base.live.id) == set()
    assert ledger.documents.list(base.id) == []
    assert ledger.bases.get(base.name).revision > revision
    released = ledger.jobs.finish_delete(claim(ledger))
    assert released == [document.sha256]
    assert ledger.documents.get(base.id, document.id).status is DocumentStatus.DELETED


def test_deleting_twice_queues_one_job(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add_ready(ledger, base)
    for _ in range(2):
        ledger.documents.begin_delete(base.id, document.id, request_id=None)
    assert kinds_of_jobs(ledger) == ["delete"]


def test_tombstone_is_forgotten_after_a_day(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    document = add_ready(ledger, base)
    ledger.documents.begin_delete(base.id, document.id, request_id=None)
    ledger.jobs.finish_delete(claim(ledger))
    clock.pass_by(23 * 3600)
    ledger.jobs.reconcile()
    assert ledger.documents.get(base.id, document.id).status is DocumentStatus.DELETED
    clock.pass_by(2 * 3600)
    ledger.jobs.reconcile()
    with pytest.raises(NotFound):
        ledger.documents.get(base.id, document.id)


def test_original_is_removed_only_when_no_document_names_it(ledger: Ledger, base: KnowledgeBase) -> None:
    first, second = add_ready(ledger, base, "a.txt"), add_ready(ledger, base, "b.txt")
    removed: list[str] = []
    for document in (first, second):
        ledger.documents.begin_delete(base.id, document.id, request_id=None)
        for sha256 in ledger.jobs.finish_delete(claim(ledger)):
            ledger.jobs.remove_if_unreferenced(sha256, lambda: removed.append("gone"))
        assert removed == ([] if document is first else ["gone"])


# Keys


def test_key_is_found_by_its_secret_and_the_secret_is_not_kept(ledger: Ledger) -> None:
    key, secret = ledger.keys.create(name="网站", scope="read", knowledge_base="手册")
    assert ledger.keys.find(secret) == key
    assert ledger.keys.find(secret + "x") is None
    with ledger.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM api_keys").all()
    assert all(secret not in str(value) for row in rows for value in row)


def test_revoked_key_is_found_no_more_but_still_listed(ledger: Ledger) -> None:
    assert not ledger.keys.ever()
    key, secret = ledger.keys.create(name="k", scope="admin", knowledge_base=None)
    assert ledger.keys.any()
    assert ledger.keys.ever()
    assert ledger.keys.revoke(key.id).revoked
    assert ledger.keys.find(secret) is None
    assert not ledger.keys.any()
    assert ledger.keys.ever()
    assert [k.revoked for k in ledger.keys.list()] == [True]
    with pytest.raises(NotFound, match="key-not-found"):
        ledger.keys.revoke("unknown")


def test_key_for_one_base_does_not_open_the_next_of_that_name(ledger: Ledger, base: KnowledgeBase) -> None:
    for_it, for_another, for_all = (
        ledger.keys.create(name="k", scope="write", knowledge_base=name)[1] for name in (base.name, "another", None)
    )
    ledger.bases.begin_drop(base.name, request_id=None)
    new_base(ledger, base.name)
    assert ledger.keys.find(for_it) is None
    assert ledger.keys.find(for_another) is not None
    assert ledger.keys.find(for_all) is not None
