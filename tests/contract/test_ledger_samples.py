"""The sample of a generation: deterministic, written with the end of an indexing, and gone with its document."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.servers.ledgers import LEASE, Clock, add, claim, new_base
from zhiwen.common.embedding.background import SLOTS
from zhiwen.common.ledger import LeaseLost, Ledger, NewGeneration
from zhiwen.common.models import ChunkingSpec, IndexSpec, Job, JobKind, KnowledgeBase, Sampled


def row(slot: int, hash: int, ordinal: int = 0) -> Sampled:
    return Sampled(slot, hash, ordinal, bytes([ordinal]) * 8, b"o", None)


def begin(ledger: Ledger, base: KnowledgeBase, name: str) -> Job:
    add(ledger, base, name)
    return claim(ledger)


def test_lowest_hash_keeps_the_slot_whatever_the_order(ledger: Ledger) -> None:
    base = new_base(ledger)
    for name, sample in (("a", [row(0, 5), row(7, 9)]), ("b", [row(7, 3, 1), row(0, 6, 1)]), ("c", [])):
        ledger.endings.commit(begin(ledger, base, name), base.live.id, 2, None, sample)
    assert ledger.samples.of(base.live.id) == [row(0, 5), row(7, 3, 1)]
    assert ledger.samples.hashes(base.live.id) == {0: 5, 7: 3}
    assert ledger.samples.hashes(base.live.id + 1) == {}


def test_late_worker_and_a_crash_before_the_commit_leave_no_sample(ledger: Ledger, clock: Clock) -> None:
    base = new_base(ledger)
    late = begin(ledger, base, "a")
    clock.pass_by(LEASE + 1)
    again = claim(ledger, "other")
    with pytest.raises(LeaseLost):
        ledger.endings.commit(late, base.live.id, 1, None, [row(0, 5)])
    assert ledger.samples.of(base.live.id) == []
    ledger.endings.commit(again, base.live.id, 1, None, [row(0, 5)])
    assert ledger.samples.of(base.live.id) == [row(0, 5)]


def test_the_same_chunk_again_changes_nothing_but_its_vector(ledger: Ledger) -> None:
    base = new_base(ledger)
    first = begin(ledger, base, "a")
    ledger.endings.commit(first, base.live.id, 1, None, [row(0, 5)])
    document = ledger.documents.get(base.id, str(first.document_id))
    ledger.rebuilds.reindex(base, document.id, 1)
    ledger.rebuilds.finish(claim(ledger), 1, None, [replace(row(0, 5), vector=b"new")])
    assert ledger.samples.of(base.live.id) == [replace(row(0, 5), vector=b"new")]


def test_sample_goes_with_its_version_and_its_document(ledger: Ledger) -> None:
    base = new_base(ledger)
    kept, changed, removed = (begin(ledger, base, name) for name in ("kept", "changed", "removed"))
    for slot, job in enumerate((kept, changed, removed)):
        ledger.endings.commit(job, base.live.id, 2, None, [row(slot, 5), row(10 + slot, 5)])
    add(ledger, base, "changed", b"other")
    ledger.endings.commit(claim(ledger), base.live.id, 1, None, [row(20, 5)])
    purge = claim(ledger)
    assert purge.kind is JobKind.PURGE
    ledger.endings.finish_purge(purge)
    assert set(ledger.samples.hashes(base.live.id)) == {0, 10, 20, 2, 12}
    ledger.documents.begin_delete(base.id, str(removed.document_id))
    ledger.endings.finish_delete(claim(ledger))
    assert set(ledger.samples.hashes(base.live.id)) == {0, 10, 20}


def test_rebuild_fills_its_own_sample_and_the_old_one_goes_with_its_generation(ledger: Ledger, clock: Clock) -> None:
    base = new_base(ledger)
    ledger.endings.commit(begin(ledger, base, "a"), base.live.id, 1, None, [row(0, 5)])
    new = NewGeneration("kb_other", "hash-64", 64, IndexSpec(), ChunkingSpec(100, 10))
    building = ledger.rebuilds.begin(base, new).building
    assert building is not None
    ledger.rebuilds.finish(claim(ledger), 1, None, [row(3, 4)])
    assert ledger.bases.get(base.name).live.id == building.id
    assert ledger.samples.of(building.id) == [row(3, 4)]
    clock.pass_by(60)
    ledger.rebuilds.finish_retire(claim(ledger))
    assert ledger.samples.of(base.live.id) == []


def test_two_workers_at_once_leave_the_lowest_hashes(ledger: Ledger) -> None:
    base = new_base(ledger)
    jobs = [begin(ledger, base, f"{n}") for n in range(8)]

    def commit(number: int) -> None:
        sample = [row(slot, (slot * 31 + number * 17) % 101, number) for slot in range(SLOTS)]
        ledger.endings.commit(jobs[number], base.live.id, SLOTS, None, sample if number % 2 else sample[::-1])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(commit, range(8)))
    lowest = {slot: min((slot * 31 + number * 17) % 101 for number in range(8)) for slot in range(SLOTS)}
    assert ledger.samples.hashes(base.live.id) == lowest


def test_what_is_tuned_is_stored_with_the_base(ledger: Ledger) -> None:
    base = new_base(ledger, dense_weight=0.5, min_confidence=0.25)
    assert (base.dense_weight, base.min_confidence) == (0.5, 0.25)
    changed = ledger.bases.update(base.name, {"dense_weight": None, "min_confidence": 1.0})
    assert (changed.dense_weight, changed.min_confidence) == (None, 1.0)
    assert ledger.bases.get(base.name) == changed
