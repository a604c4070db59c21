"""Keeps the leases of the jobs that this process works on, and tells a job when it has lost its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from services.common.errors import Unavailable
from services.common.ledger import Jobs
from services.common.models import Job

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5


class LeaseKeeper:
    """One thread that renews all held leases and looks for cancelled ones, twice a second."""

    def __init__(self, jobs: Jobs, lease_seconds: float) -> None:
        self._jobs = jobs
        self._lease_seconds = lease_seconds
        self._held: dict[str, tuple[Job, threading.Event]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)
        self._thread.start()

    @contextmanager
    def keeping(self, job: Job) -> Iterator[threading.Event]:
        """Keep the lease of `job` during the block; the event is set when it is lost or cancelled."""
        lost = threading.Event()
        with self._lock:
            self._held[job.id] = (job, lost)
        try:
            yield lost
        finally:
            with self._lock:
                self._held.pop(job.id, None)

    def close(self) -> None:
        """Stop renewing: held leases run out by themselves."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            with self._lock:
                held = dict(self._held)
            if not held:
                continue
            try:
                lost = self._jobs.renew([job for job, _ in held.values()], self._lease_seconds)
            except Unavailable:
                continue  # the lease has time left; whether it holds is checked by every write of the job
            for job_id in lost:
                held[job_id][1].set()
