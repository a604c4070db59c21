"""Builds a worker from the settings and runs it until SIGTERM. Entry point `zhiwen-worker`."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

from prometheus_client import start_http_server

from zhiwen.common.embedding.registry import embedders_from
from zhiwen.common.originals import open_originals
from zhiwen.common.store import ChunkStore
from zhiwen.common.telemetry import configure_logging
from zhiwen.common.web import configuration_errors_end_the_process, migrated_ledger
from zhiwen.ingest.parsing import ParserLimits, ParserPool
from zhiwen.ingest.settings import WorkerSettings
from zhiwen.ingest.worker.broker import Broker, make_celery, redis_url_for_celery
from zhiwen.ingest.worker.consumer import connect_signals, consume, make_consumer, register, sending_reconcile
from zhiwen.ingest.worker.leases import LeaseKeeper
from zhiwen.ingest.worker.loop import Worker, look_for_work
from zhiwen.ingest.worker.pipeline import Pipeline
from zhiwen.ingest.worker.reconciler import Reconciler


def owner_name() -> str:
    """Return a name for this process that no other process ever gets."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def build_worker(settings: WorkerSettings, broker: Broker) -> Worker:
    """Return a worker with all its parts, built from the settings."""
    ledger = migrated_ledger(settings)
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


def main() -> None:
    """Run a worker and its reconciler until SIGTERM. Claimed jobs are finished first."""
    with configuration_errors_end_the_process():
        settings = WorkerSettings()
        configure_logging("worker", settings.log_level, settings.log_format)
        app = make_celery(
            redis_url_for_celery(settings.redis_url.get_secret_value()), reconcile_seconds=settings.reconcile_seconds
        )
        worker = build_worker(settings, Broker(app))
        reconciler = Reconciler(worker.ledger, worker.pipeline, worker.broker, settings.lease_seconds)
        register(app, work=worker.work, reconcile=reconciler.reconcile)
        connect_signals(ready=partial(_open_metrics, settings), shutting_down=worker.stopping.set)
        worker.pipeline.embedders.preload(settings.embedding_model)
        reconciler.reconcile()
        reconciler.remove_forgotten_originals(since=0.0)
        with closing(worker), _looking_for_work(worker, reconciler, settings.reconcile_seconds), sending_reconcile(app):
            consume(lambda: make_consumer(app, settings.worker_concurrency), worker.stopping)


def _open_metrics(settings: WorkerSettings) -> None:
    if settings.worker_metrics_port:
        start_http_server(settings.worker_metrics_port, addr=settings.host)


@contextmanager
def _looking_for_work(worker: Worker, reconciler: Reconciler, pause: float) -> Iterator[None]:
    """Run `look_for_work` in a thread during the block, and then wait for its current job."""
    thread = threading.Thread(target=look_for_work, args=(worker, reconciler, pause), name="look-for-work")
    thread.start()
    try:
        yield
    finally:
        worker.stopping.set()
        thread.join()
