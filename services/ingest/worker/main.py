"""The Celery worker: claims jobs from the ledger, one thread each, and runs the pipeline. Entry point `zhiwen-worker`.

A thread pool, not processes: the embedding model is loaded once, parsing happens in sandboxed children, and numpy,
torch, SQL and Milvus calls release the interpreter lock.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from celery import Celery
from celery.beat import EmbeddedService
from celery.platforms import EX_OK
from celery.signals import setup_logging, worker_ready, worker_shutting_down
from prometheus_client import start_http_server

from zhiwen.common.embedding.registry import embedders_from
from zhiwen.common.errors import DocumentError, ServiceError, Unavailable
from zhiwen.common.ledger import MAX_ATTEMPTS, LeaseLost, Ledger, open_ledger
from zhiwen.common.models import Job, JobKind
from zhiwen.common.originals import open_originals
from zhiwen.common.store import ChunkStore
from zhiwen.common.telemetry import JOB_SECONDS, JOBS, configure_logging
from zhiwen.common.web import configuration_errors_end_the_process
from zhiwen.ingest.parsing import ParserLimits, ParserPool
from zhiwen.ingest.settings import WorkerSettings
from zhiwen.ingest.worker.broker import RECONCILE, WORK, Broker, make_celery, redis_url_for_celery
from zhiwen.ingest.worker.leases import Lease, LeaseKeeper
from zhiwen.ingest.worker.pipeline import Pipeline

log = structlog.get_logger(__name__)

MAX_PAUSE_SECONDS = 60.0
LEDGER_SECONDS = 1.0
CONSUMER_SECONDS = 1.0
FORGOTTEN_SECONDS = 3600.0
"""For so long after their last use each round looks for originals that nobody names; a starting worker for all."""


def pause_seconds(base: float, times: int) -> float:
    """Return how long a job rests that has failed so often: `base` to the power of `times`, a minute at most."""
    return min(base ** min(times, 8), MAX_PAUSE_SECONDS)  # 2.0**1024 is no float any more


@dataclass(frozen=True, slots=True)
class Worker:
    """Claims and runs jobs; what a failure means for the job is decided here."""

    ledger: Ledger
    pipeline: Pipeline
    leases: LeaseKeeper
    broker: Broker
    owner: str
    lease_seconds: float
    stopping: threading.Event

    def work(self) -> bool:
        """Do one job, if one is due. Wakes another worker first, so that all are busy while there is work."""
        if self.stopping.is_set():
            return False
        claimed_at = time.time()
        job = self.ledger.jobs.claim(self.owner, self.lease_seconds)
        if job is None:
            return False
        self._wake_another(job, self.ledger.jobs.any_due)
        with structlog.contextvars.bound_contextvars(
            request_id=job.request_id, job=job.kind, document=job.document_id, attempt=job.attempts
        ):
            self._run(job, claimed_at)
        if job.document_id:  # what waited for this job: nobody has been woken for it
            self._wake_another(job, partial(self.ledger.jobs.any_due_of, job.document_id))
        return True

    def _wake_another(self, job: Job, any_due: Callable[[], bool]) -> None:
        """Wake a worker if anything is due. A ledger that does not answer now must not cost `job` an attempt."""
        try:
            if any_due():
                self.broker.wake(job.request_id)
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
            self._note(partial(self.ledger.jobs.abandon, job))
        seconds = time.perf_counter() - started
        JOBS.labels(job.kind, outcome).inc()
        JOB_SECONDS.labels(job.kind).observe(seconds)
        log.info("job", outcome=outcome, seconds=round(seconds, 2))

    def _outcome(self, job: Job, lease: Lease) -> str:
        try:
            self.pipeline.run(job, lease)
        except LeaseLost:
            raise
        except DocumentError as exc:
            self._fail(job, exc.code, exc.detail)
            return exc.code
        except Unavailable as exc:  # the dependency's fault: it waits, and this was no attempt
            self._put_off(job, pause_seconds(2.0, job.waits), exc.code, exc.detail, counts=False)
            return exc.code
        except ServiceError as exc:
            return self._try_again(job, exc.code, exc.detail)
        except Exception:  # a defect, which must not end the worker: the job is tried again, then fails by name
            log.exception("job_failed")
            detail = f"Something went wrong while indexing; it is logged under request id {job.request_id}."
            return self._try_again(job, "internal-error", detail)
        return "done"

    def _try_again(self, job: Job, code: str, detail: str) -> str:
        if job.kind in {JobKind.INGEST, JobKind.REBUILD} and job.attempts >= MAX_ATTEMPTS:
            self._fail(job, code, detail)
        else:
            self._put_off(job, pause_seconds(3.0, job.attempts), code, detail, counts=True)
        return code

    def _put_off(self, job: Job, seconds: float, code: str, detail: str, *, counts: bool) -> None:
        self._note(partial(self.ledger.jobs.put_off, job, seconds, code, detail, counts=counts))

    def _fail(self, job: Job, code: str, detail: str) -> None:
        if job.kind is JobKind.REBUILD:
            self._note(partial(self.ledger.rebuilds.fail, job, detail))
        else:
            self._note(partial(self.ledger.jobs.fail, job, code, detail))

    def _note(self, write: Callable[[], None]) -> None:
        """Write to the ledger how a job went; while the ledger is away, wait for it.

        What stays leased instead is charged an attempt, and three outages would fail a document that is well. Nothing
        else could be done meanwhile, and the fencing number keeps a late note from changing anything. Raises
        `Unavailable` once the worker is to stop.
        """
        while True:
            try:
                return write()
            except Unavailable as exc:
                log.warning("ledger_unavailable", detail=exc.detail)
                if self.stopping.wait(LEDGER_SECONDS):
                    raise

    def reconcile(self) -> None:
        """End what died too often, and wake a worker if anything is due."""
        self.ledger.rebuilds.reconcile()
        result = self.ledger.jobs.reconcile()
        if result.given_up:
            log.warning("jobs_given_up", count=result.given_up)
        if result.due:
            self.broker.wake(None)
        self.remove_forgotten_originals(since=self.ledger.database.now() - FORGOTTEN_SECONDS)

    def look_for_work(self, pause: float) -> None:
        """Every `pause` seconds until the worker stops, do what is due without having been woken.

        So everything ends while Redis is away, and also when a consumer has lost its place there after a restart.
        """
        while not self.stopping.wait(pause):
            try:
                self.reconcile()
                while self.work():
                    pass
            except Unavailable as exc:
                log.warning("ledger_unavailable", detail=exc.detail)
            except Exception:  # a defect in one round must not end the thread that all work depends on
                log.exception("look_for_work_failed")

    def remove_forgotten_originals(self, *, since: float) -> None:
        """Remove originals last used since that time that nobody names: who stored or released them died.

        One that an upload stores just now may be among them: under the lock that both take, it stores it again.
        """
        before = self.ledger.database.now() - self.lease_seconds
        try:
            self.pipeline.remove_originals(self.ledger.jobs.forgotten_originals(since=since, before=before))
        except Unavailable as exc:
            log.warning("originals_not_removed", code=exc.code)

    def close(self) -> None:
        """Give up what is held: its leases run out, the reconciler finds it."""
        self.leases.close()
        self.pipeline.parsers.close()


def owner_name() -> str:
    """Return a name for this process that no other ever has."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def build_worker(settings: WorkerSettings, broker: Broker) -> Worker:
    """Build a worker and all it needs from the settings."""
    ledger = open_ledger(settings.ledger_url)
    ledger.database.migrate()
    limits = ParserLimits(
        memory_bytes=settings.parser_memory_bytes,
        cpu_seconds=settings.parser_cpu_seconds,
        wall_seconds=settings.parser_wall_seconds,
        output_bytes=settings.parser_output_bytes,
    )
    pipeline = Pipeline(
        ledger=ledger,
        store=ChunkStore(
            settings.milvus_url, token=settings.milvus_token.get_secret_value(), timeout=settings.milvus_timeout
        ),
        originals=open_originals(settings),
        embedders=embedders_from(settings, batched=True),
        parsers=ParserPool(settings.parser_processes, limits),
    )
    return Worker(
        ledger=ledger,
        pipeline=pipeline,
        leases=LeaseKeeper(ledger.jobs, settings.lease_seconds),
        broker=broker,
        owner=owner_name(),
        lease_seconds=settings.lease_seconds,
        stopping=threading.Event(),
    )


def register(app: Celery, worker: Worker) -> None:
    """Make the two messages do their work."""

    def work() -> None:
        worker.work()

    def reconcile() -> None:
        worker.reconcile()

    app.task(name=WORK)(work)
    app.task(name=RECONCILE)(reconcile)


def consume(make: Callable[[], Any], stopping: threading.Event) -> None:
    """Run Celery's consumer until it is told to stop.

    When it breaks, another takes its place: a Redis that dies while kombu closes a channel ends it with a defect.
    """
    while True:
        consumer = make()
        consumer.start()
        if consumer.exitcode in {None, EX_OK}:
            return
        log.error("consumer_broke", exitcode=consumer.exitcode)
        if stopping.wait(CONSUMER_SECONDS):
            return


def main() -> None:
    """Run a worker and the reconciler's clock until SIGTERM; jobs in hand are finished first."""
    with configuration_errors_end_the_process():
        settings = WorkerSettings()
        configure_logging("worker", settings.log_level, settings.log_format)
        app = make_celery(
            redis_url_for_celery(settings.redis_url.get_secret_value()), reconcile_seconds=settings.reconcile_seconds
        )
        worker = build_worker(settings, Broker(app))
        register(app, worker)
        setup_logging.connect(lambda **_: None, weak=False)  # ours stays
        worker_shutting_down.connect(lambda **_: worker.stopping.set(), weak=False)
        if settings.worker_metrics_port:
            worker_ready.connect(
                lambda **_: start_http_server(settings.worker_metrics_port, addr=settings.host), weak=False
            )
        worker.pipeline.embedders.preload(settings.embedding_model)
        worker.reconcile()
        worker.remove_forgotten_originals(since=0.0)
        # A thread, not `beat=True`, which forks this process with its threads and its gRPC channels.
        clock = EmbeddedService(app, max_interval=1, thread=True, scheduler_cls="celery.beat:Scheduler")
        clock.start()
        looking = threading.Thread(
            target=worker.look_for_work, args=(settings.reconcile_seconds,), name="look-for-work"
        )
        looking.start()
        try:
            consume(
                lambda: app.Worker(
                    pool="threads",
                    concurrency=settings.worker_concurrency,
                    without_gossip=True,
                    without_mingle=True,
                    without_heartbeat=True,
                    quiet=True,
                    loglevel="WARNING",
                ),
                worker.stopping,
            )
        finally:
            worker.stopping.set()
            clock.stop()
            looking.join()  # it may have a job in hand, and needs the parsers that closing kills
            worker.close()
