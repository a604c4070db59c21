"""Claims, leases, fencing and the ends of jobs, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.servers.ledgers import LEASE, Clock, add, add_ready, an_upload, claim, index, new_base, record
from zhiwen.common.ledger import LeaseLost, Ledger, NewGeneration
from zhiwen.common.models import ChunkingSpec, Document, DocumentStatus, IndexSpec, Job, JobKind, KnowledgeBase

End = Callable[[Ledger, KnowledgeBase, Job], object]

ENDINGS: dict[str, End] = {
    "advance": lambda ledger, base, job: ledger.jobs.advance(job, DocumentStatus.EMBEDDING, 1, 2),
    "commit": lambda ledger, base, job: ledger.jobs.commit_ingest(job, base.live.id, 3),
    "fail": lambda ledger, base, job: ledger.jobs.fail(job, "corrupt", "Damaged."),
    "put_off": lambda ledger, base, job: ledger.jobs.put_off(job, 1, "milvus-unavailable", "Away.", counts=True),
    "finish_purge": lambda ledger, base, job: ledger.jobs.finish_purge(job),
    "finish_delete": lambda ledger, base, job: ledger.jobs.finish_delete(job),
    "finish_drop": lambda ledger, base, job: ledger.jobs.finish_drop(job),
}
every_ending = pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS.keys())


@pytest.fixture
def base(ledger: Ledger) -> KnowledgeBase:
    return new_base(ledger)


# Order


def test_nothing_to_do_is_none(ledger: Ledger, base: KnowledgeBase) -> None:
    assert ledger.jobs.claim("w", LEASE) is None
    assert not ledger.jobs.any_due()


def test_bases_are_served_in_turn(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    other = new_base(ledger, "小")
    for number in range(5):
        add(ledger, base, f"{number}.txt", str(number).encode())
    clock.pass_by(1)
    add(ledger, other, "only.txt")
    served = []
    for _ in range(3):
        clock.pass_by(1)
        served.append(claim(ledger).knowledge_base_id)
    assert served.count(other.id) == 1
    assert other.id in served[:2]


def test_jobs_of_a_base_go_in_order_of_arrival(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    expected = []
    for number in range(3):
        clock.pass_by(1)
        expected.append(add(ledger, base, f"{number}.txt", str(number).encode()).id)
    assert [claim(ledger).document_id for _ in expected] == expected


def test_removals_go_first(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    old = add_ready(ledger, base, "old.txt")
    add(ledger, base, "new.txt", b"new")
    clock.pass_by(1)
    ledger.documents.begin_delete(base.id, old.id, request_id=None)
    assert claim(ledger).kind is JobKind.DELETE
    assert claim(ledger).kind is JobKind.INGEST


def test_one_document_has_one_worker_at_a_time(ledger: Ledger, base: KnowledgeBase) -> None:
    add(ledger, base, content=b"1")
    first = claim(ledger)
    record(ledger, base, an_upload(content=b"2"))
    assert ledger.jobs.claim("another", LEASE) is None
    ledger.jobs.abandon(first)
    assert claim(ledger).kind is JobKind.PURGE


def test_drop_waits_until_nobody_works_on_the_base(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    add(ledger, base)
    held = claim(ledger)
    ledger.bases.begin_drop(base.name, request_id=None)
    assert ledger.jobs.claim("another", LEASE) is None
    ledger.jobs.abandon(held)
    kinds = {claim(ledger).kind}
    assert kinds <= {JobKind.DROP, JobKind.PURGE}


def test_what_is_held_or_put_off_is_waiting_but_not_due(ledger: Ledger, base: KnowledgeBase) -> None:
    for number in range(3):
        add(ledger, base, f"{number}.txt", str(number).encode())
    claim(ledger)
    ledger.jobs.put_off(claim(ledger), 60, "milvus-unavailable", "Away.", counts=False)
    assert (ledger.jobs.any_due(), ledger.jobs.waiting()) == (True, 3)
    claim(ledger)
    assert (ledger.jobs.any_due(), ledger.jobs.waiting()) == (False, 3)


# Leases and fencing


def test_lease_holds_until_it_runs_out(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    add(ledger, base)
    first = claim(ledger)
    clock.pass_by(LEASE - 0.001)
    assert ledger.jobs.claim("another", LEASE) is None
    clock.pass_by(0.001)
    second = claim(ledger)
    assert (second.id, second.fence, second.attempts) == (first.id, first.fence + 1, 2)


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
    ledger.jobs.commit_ingest(current, base.live.id, 3)
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
    ledger.bases.begin_drop(base.name, request_id=None)
    clock.pass_by(LEASE)
    drop = claim(ledger)
    assert drop.kind is JobKind.DROP
    ledger.jobs.finish_drop(drop)
    with pytest.raises(LeaseLost):
        end(ledger, base, late)


def test_renewed_lease_holds_on(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    add(ledger, base)
    job = claim(ledger)
    for _ in range(3):
        clock.pass_by(LEASE - 1)
        assert ledger.jobs.renew([job], LEASE) == set()
    assert ledger.jobs.claim("another", LEASE) is None


def test_renewal_names_what_is_lost_or_cancelled_and_renews_the_rest(
    ledger: Ledger, base: KnowledgeBase, clock: Clock
) -> None:
    held = []
    for number in range(3):
        add(ledger, base, f"{number}.txt", str(number).encode())
        held.append(claim(ledger))
    ledger.documents.cancel(base.id, str(held[1].document_id))
    clock.pass_by(LEASE - 1)
    assert ledger.jobs.renew(held, LEASE) == {held[1].id}
    clock.pass_by(2)
    ledger.jobs.commit_ingest(held[0], base.live.id, 1)
    ledger.jobs.commit_ingest(held[2], base.live.id, 1)


def test_renewal_after_another_took_over_is_lost(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    add(ledger, base)
    late = claim(ledger)
    clock.pass_by(LEASE)
    claim(ledger)
    assert ledger.jobs.renew([late], LEASE) == {late.id}


def test_leases_of_a_dead_owner_can_be_released_at_once(ledger: Ledger, base: KnowledgeBase) -> None:
    add(ledger, base, "a.txt", b"a")
    add(ledger, base, "b.txt", b"b")
    first, _second = claim(ledger, "host%1:77"), claim(ledger, "host:77")
    assert ledger.jobs.release_owner("host%1:") == 1
    assert claim(ledger).id == first.id


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
    assert ledger.documents.live_sets(base.live.id) == {(document.id, 2)}
    assert ledger.bases.get(base.name).revision > revision
    purge = claim(ledger)
    assert (purge.kind, purge.version) == (JobKind.PURGE, 1)
    assert list(ledger.jobs.removable_chunks(purge)) == [base.live.collection]
    assert ledger.jobs.finish_purge(purge) == [an_upload(content=b"1").sha256]
    assert ledger.jobs.waiting() == 0


def test_terms_of_what_answers_are_kept(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(ledger, base)
    ledger.jobs.commit_ingest(claim(ledger), base.live.id, 3, b"\x00terms")
    assert ledger.documents.terms(base.live.id, [document.id]) == {(document.id, 1): b"\x00terms"}


def test_progress_is_shown(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(ledger, base)
    ledger.jobs.advance(claim(ledger), DocumentStatus.EMBEDDING, 128, 500)
    shown = ledger.documents.get(base.id, document.id)
    assert (shown.progress.stage, shown.progress.done, shown.progress.total) == ("embedding", 128, 500)
    assert shown.attempts == 1


def test_failure_says_why_and_its_chunks_are_purged(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(ledger, base)
    ledger.jobs.fail(claim(ledger), "encrypted", "It has a password.")
    shown = ledger.documents.get(base.id, document.id)
    assert (shown.status, shown.error_code, shown.error_detail) == ("failed", "encrypted", "It has a password.")
    purge = claim(ledger)
    assert (purge.kind, purge.version) == (JobKind.PURGE, 1)
    assert ledger.jobs.finish_purge(purge) == []  # the original stays, for a retry
    assert ledger.documents.version(document.id, 1).status is DocumentStatus.FAILED


def test_failure_of_a_new_version_leaves_the_old_one_answering(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add_ready(ledger, base, content=b"1")
    record(ledger, base, an_upload(content=b"2"))
    ledger.jobs.fail(claim(ledger), "corrupt", "Damaged.")
    shown = ledger.documents.get(base.id, document.id)
    assert (shown.status, shown.live_version) == (DocumentStatus.FAILED, 1)
    ledger.jobs.finish_purge(claim(ledger))
    assert ledger.documents.live_sets(base.live.id) == {(document.id, 1)}


@pytest.mark.parametrize(("counts", "attempts"), [(True, 2), (False, 1)])
def test_job_that_was_put_off_waits_and_counts_only_where_it_should(
    ledger: Ledger, base: KnowledgeBase, clock: Clock, counts: bool, attempts: int
) -> None:
    document = add(ledger, base)
    ledger.jobs.put_off(claim(ledger), 10, "milvus-unavailable", "Away.", counts=counts)
    shown = ledger.documents.get(base.id, document.id)
    assert (shown.status, shown.error_code) == (DocumentStatus.QUEUED, "milvus-unavailable")
    clock.pass_by(9.9)
    assert ledger.jobs.claim("w", LEASE) is None
    clock.pass_by(0.1)
    again = claim(ledger)
    assert (again.attempts, again.waits) == (attempts, 0 if counts else 1)


def test_job_may_be_put_off_for_ever_where_that_counts_not(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    add(ledger, base)
    for waits in range(6):
        job = claim(ledger)
        assert (job.attempts, job.waits) == (1, waits)
        ledger.jobs.put_off(job, 1, "milvus-unavailable", "Away.", counts=False)
        clock.pass_by(1)
        assert ledger.jobs.reconcile().given_up == 0


def test_abandoned_ingest_is_purged_if_it_was_cancelled(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(ledger, base)
    job = claim(ledger)
    ledger.documents.cancel(base.id, document.id)
    ledger.jobs.abandon(job)
    assert claim(ledger).kind is JobKind.PURGE


def test_abandoned_jobs_are_done_again_if_nobody_cancelled_them(ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(ledger, base)
    job = claim(ledger)
    ledger.jobs.abandon(job)
    again = index(ledger, base)
    assert (again.id, again.attempts) == (job.id, 1)
    ledger.documents.begin_delete(base.id, document.id, request_id=None)
    removal = claim(ledger)
    ledger.jobs.abandon(removal)
    assert claim(ledger).id == removal.id


def test_what_a_late_worker_wrote_is_purged_unless_it_answers(
    ledger: Ledger, base: KnowledgeBase, clock: Clock
) -> None:
    document = add(ledger, base)
    late = claim(ledger)
    clock.pass_by(LEASE)
    taken = claim(ledger)
    ledger.jobs.abandon(late)
    assert ledger.jobs.claim("third", LEASE) is None  # while the other works on it
    ledger.jobs.commit_ingest(taken, base.live.id, 3)
    purge = claim(ledger)
    assert (purge.kind, purge.document_id, purge.version) == (JobKind.PURGE, document.id, 1)
    assert list(ledger.jobs.removable_chunks(purge)) == []
    assert ledger.jobs.finish_purge(purge) == []
    assert ledger.jobs.waiting() == 0


def late_purge(ledger: Ledger, base: KnowledgeBase, document: Document, clock: Clock) -> Job:
    """Return a purge whose worker froze, while another did it and the document was retried and answers again."""
    ledger.jobs.fail(claim(ledger), "corrupt", "Damaged.")
    late = claim(ledger)
    clock.pass_by(LEASE)
    ledger.jobs.finish_purge(claim(ledger))
    ledger.documents.retry(base.id, document.id, request_id=None)
    index(ledger, base)
    return late


def test_version_that_answers_is_indexed_again_after_a_late_purge_of_it(
    ledger: Ledger, base: KnowledgeBase, clock: Clock
) -> None:
    document = add(ledger, base)
    late = late_purge(ledger, base, document, clock)
    ledger.jobs.abandon(late)
    again = claim(ledger)
    assert (again.kind, again.document_id, again.version) == (JobKind.REBUILD, document.id, 1)
    assert again.generation_id == base.live.id
    ledger.rebuilds.finish(again, 3, None)
    assert ledger.documents.live_sets(base.live.id) == {(document.id, 1)}
    assert ledger.jobs.waiting() == 0


def test_rebuild_indexes_again_what_a_late_purge_may_have_removed_from_it(
    ledger: Ledger, base: KnowledgeBase, clock: Clock
) -> None:
    add_ready(ledger, base, "other.txt", b"other")
    document = add(ledger, base)
    late = late_purge(ledger, base, document, clock)
    base = ledger.rebuilds.begin(
        base, NewGeneration("kb_new", "hash-64", 64, IndexSpec(), ChunkingSpec()), request_id=None
    )
    assert base.building is not None
    rebuilt = next(job for job in (claim(ledger), claim(ledger)) if job.document_id == document.id)
    ledger.rebuilds.finish(rebuilt, 3, None)
    ledger.jobs.abandon(late)
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
    ledger.jobs.finish_purge(claim(ledger))
    ledger.jobs.abandon(late)
    assert ledger.jobs.waiting() == 0


def test_worker_that_could_not_renew_charges_no_attempt_to_its_document(
    ledger: Ledger, base: KnowledgeBase, clock: Clock
) -> None:
    add(ledger, base)
    for _ in range(5):
        job = claim(ledger)
        assert job.attempts == 1
        clock.pass_by(LEASE)
        ledger.jobs.abandon(job)
        assert ledger.jobs.reconcile().given_up == 0


def test_purge_leaves_alone_what_answers_again(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    document = add(ledger, base)
    ledger.jobs.fail(claim(ledger), "corrupt", "Damaged.")
    purge = claim(ledger)
    ledger.jobs.put_off(purge, 100, "milvus-unavailable", "Away.", counts=False)
    ledger.documents.retry(base.id, document.id, request_id=None)
    index(ledger, base)
    clock.pass_by(100)
    purge = claim(ledger)
    assert purge.kind is JobKind.PURGE
    assert list(ledger.jobs.removable_chunks(purge)) == []
    assert ledger.jobs.finish_purge(purge) == []
    assert ledger.documents.live_sets(base.live.id) == {(document.id, 1)}


def test_delete_beats_a_running_ingest(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    document = add(ledger, base)
    ingest = claim(ledger)
    ledger.documents.begin_delete(base.id, document.id, request_id=None)
    with pytest.raises(LeaseLost):
        ledger.jobs.commit_ingest(ingest, base.live.id, 3)
    ledger.jobs.abandon(ingest)
    while job := ledger.jobs.claim("w", LEASE):
        if job.kind is JobKind.DELETE:
            assert list(ledger.jobs.removable_chunks(job)) == [base.live.collection]
            ledger.jobs.finish_delete(job)
        else:
            ledger.jobs.finish_purge(job)
    assert ledger.documents.get(base.id, document.id).status is DocumentStatus.DELETED
    assert ledger.jobs.waiting() == 0


@pytest.mark.parametrize("how", ["deleted", "replaced", "dropped"])
def test_original_whose_remover_died_is_found_long_after_its_upload(
    ledger: Ledger, base: KnowledgeBase, clock: Clock, how: str
) -> None:
    ledger.documents.expect_original(an_upload(content=b"1").sha256)
    document = add_ready(ledger, base, content=b"1")
    clock.pass_by(7 * 24 * 3600)
    if how == "deleted":
        ledger.documents.begin_delete(base.id, document.id, request_id=None)
        released = ledger.jobs.finish_delete(claim(ledger))
    elif how == "replaced":
        record(ledger, base, an_upload(content=b"2"))
        index(ledger, base)
        released = ledger.jobs.finish_purge(claim(ledger))
    else:
        ledger.bases.begin_drop(base.name, request_id=None)
        released = ledger.jobs.finish_drop(claim(ledger))
    assert released == [an_upload(content=b"1").sha256]
    since = clock()
    clock.pass_by(LEASE)
    assert list(ledger.jobs.forgotten_originals(since=since, before=clock())) == released


# Reconciling


def test_document_whose_workers_die_three_times_fails_and_says_so(
    ledger: Ledger, base: KnowledgeBase, clock: Clock
) -> None:
    document = add(ledger, base)
    for _ in range(3):
        assert ledger.jobs.reconcile().given_up == 0
        claim(ledger)
        clock.pass_by(LEASE)
    assert ledger.jobs.claim("w", LEASE) is None
    result = ledger.jobs.reconcile()
    assert (result.given_up, result.due) == (1, True)
    shown = ledger.documents.get(base.id, document.id)
    assert (shown.status, shown.error_code) == (DocumentStatus.FAILED, "attempts-exhausted")
    assert claim(ledger).kind is JobKind.PURGE


def test_removals_are_tried_for_ever(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    document = add_ready(ledger, base)
    ledger.documents.begin_delete(base.id, document.id, request_id=None)
    for _ in range(5):
        assert claim(ledger).kind is JobKind.DELETE
        clock.pass_by(LEASE)
        assert ledger.jobs.reconcile().given_up == 0


def test_cancelled_job_of_a_dead_worker_is_purged(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    document = add(ledger, base)
    claim(ledger)
    ledger.documents.cancel(base.id, document.id)
    clock.pass_by(LEASE)
    ledger.jobs.reconcile()
    kinds = []
    while job := ledger.jobs.claim("w", LEASE):
        kinds.append(job.kind)
        ledger.jobs.finish_purge(job)
    assert set(kinds) == {JobKind.PURGE}
    assert ledger.jobs.waiting() == 0


def test_job_in_hand_is_left_alone(ledger: Ledger, base: KnowledgeBase) -> None:
    add(ledger, base)
    job = claim(ledger)
    result = ledger.jobs.reconcile()
    assert (result.given_up, result.due) == (0, False)
    ledger.jobs.commit_ingest(job, base.live.id, 1)
