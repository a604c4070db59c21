"""The worker's loop: it claims a job from the ledger, runs it, and tells the ledger how it ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from zhiwen.common.errors import DocumentError, ServiceError, Unavailable
from zhiwen.common.ledger import RETRY_POLICY, LeaseLost, Ledger, Retry
from zhiwen.common.models import Job, JobKind
from zhiwen.common.telemetry import JOB_SECONDS, JOBS
from zhiwen.ingest.worker.broker import Broker
from zhiwen.ingest.worker.leases import Lease, LeaseKeeper
from zhiwen.ingest.worker.pipeline import Pipeline
from zhiwen.ingest.worker.reconciler import Reconciler

log = structlog.get_logger(__name__)

LEDGER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Worker:
    """Claims and runs jobs, one at a time in each thread that calls `work`. Thread-safe.

    `owner` names this process in the ledger. A claim holds for `lease_seconds` and is renewed by `leases`. Once
    `stopping` is set, nothing more is claimed.
    """

    ledger: Ledger
    pipeline: Pipeline
    leases: LeaseKeeper
    broker: Broker
    owner: str
    lease_seconds: float
    stopping: threading.Event

    def work(self) -> bool:
        """Do one job and return True, or return False when none is due.

        It wakes another worker first, so that all of them are busy while there is work.
        """
        if self.stopping.is_set():
            return False
        claimed_at = time.time()
        job = self.ledger.jobs.claim(self.owner, self.lease_seconds)
        if job is None:
            return False
        with structlog.contextvars.bound_contextvars(
            request_id=job.request_id, job=job.kind, document=job.document_id, attempt=job.attempts
        ):
            self._wake_another_if(self.ledger.jobs.any_due)
            self._run(job, claimed_at)
            if job.document_id:  # a job that waited for this one: nobody has been woken for it
                self._wake_another_if(partial(self.ledger.jobs.any_due_of, job.document_id))
        return True

    def _wake_another_if(self, any_due: Callable[[], bool]) -> None:
        """Wake a worker if a job is due. A ledger that does not answer now must not cost the own job an attempt."""
        try:
            if any_due():
                self.broker.wake()
        except Unavailable as exc:
            log.warning("ledger_unavailable", detail=exc.detail)

    def _run(self, job: Job, claimed_at: float) -> None:
        started = time.perf_counter()
        outcome = "done"
        try:
            with self.leases.keeping(job, claimed_at) as lease:
                outcome = self._outcome(job, lease)
        except LeaseLost:
            outcome = "lost"
            self._note(partial(self.ledger.endings.abandon, job))
        seconds = time.perf_counter() - started
        JOBS.labels(job.kind, outcome).inc()
        JOB_SECONDS.labels(job.kind).observe(seconds)
        log.info("job", outcome=outcome, seconds=round(seconds, 2))

    # What each error means for the job

    def _outcome(self, job: Job, lease: Lease) -> str:
        try:
            self.pipeline.run(job, lease)
        except LeaseLost:
            raise
        except DocumentError as exc:
            self._fail(job, exc.code, exc.detail)
            return exc.code
        except Unavailable as exc:  # a dependency is at fault: the job waits, and this was no attempt
            self._put_off(job, RETRY_POLICY.after_outage(job), exc.code, exc.detail)
            return exc.code
        except ServiceError as exc:
            return self._try_again(job, exc.code, exc.detail)
        except Exception:  # a defect, which must not end the worker: the job is tried again, then it fails
            log.exception("job_failed")
            detail = f"Something went wrong while indexing; it is logged under request id {job.request_id}."
            return self._try_again(job, "internal-error", detail)
        return "done"

    def _try_again(self, job: Job, code: str, detail: str) -> str:
        retry = RETRY_POLICY.after_error(job)
        if retry is None:
            self._fail(job, code, detail)
        else:
            self._put_off(job, retry, code, detail)
        return code

    # How the ledger is told

    def _put_off(self, job: Job, retry: Retry, code: str, detail: str) -> None:
        self._note(partial(self.ledger.endings.put_off, job, retry, code, detail))

    def _fail(self, job: Job, code: str, detail: str) -> None:
        if job.kind is JobKind.REBUILD:
            self._note(partial(self.ledger.rebuilds.fail, job, detail))
        else:
            self._note(partial(self.ledger.endings.fail, job, code, detail))

    def _note(self, write: Callable[[], None]) -> None:
        """Write to the ledger how a job ended, and wait while the ledger does not answer.

        A job that stayed leased instead would be charged an attempt, and three outages would fail a good document.
        The worker could do nothing else meanwhile, and the fencing number keeps a late write from changing anything.
        Raises `Unavailable` once the worker is to stop.
        """
        while True:
            try:
                return write()
            except Unavailable as exc:
                log.warning("ledger_unavailable", detail=exc.detail)
                if self.stopping.wait(LEDGER_SECONDS):
                    raise

    def close(self) -> None:
        """Stop renewing leases and end the parsers. The leases that are held run out, and the reconciler finds them."""
        self.leases.close()
        self.pipeline.parsers.close()


def look_for_work(worker: Worker, reconciler: Reconciler, pause: float) -> None:
    """Every `pause` seconds until the worker stops, reconcile and do the jobs that are due.

    No message is needed for that. So every job ends while Redis does not answer, and also when a consumer was
    forgotten by a Redis that started again.
    """
    while not worker.stopping.wait(pause):
        try:
            reconciler.reconcile()
            while worker.work():
                pass
        except Unavailable as exc:
            log.warning("ledger_unavailable", detail=exc.detail)
        except Exception:  # a defect in one round must not end the thread that all work depends on
            log.exception("look_for_work_failed")
