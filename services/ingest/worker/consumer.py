"""The receiving side of Celery: it runs the work of each message, until SIGTERM."""

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
    """The part of a Celery worker that `consume` uses. Celery has no types, and tests use their own consumer."""

    @property
    def exitcode(self) -> int | None:
        """The exit code of an ended consumer; None: it was not set."""

    def start(self) -> None:
        """Receive messages until the consumer ends."""


def register(app: Celery, *, work: Callable[[], object], reconcile: Callable[[], object]) -> None:
    """Set the functions that the two messages run."""

    def on_work() -> None:
        work()

    def on_reconcile() -> None:
        reconcile()

    app.task(name=WORK)(on_work)
    app.task(name=RECONCILE)(on_reconcile)


def connect_signals(*, ready: Callable[[], object], shutting_down: Callable[[], object]) -> None:
    """Call `ready` once messages are received, and `shutting_down` at SIGTERM. Keep Celery from changing logging."""
    setup_logging.connect(lambda **_: None, weak=False)
    worker_ready.connect(lambda **_: ready(), weak=False)
    worker_shutting_down.connect(lambda **_: shutting_down(), weak=False)


@contextmanager
def sending_reconcile(app: Celery) -> Iterator[None]:
    """Send the reconciler's message on schedule during the block.

    A thread sends it. `beat=True` would fork this process with its threads and its gRPC channels.
    """
    service = EmbeddedService(app, max_interval=1, thread=True, scheduler_cls="celery.beat:Scheduler")
    service.start()
    try:
        yield
    finally:
        service.stop()


def make_consumer(app: Celery, concurrency: int) -> Consumer:
    """Return a consumer that handles up to `concurrency` messages at the same time, each in a thread.

    Threads are better than processes here: the embedding model is loaded once, parsing runs in sandboxed children, and
    numpy, torch, SQL and Milvus calls release the interpreter lock.
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
    """Receive messages until the consumer ends normally, which happens at SIGTERM.

    A consumer that ends with an error is replaced. This happens when Redis dies while kombu closes a channel.
    """
    while True:
        consumer = make()
        consumer.start()
        if consumer.exitcode in {None, EX_OK}:
            return
        log.error("consumer_broke", exitcode=consumer.exitcode)
        if stopping.wait(CONSUMER_SECONDS):
            return
