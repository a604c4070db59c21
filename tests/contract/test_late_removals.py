"""A worker that has lost its lease removes no chunks: the version may have been retried and be live by now."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tests.servers.ledgers import LEASE, Clock, add, add_ready, claim, new_base
from zhiwen.common.ledger import LeaseLost, Ledger
from zhiwen.common.models import Job, JobKind, KnowledgeBase
from zhiwen.common.originals import DiskOriginals
from zhiwen.ingest.worker.leases import Lease
from zhiwen.ingest.worker.pipeline import Pipeline

UNUSED = cast(Any, None)


class Removals:
    """A store that knows which removals were asked of it, and lets time pass before each look at its collections."""

    def __init__(self, base: KnowledgeBase, clock: Clock, seconds: float) -> None:
        self.base = base
        self.clock = clock
        self.seconds = seconds
        self.deleted: list[str | None] = []

    def collections(self) -> list[str]:
        self.clock.pass_by(self.seconds)
        return [self.base.live.collection]

    def delete(self, collection: str, document_id: str, version: int | None) -> None:
        assert collection == self.base.live.collection
        self.deleted.append(document_id)


def a_removal(ledger: Ledger, base: KnowledgeBase, kind: JobKind) -> Job:
    """Return a claimed removal of one document's chunks."""
    if kind is JobKind.DELETE:
        ledger.documents.begin_delete(base.id, add_ready(ledger, base).id)
    else:
        add(ledger, base)
        ledger.endings.fail(claim(ledger), "corrupt", "Damaged.")
    job = claim(ledger)
    assert job.kind is kind
    return job


@pytest.mark.parametrize("kind", [JobKind.PURGE, JobKind.DELETE])
@pytest.mark.parametrize("late", [False, True])
def test_late_worker_removes_no_chunks(
    own_ledger: Ledger, clock: Clock, tmp_path: Path, kind: JobKind, late: bool
) -> None:
    base = new_base(own_ledger)
    job = a_removal(own_ledger, base, kind)
    store = Removals(base, clock, LEASE if late else LEASE - 1)
    lease = Lease(job, clock() + LEASE, clock)
    pipeline = Pipeline(own_ledger, cast(Any, store), DiskOriginals(tmp_path), UNUSED, UNUSED)
    if late:
        with pytest.raises(LeaseLost):
            pipeline.run(job, lease)
        assert store.deleted == []
    else:
        pipeline.run(job, lease)
        assert store.deleted == [job.document_id]
