"""The worker's loop: it claims a job from the ledger, runs it, and writes its outcome to the ledger."""

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

    `owner` names this process in the ledger. A claim holds for `lease_seconds`, and `leases` renews it. Once `stopping`
    is set, no more jobs are claimed.
    """

    ledger: Ledger
    pipeline: Pipeline
    leases: LeaseKeeper
    broker: Broker
    owner: str
    lease_seconds: float
    stopping: threading.Event

    def work(self) -> bool:
        """Do one job and return True, or return False when no job is due.

        It first wakes another worker if more jobs are due, so all workers are busy while there is work.
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
            if job.document_id:  # no message was sent for a job that waited for this one
                self._wake_another_if(partial(self.ledger.jobs.any_due_of, job.document_id))
        return True

    def _wake_another_if(self, any_due: Callable[[], bool]) -> None:
        """Wake a worker if a job is due. An outage of the ledger here must not cost the current job an attempt."""
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
            self._write_outcome(partial(self.ledger.endings.abandon, job))
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
        except Unavailable as exc:  # a dependency is at fault: the job waits, and no attempt is counted
            self._put_off(job, RETRY_POLICY.after_outage(job), exc.code, exc.detail)
            return exc.code
        except ServiceError as exc:
            return self._try_again(job, exc.code, exc.detail)
        except Exception:  # a defect must not end the worker: the job is tried again, and fails in the end
            log.exception("job_failed")
            detail = f"An unexpected error occurred during indexing. It is logged under request id {job.request_id}."
            return self._try_again(job, "internal-error", detail)
        return "done"

    def _try_again(self, job: Job, code: str, detail: str) -> str:
        retry = RETRY_POLICY.after_error(job)
        if retry is None:
            self._fail(job, code, detail)
        else:
            self._put_off(job, retry, code, detail)
        return code

    # Writing the outcome to the ledger

    def _put_off(self, job: Job, retry: Retry, code: str, detail: str) -> None:
        self._write_outcome(partial(self.ledger.endings.put_off, job, retry, code, detail))

    def _fail(self, job: Job, code: str, detail: str) -> None:
        if job.kind is JobKind.REBUILD:
            self._write_outcome(partial(self.ledger.rebuilds.fail, job, detail))
        else:
            self._write_outcome(partial(self.ledger.endings.fail, job, code, detail))

    def _write_outcome(self, write: Callable[[], None]) -> None:
        """Write the outcome of a job to the ledger. While the ledger does not answer, wait and try again.

        Without this wait, the lease would run out and cost the job an attempt, and three outages would fail a good
        document. The worker has nothing else to do meanwhile, and the fencing number makes a late write harmless.
        Raises `Unavailable` when the worker must stop.
        """
        while True:
            try:
                return write()
            except Unavailable as exc:
                log.warning("ledger_unavailable", detail=exc.detail)
                if self.stopping.wait(LEDGER_SECONDS):
                    raise

    def close(self) -> None:
        """Stop the renewal of leases, and end the parsers. Held leases run out, and the reconciler finds their jobs."""
        self.leases.close()
        self.pipeline.parsers.close()


def look_for_work(worker: Worker, reconciler: Reconciler, pause: float) -> None:
    """Every `pause` seconds until the worker stops, reconcile and do the jobs that are due.

    This needs no message. So all jobs are done even while Redis does not answer, or when a restarted Redis has
    forgotten this consumer.
    """
    while not worker.stopping.wait(pause):
        try:
            reconciler.reconcile()
            while worker.work():
                pass
        except Unavailable as exc:
            log.warning("ledger_unavailable", detail=exc.detail)
        except Exception:  # a defect in one round must not end this thread
            log.exception("look_for_work_failed")
