"""What a worker writes to the ledger about its jobs, also when the ledger goes away at the wrong moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import pytest
import sqlalchemy as sa
from structlog.contextvars import bound_contextvars

from tests.servers.ledgers import LEASE, Clock, add, add_ready, new_base
from zhiwen.common.errors import DocumentError, Unavailable
from zhiwen.common.ledger import Database, Endings, Jobs, LeaseLost, Ledger, Retry
from zhiwen.common.ledger.schema import jobs
from zhiwen.common.models import DocumentStatus, Job, JobKind, KnowledgeBase
from zhiwen.ingest.worker.broker import Broker
from zhiwen.ingest.worker.leases import Lease, LeaseKeeper
from zhiwen.ingest.worker.loop import Worker
from zhiwen.ingest.worker.pipeline import Pipeline

Answer = Callable[[str], None]
"""Is asked before each method of the ledger, by name; raises where the ledger is to be away."""


class JobsAway(Jobs):
    """Jobs whose ledger does not always answer."""

    def __init__(self, database: Database, answer: Answer) -> None:
        super().__init__(database)
        self.answer = answer

    def any_due(self) -> bool:
        self.answer("any_due")
        return super().any_due()


class EndingsAway(Endings):
    """Endings whose ledger does not always answer."""

    def __init__(self, database: Database, answer: Answer) -> None:
        super().__init__(database)
        self.answer = answer

    def put_off(self, job: Job, retry: Retry, code: str, detail: str) -> None:
        self.answer("put_off")
        super().put_off(job, retry, code, detail)

    def fail(self, job: Job, code: str, detail: str) -> None:
        self.answer("fail")
        super().fail(job, code, detail)

    def abandon(self, job: Job) -> None:
        self.answer("abandon")
        super().abandon(job)


def away(ledger: Ledger, answer: Answer) -> Ledger:
    """Return the ledger as one that does not always answer."""
    database = ledger.database
    return replace(ledger, jobs=JobsAway(database, answer), endings=EndingsAway(database, answer))


def away_at_first(ledger: Ledger, method: str) -> Ledger:
    """Return the ledger as one that does not answer the first time that one of its methods is called."""
    times = {method: 1}

    def answer(asked: str) -> None:
        if times.pop(asked, 0):
            raise Unavailable("ledger-unavailable", "The ledger does not answer.")

    return away(ledger, answer)


@dataclass
class Ending:
    """A pipeline whose every job ends in the same way: by an error, or by what a function does."""

    end: Exception | Callable[[Job], object]

    def run(self, job: Job, lease: Lease) -> None:
        if isinstance(self.end, Exception):
            raise self.end
        self.end(job)


class SilentBroker:
    """A broker that wakes nobody."""

    def wake(self) -> None:
        pass


@contextmanager
def a_worker(
    ledger: Ledger, end: Exception | Callable[[Job], object], stopping: threading.Event | None = None
) -> Iterator[Worker]:
    leases = LeaseKeeper(ledger.jobs, LEASE)
    yield Worker(
        ledger=ledger,
        pipeline=cast(Pipeline, Ending(end)),
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
    with a_worker(away_at_first(own_ledger, method), error) as worker:
        assert worker.work()
    clock.pass_by(LEASE - 1)  # the lease it had would not be over
    job = own_ledger.jobs.claim("another", LEASE)
    assert job is not None
    assert job.attempts == 1


def test_failure_is_noted_when_the_ledger_is_back(own_ledger: Ledger, base: KnowledgeBase) -> None:
    document = add(own_ledger, base)
    error = DocumentError("encrypted", "It has a password.")
    with a_worker(away_at_first(own_ledger, "fail"), error) as worker:
        assert worker.work()
    assert own_ledger.documents.get(base.id, document.id).status is DocumentStatus.FAILED


def test_worker_that_is_to_stop_waits_for_no_ledger(own_ledger: Ledger, base: KnowledgeBase) -> None:
    stopping = threading.Event()

    def answer(method: str) -> None:
        if method == "put_off":
            stopping.set()
            raise Unavailable("ledger-unavailable", "The ledger does not answer.")

    add(own_ledger, base)
    error = Unavailable("milvus-unavailable", "Away.")
    with (
        a_worker(away(own_ledger, answer), error, stopping) as worker,
        pytest.raises(Unavailable, match="ledger-unavailable"),
    ):
        worker.work()


def request_ids(ledger: Ledger) -> dict[str, str | None]:
    """Return the request id of each kind of job in the queue."""
    with ledger.database.read() as connection:
        rows = connection.execute(sa.select(jobs.c.kind, jobs.c.request_id))
        return {str(row.kind): row.request_id for row in rows}


def test_jobs_that_follow_a_job_carry_the_request_id_of_its_upload(own_ledger: Ledger, base: KnowledgeBase) -> None:
    add_ready(own_ledger, base, content=b"1")
    with bound_contextvars(request_id="r2"):
        add(own_ledger, base, content=b"2")
    with a_worker(own_ledger, lambda job: own_ledger.endings.commit(job, base.live.id, 3)) as worker:
        assert worker.work()
    assert request_ids(own_ledger) == {JobKind.PURGE: "r2"}


def test_work_that_mends_the_index_after_a_late_worker_carries_the_request_id(
    own_ledger: Ledger, clock: Clock, base: KnowledgeBase
) -> None:
    with bound_contextvars(request_id="r1"):
        add(own_ledger, base)

    def be_late(job: Job) -> None:
        clock.pass_by(LEASE)
        assert own_ledger.jobs.claim("another", LEASE) is not None
        raise LeaseLost(job.id)

    with a_worker(own_ledger, be_late) as worker:
        assert worker.work()
    assert request_ids(own_ledger) == {JobKind.INGEST: "r1", JobKind.PURGE: "r1"}


def test_job_that_no_request_asked_for_has_no_request_id(own_ledger: Ledger, base: KnowledgeBase) -> None:
    add(own_ledger, base)
    assert request_ids(own_ledger) == {JobKind.INGEST: None}
