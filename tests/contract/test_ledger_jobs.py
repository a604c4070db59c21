"""The order of jobs, claims and leases, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest

from tests.servers.ledgers import LEASE, Clock, add, add_ready, an_upload, claim, new_base, record
from zhiwen.common.ledger import Ledger, Retry
from zhiwen.common.models import JobKind, KnowledgeBase


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
    ledger.documents.begin_delete(base.id, old.id)
    assert claim(ledger).kind is JobKind.DELETE
    assert claim(ledger).kind is JobKind.INGEST


def test_one_document_has_one_worker_at_a_time(ledger: Ledger, base: KnowledgeBase) -> None:
    add(ledger, base, content=b"1")
    first = claim(ledger)
    record(ledger, base, an_upload(content=b"2"))
    assert ledger.jobs.claim("another", LEASE) is None
    ledger.endings.abandon(first)
    assert claim(ledger).kind is JobKind.PURGE


def test_drop_waits_until_nobody_works_on_the_base(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    add(ledger, base)
    held = claim(ledger)
    ledger.bases.begin_drop(base.name)
    assert ledger.jobs.claim("another", LEASE) is None
    ledger.endings.abandon(held)
    kinds = {claim(ledger).kind}
    assert kinds <= {JobKind.DROP, JobKind.PURGE}


def test_what_is_held_or_put_off_is_waiting_but_not_due(ledger: Ledger, base: KnowledgeBase) -> None:
    for number in range(3):
        add(ledger, base, f"{number}.txt", str(number).encode())
    claim(ledger)
    ledger.endings.put_off(claim(ledger), Retry(60, 0, 1), "milvus-unavailable", "Away.")
    assert (ledger.jobs.any_due(), ledger.jobs.waiting()) == (True, 3)
    claim(ledger)
    assert (ledger.jobs.any_due(), ledger.jobs.waiting()) == (False, 3)


# Leases


def test_lease_holds_until_it_runs_out(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    add(ledger, base)
    first = claim(ledger)
    clock.pass_by(LEASE - 0.001)
    assert ledger.jobs.claim("another", LEASE) is None
    clock.pass_by(0.001)
    second = claim(ledger)
    assert (second.id, second.fence, second.attempts) == (first.id, first.fence + 1, 2)


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
    ledger.endings.commit(held[0], base.live.id, 1)
    ledger.endings.commit(held[2], base.live.id, 1)


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
    assert ledger.jobs.expire_leases_of("host%1:") == 1
    assert claim(ledger).id == first.id
