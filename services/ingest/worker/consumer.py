"""The receiving side of Celery: what a message makes this process do, until SIGTERM."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog
from celery import Celery
from celery.beat import EmbeddedService
from celery.platforms import EX_OK
from celery.signals import setup_logging, worker_ready, worker_shutting_down

from zhiwen.ingest.worker.broker import RECONCILE, WORK

log = structlog.get_logger(__name__)

CONSUMER_SECONDS = 1.0


class Consumer(Protocol):
    """What `consume` needs of a Celery worker. Celery has no types; tests have a consumer of their own."""

    @property
    def exitcode(self) -> int | None: ...

    def start(self) -> None: ...


def register(app: Celery, *, work: Callable[[], object], reconcile: Callable[[], object]) -> None:
    """Say what the two messages do."""

    def on_work() -> None:
        work()

    def on_reconcile() -> None:
        reconcile()

    app.task(name=WORK)(on_work)
    app.task(name=RECONCILE)(on_reconcile)


def connect_signals(*, ready: Callable[[], object], shutting_down: Callable[[], object]) -> None:
    """Call `ready` once messages are received and `shutting_down` at SIGTERM; keep Celery's hands off logging."""
    setup_logging.connect(lambda **_: None, weak=False)
    worker_ready.connect(lambda **_: ready(), weak=False)
    worker_shutting_down.connect(lambda **_: shutting_down(), weak=False)


@contextmanager
def sending_reconcile(app: Celery) -> Iterator[None]:
    """Send the reconciler's message at its times during the block.

    From a thread, not with `beat=True`, which forks this process with its threads and its gRPC channels.
    """
    service = EmbeddedService(app, max_interval=1, thread=True, scheduler_cls="celery.beat:Scheduler")
    service.start()
    try:
        yield
    finally:
        service.stop()


def make_consumer(app: Celery, concurrency: int) -> Consumer:
    """Return a consumer that handles up to `concurrency` messages at the same time, each in a thread.

    Threads, not processes: the embedding model is loaded once, parsing happens in sandboxed children, and numpy,
    torch, SQL and Milvus calls release the interpreter lock.
    """
    consumer: Consumer = app.Worker(
        pool="threads",
        concurrency=concurrency,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        loglevel="WARNING",
    )
    return consumer


def consume(make: Callable[[], Consumer], stopping: threading.Event) -> None:
    """Receive messages until the consumer ends by itself, which SIGTERM makes it do.

    A consumer that breaks is replaced: a Redis that dies while kombu closes a channel ends it with a defect.
    """
    while True:
        consumer = make()
        consumer.start()
        if consumer.exitcode in {None, EX_OK}:
            return
        log.error("consumer_broke", exitcode=consumer.exitcode)
        if stopping.wait(CONSUMER_SECONDS):
            return
