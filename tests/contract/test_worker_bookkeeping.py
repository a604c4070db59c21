"""What a job costs its document when the ledger goes away at the wrong moment: nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import pytest

from tests.servers.ledgers import LEASE, Clock, add, new_base
from zhiwen.common.errors import DocumentError, Unavailable
from zhiwen.common.ledger import Jobs, LeaseLost, Ledger
from zhiwen.common.models import DocumentStatus, Job, KnowledgeBase
from zhiwen.ingest.worker.broker import Broker
from zhiwen.ingest.worker.leases import Lease, LeaseKeeper
from zhiwen.ingest.worker.loop import Worker
from zhiwen.ingest.worker.pipeline import Pipeline


class AwayAtFirst(Jobs):
    """Jobs whose ledger does not answer the first time that one of its methods is called."""

    def __init__(self, jobs: Jobs, method: str) -> None:
        super().__init__(jobs.database)
        self.away = {method}

    def _answer(self, method: str) -> None:
        if method in self.away:
            self.away.remove(method)
            raise Unavailable("ledger-unavailable", "The ledger does not answer.")

    def any_due(self) -> bool:
        self._answer("any_due")
        return super().any_due()

    def put_off(self, job: Job, seconds: float, code: str, detail: str, *, counts: bool) -> None:
        self._answer("put_off")
        super().put_off(job, seconds, code, detail, counts=counts)

    def fail(self, job: Job, code: str, detail: str) -> None:
        self._answer("fail")
        super().fail(job, code, detail)

    def abandon(self, job: Job) -> None:
        self._answer("abandon")
        super().abandon(job)


@dataclass
class Ending:
    """A pipeline whose every job ends in the same way."""

    error: Exception

    def run(self, job: Job, lease: Lease) -> None:
        raise self.error


class SilentBroker:
    """A broker that wakes nobody."""

    def wake(self) -> None:
        pass


@contextmanager
def a_worker(ledger: Ledger, error: Exception, stopping: threading.Event | None = None) -> Iterator[Worker]:
    leases = LeaseKeeper(ledger.jobs, LEASE)
    yield Worker(
        ledger=ledger,
        pipeline=cast(Pipeline, Ending(error)),
        leases=leases,
        broker=cast(Broker, SilentBroker()),
        owner="worker",
        lease_seconds=LEASE,
        stopping=stopping or threading.Event(),
    )
    leases.close()


@pytest.fixture
def base(own_ledger: Ledger) -> KnowledgeBase:
    return new_base(own_ledger)


@pytest.mark.parametrize(
    ("error", "method"),
    [
        (Unavailable("milvus-unavailable", "Away."), "put_off"),
        (Unavailable("milvus-unavailable", "Away."), "any_due"),
        (LeaseLost(), "abandon"),
    ],
    ids=["put_off", "any_due", "abandon"],
)
def test_ledger_that_is_away_for_a_moment_charges_no_attempt(
    own_ledger: Ledger, clock: Clock, base: KnowledgeBase, error: Exception, method: str
) -> None:
    add(own_ledger, base)
    with a_worker(replace(own_ledger, jobs=AwayAtFirst(own_ledger.jobs, method)), error) as worker:
        assert worker.work()
    clock.pass_by(LEASE - 1)  # the lease it had would not be over
    job = own_ledger.jobs.claim("another", LEASE)
    assert job is not None
    assert job.attempts == 1


def test_failure_is_noted_when_the_ledger_is_back(own_ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(own_ledger, base)
    error = DocumentError("encrypted", "It has a password.")
    with a_worker(replace(own_ledger, jobs=AwayAtFirst(own_ledger.jobs, "fail")), error) as worker:
        assert worker.work()
    assert own_ledger.documents.get(base.id, document.id).status is DocumentStatus.FAILED


def test_worker_that_is_to_stop_waits_for_no_ledger(own_ledger: Ledger, base: KnowledgeBase) -> None:
    class Away(AwayAtFirst):
        def _answer(self, method: str) -> None:
            if method == "put_off":
                stopping.set()
                raise Unavailable("ledger-unavailable", "The ledger does not answer.")

    stopping = threading.Event()
    add(own_ledger, base)
    error = Unavailable("milvus-unavailable", "Away.")
    with (
        a_worker(replace(own_ledger, jobs=Away(own_ledger.jobs, "")), error, stopping) as worker,
        pytest.raises(Unavailable, match="ledger-unavailable"),
    ):
        worker.work()
