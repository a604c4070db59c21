"""Fencing, the ends of jobs and the reconciler, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.servers.ledgers import LEASE, Clock, add, add_ready, an_upload, claim, index, new_base, record
from zhiwen.common.errors import NotFound
from zhiwen.common.ledger import RETRY_POLICY, LeaseLost, Ledger, NewGeneration, Retry
from zhiwen.common.models import ChunkingSpec, Document, DocumentStatus, IndexSpec, Job, JobKind, KnowledgeBase

End = Callable[[Ledger, KnowledgeBase, Job], object]
ENDINGS: dict[str, End] = {
    "advance": lambda ledger, base, job: ledger.jobs.advance(job, DocumentStatus.EMBEDDING, 1, 2),
    "commit": lambda ledger, base, job: ledger.endings.commit(job, base.live.id, 3),
    "fail": lambda ledger, base, job: ledger.endings.fail(job, "corrupt", "Damaged."),
    "put_off": lambda ledger, base, job: ledger.endings.put_off(job, Retry(1, 1, 0), "milvus-unavailable", "Away."),
    "finish_purge": lambda ledger, base, job: ledger.endings.finish_purge(job),
    "finish_delete": lambda ledger, base, job: ledger.endings.finish_delete(job),
    "finish_drop": lambda ledger, base, job: ledger.endings.finish_drop(job),
}
every_ending = pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS.keys())


@pytest.fixture
def base(ledger: Ledger) -> KnowledgeBase:
    return new_base(ledger)


# Fencing


@every_ending
def test_late_worker_changes_nothing(ledger: Ledger, base: KnowledgeBase, clock: Clock, end: End) -> None:
    document = add(ledger, base)
    late = claim(ledger, "late")
    clock.pass_by(LEASE)
    current = claim(ledger, "current")
    before = ledger.documents.get(base.id, document.id)
    with pytest.raises(LeaseLost):
        end(ledger, base, late)
    assert ledger.documents.get(base.id, document.id) == before
    ledger.endings.commit(current, base.live.id, 3)
    assert ledger.documents.get(base.id, document.id).status is DocumentStatus.READY


@every_ending
def test_worker_of_a_cancelled_job_changes_nothing(ledger: Ledger, base: KnowledgeBase, end: End) -> None:
    document = add(ledger, base)
    job = claim(ledger)
    ledger.documents.cancel(base.id, document.id)
    with pytest.raises(LeaseLost):
        end(ledger, base, job)
    assert ledger.documents.get(base.id, document.id).status is DocumentStatus.CANCELLED


@every_ending
def test_worker_of_a_superseded_version_changes_nothing(ledger: Ledger, base: KnowledgeBase, end: End) -> None:
    document = add(ledger, base, content=b"1")
    job = claim(ledger)
    record(ledger, base, an_upload(content=b"2"))
    with pytest.raises(LeaseLost):
        end(ledger, base, job)
    shown = ledger.documents.get(base.id, document.id)
    assert (shown.version, shown.status, shown.live_version) == (2, DocumentStatus.QUEUED, None)


@every_ending
def test_worker_of_a_finished_job_changes_nothing(ledger: Ledger, base: KnowledgeBase, end: End) -> None:
    document = add(ledger, base)
    job = index(ledger, base)
    with pytest.raises(LeaseLost):
        end(ledger, base, job)
    assert ledger.documents.get(base.id, document.id).status is DocumentStatus.READY


@every_ending
def test_worker_of_a_base_that_is_gone_loses_its_lease(
    ledger: Ledger, base: KnowledgeBase, clock: Clock, end: End
) -> None:
    add(ledger, base)
    late = claim(ledger)
    ledger.bases.begin_drop(base.name)
    clock.pass_by(LEASE)
    drop = claim(ledger)
    assert drop.kind is JobKind.DROP
    ledger.endings.finish_drop(drop)
    with pytest.raises(LeaseLost):
        end(ledger, base, late)


# Ends


def test_commit_makes_the_version_live_and_queues_the_removal_of_the_old_one(
    ledger: Ledger, base: KnowledgeBase
) -> None:
    document = add_ready(ledger, base, content=b"1")
    record(ledger, base, an_upload(content=b"2"))
    revision = ledger.bases.get(base.name).revision
    index(ledger, base, chunks=5)
    shown = ledger.documents.get(base.id, document.id)
    assert (shown.live_version, shown.status, shown.chunks) == (2, DocumentStatus.READY, 5)
    assert ledger.documents.live_pairs(base.live.id) == {(document.id, 2)}
    assert ledger.bases.get(base.name).revision > revision
    purge = claim(ledger)
    assert (purge.kind, purge.version) == (JobKind.PURGE, 1)
    assert list(ledger.endings.collections_to_clear(purge)) == [base.live.collection]
    assert ledger.endings.finish_purge(purge) == [an_upload(content=b"1").sha256]
    assert ledger.jobs.waiting() == 0


def test_terms_of_live_versions_are_kept(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(ledger, base)
    ledger.endings.commit(claim(ledger), base.live.id, 3, b"\x00terms")
    assert ledger.documents.terms(base.live.id, [document.id]) == {(document.id, 1): b"\x00terms"}


def test_progress_is_shown(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(ledger, base)
    ledger.jobs.advance(claim(ledger), DocumentStatus.EMBEDDING, 128, 500)
    shown = ledger.documents.get(base.id, document.id)
    assert (shown.progress.stage, shown.progress.done, shown.progress.total) == ("embedding", 128, 500)
    assert shown.attempts == 1


def test_failure_says_why_and_its_chunks_are_purged(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(ledger, base)
    ledger.endings.fail(claim(ledger), "encrypted", "It has a password.")
    shown = ledger.documents.get(base.id, document.id)
    assert (shown.status, shown.error_code, shown.error_detail) == ("failed", "encrypted", "It has a password.")
    purge = claim(ledger)
    assert (purge.kind, purge.version) == (JobKind.PURGE, 1)
    assert ledger.endings.finish_purge(purge) == []  # the original stays, for a retry
    assert ledger.documents.version(document.id, 1).status is DocumentStatus.FAILED


def test_failure_of_a_new_version_leaves_the_old_one_live(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add_ready(ledger, base, content=b"1")
    record(ledger, base, an_upload(content=b"2"))
    ledger.endings.fail(claim(ledger), "corrupt", "Damaged.")
    shown = ledger.documents.get(base.id, document.id)
    assert (shown.status, shown.live_version) == (DocumentStatus.FAILED, 1)
    ledger.endings.finish_purge(claim(ledger))
    assert ledger.documents.live_pairs(base.live.id) == {(document.id, 1)}


@pytest.mark.parametrize(("retry", "attempts", "waits"), [(Retry(10, 1, 0), 2, 0), (Retry(10, 0, 1), 1, 1)])
def test_job_that_was_put_off_waits_and_counts_only_where_it_should(
    ledger: Ledger, base: KnowledgeBase, clock: Clock, retry: Retry, attempts: int, waits: int
) -> None:
    document = add(ledger, base)
    ledger.endings.put_off(claim(ledger), retry, "milvus-unavailable", "Away.")
    shown = ledger.documents.get(base.id, document.id)
    assert (shown.status, shown.error_code) == (DocumentStatus.QUEUED, "milvus-unavailable")
    clock.pass_by(9.9)
    assert ledger.jobs.claim("w", LEASE) is None
    clock.pass_by(0.1)
    again = claim(ledger)
    assert (again.attempts, again.waits) == (attempts, waits)


def test_job_may_be_put_off_for_ever_where_that_counts_not(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    add(ledger, base)
    for waits in range(6):
        job = claim(ledger)
        assert (job.attempts, job.waits) == (1, waits)
        retry = RETRY_POLICY.after_outage(job)
        ledger.endings.put_off(job, retry, "milvus-unavailable", "Away.")
        clock.pass_by(retry.seconds)
        assert ledger.endings.reconcile() == 0


def test_abandoned_ingest_is_purged_if_it_was_cancelled(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(ledger, base)
    job = claim(ledger)
    ledger.documents.cancel(base.id, document.id)
    ledger.endings.abandon(job)
    assert claim(ledger).kind is JobKind.PURGE


def test_abandoned_jobs_are_done_again_if_nobody_cancelled_them(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(ledger, base)
    job = claim(ledger)
    ledger.endings.abandon(job)
    again = index(ledger, base)
    assert (again.id, again.attempts) == (job.id, 1)
    ledger.documents.begin_delete(base.id, document.id)
    removal = claim(ledger)
    ledger.endings.abandon(removal)
    assert claim(ledger).id == removal.id


def test_what_a_late_worker_wrote_is_purged_unless_it_is_live(
    ledger: Ledger, base: KnowledgeBase, clock: Clock
) -> None:
    document = add(ledger, base)
    late = claim(ledger)
    clock.pass_by(LEASE)
    taken = claim(ledger)
    ledger.endings.abandon(late)
    assert ledger.jobs.claim("third", LEASE) is None  # while the other works on it
    ledger.endings.commit(taken, base.live.id, 3)
    purge = claim(ledger)
    assert (purge.kind, purge.document_id, purge.version) == (JobKind.PURGE, document.id, 1)
    assert list(ledger.endings.collections_to_clear(purge)) == []
    assert ledger.endings.finish_purge(purge) == []
    assert ledger.jobs.waiting() == 0


def late_purge(ledger: Ledger, base: KnowledgeBase, document: Document, clock: Clock) -> Job:
    """Return a purge whose worker froze, while another did it and the document was retried and is live again."""
    ledger.endings.fail(claim(ledger), "corrupt", "Damaged.")
    late = claim(ledger)
    clock.pass_by(LEASE)
    ledger.endings.finish_purge(claim(ledger))
    ledger.documents.retry(base.id, document.id)
    index(ledger, base)
    return late


def test_live_version_is_indexed_again_after_a_late_purge_of_it(
    ledger: Ledger, base: KnowledgeBase, clock: Clock
) -> None:
    document = add(ledger, base)
    late = late_purge(ledger, base, document, clock)
    ledger.endings.abandon(late)
    again = claim(ledger)
    assert (again.kind, again.document_id, again.version) == (JobKind.REBUILD, document.id, 1)
    assert again.generation_id == base.live.id
    ledger.rebuilds.finish(again, 3, None)
    assert ledger.documents.live_pairs(base.live.id) == {(document.id, 1)}
    assert ledger.jobs.waiting() == 0


def test_rebuild_indexes_again_what_a_late_purge_may_have_removed_from_it(
    ledger: Ledger, base: KnowledgeBase, clock: Clock
) -> None:
    add_ready(ledger, base, "other.txt", b"other")
    document = add(ledger, base)
    late = late_purge(ledger, base, document, clock)
    base = ledger.rebuilds.begin(base, NewGeneration("kb_new", "hash-64", 64, IndexSpec(), ChunkingSpec()))
    assert base.building is not None
    rebuilt = next(job for job in (claim(ledger), claim(ledger)) if job.document_id == document.id)
    ledger.rebuilds.finish(rebuilt, 3, None)
    ledger.endings.abandon(late)
    ledger.rebuilds.reconcile()
    first = claim(ledger)
    ledger.rebuilds.finish(first, 3, None)
    second = claim(ledger)
    assert {first.generation_id, second.generation_id} == {base.live.id, base.building.id}
    assert {first.document_id, second.document_id} == {document.id}


def test_lost_purge_of_a_version_that_is_gone_queues_nothing(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    add_ready(ledger, base, content=b"1")
    record(ledger, base, an_upload(content=b"2"))
    index(ledger, base)
    late = claim(ledger)
    clock.pass_by(LEASE)
    ledger.endings.finish_purge(claim(ledger))
    ledger.endings.abandon(late)
    assert ledger.jobs.waiting() == 0


def test_worker_that_could_not_renew_charges_no_attempt_to_its_document(
    ledger: Ledger, base: KnowledgeBase, clock: Clock
) -> None:
    add(ledger, base)
    for _ in range(5):
        job = claim(ledger)
        assert job.attempts == 1
        clock.pass_by(LEASE)
        ledger.endings.abandon(job)
        assert ledger.endings.reconcile() == 0


def test_purge_leaves_a_version_that_is_live_again(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    document = add(ledger, base)
    ledger.endings.fail(claim(ledger), "corrupt", "Damaged.")
    purge = claim(ledger)
    ledger.endings.put_off(purge, Retry(100, 0, 1), "milvus-unavailable", "Away.")
    ledger.documents.retry(base.id, document.id)
    index(ledger, base)
    clock.pass_by(100)
    purge = claim(ledger)
    assert purge.kind is JobKind.PURGE
    assert list(ledger.endings.collections_to_clear(purge)) == []
    assert ledger.endings.finish_purge(purge) == []
    assert ledger.documents.live_pairs(base.live.id) == {(document.id, 1)}


def test_delete_beats_a_running_ingest(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    document = add(ledger, base)
    ingest = claim(ledger)
    ledger.documents.begin_delete(base.id, document.id)
    with pytest.raises(LeaseLost):
        ledger.endings.commit(ingest, base.live.id, 3)
    ledger.endings.abandon(ingest)
    while job := ledger.jobs.claim("w", LEASE):
        if job.kind is JobKind.DELETE:
            assert list(ledger.endings.collections_to_clear(job)) == [base.live.collection]
            ledger.endings.finish_delete(job)
        else:
            ledger.endings.finish_purge(job)
    assert ledger.documents.get(base.id, document.id).status is DocumentStatus.DELETED
    assert ledger.jobs.waiting() == 0


def test_finished_drop_leaves_no_row_and_releases_every_original_once(ledger: Ledger, base: KnowledgeBase) -> None:
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        add_ready(ledger, base, name, content)
    ledger.bases.begin_drop(base.name)
    released = ledger.endings.finish_drop(claim(ledger))
    assert sorted(released) == sorted({an_upload(content=b"1").sha256, an_upload(content=b"2").sha256})
    with pytest.raises(NotFound):
        ledger.bases.get_by_id(base.id)
    assert ledger.jobs.waiting() == 0


# Reconciling


def test_document_whose_workers_die_three_times_fails_and_says_so(
    ledger: Ledger, base: KnowledgeBase, clock: Clock
) -> None:
    document = add(ledger, base)
    for _ in range(3):
        assert ledger.endings.reconcile() == 0
        claim(ledger)
        clock.pass_by(LEASE)
    assert ledger.jobs.claim("w", LEASE) is None
    assert (ledger.endings.reconcile(), ledger.jobs.any_due()) == (1, True)
    shown = ledger.documents.get(base.id, document.id)
    assert (shown.status, shown.error_code) == (DocumentStatus.FAILED, "attempts-exhausted")
    assert claim(ledger).kind is JobKind.PURGE


def test_removals_are_tried_for_ever(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    document = add_ready(ledger, base)
    ledger.documents.begin_delete(base.id, document.id)
    for _ in range(5):
        assert claim(ledger).kind is JobKind.DELETE
        clock.pass_by(LEASE)
        assert ledger.endings.reconcile() == 0


def test_cancelled_job_of_a_dead_worker_is_purged(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    document = add(ledger, base)
    claim(ledger)
    ledger.documents.cancel(base.id, document.id)
    clock.pass_by(LEASE)
    ledger.endings.reconcile()
    kinds = []
    while job := ledger.jobs.claim("w", LEASE):
        kinds.append(job.kind)
        ledger.endings.finish_purge(job)
    assert set(kinds) == {JobKind.PURGE}
    assert ledger.jobs.waiting() == 0


def test_job_in_hand_is_left_alone(ledger: Ledger, base: KnowledgeBase) -> None:
    add(ledger, base)
    job = claim(ledger)
    assert (ledger.endings.reconcile(), ledger.jobs.any_due()) == (0, False)
    ledger.endings.commit(job, base.live.id, 1)


def test_tombstone_is_forgotten_after_a_day(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    document = add_ready(ledger, base)
    ledger.documents.begin_delete(base.id, document.id)
    ledger.endings.finish_delete(claim(ledger))
    clock.pass_by(23 * 3600)
    ledger.endings.reconcile()
    assert ledger.documents.get(base.id, document.id).status is DocumentStatus.DELETED
    clock.pass_by(2 * 3600)
    ledger.endings.reconcile()
    with pytest.raises(NotFound):
        ledger.documents.get(base.id, document.id)
