"""Leases: this process renews them while it works on their jobs, and a job can check that its lease still holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from zhiwen.common.errors import Unavailable
from zhiwen.common.ledger import Jobs, LeaseLost
from zhiwen.common.models import Job

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5


@dataclass(slots=True)
class Lease:
    """A job's right to write, valid until the time `valid_until` of `clock` (seconds)."""

    job: Job
    valid_until: float
    clock: Callable[[], float]
    _taken: threading.Event = field(default_factory=threading.Event)

    def lost(self) -> bool:
        """Return whether the job was cancelled or taken by another worker, or the lease has run out by our clock."""
        return self._taken.is_set() or self.clock() >= self.valid_until

    def require(self) -> None:
        """Raise `LeaseLost` if the lease is lost. Call this directly before every write."""
        if self.lost():
            raise LeaseLost(self.job.id)

    def mark_lost(self) -> None:
        """Mark the lease as lost, because the ledger says so."""
        self._taken.set()


class LeaseKeeper:
    """A thread that renews all held leases twice a second, and learns which jobs were cancelled.

    `clock` must continue while the machine sleeps or the process is stopped, so that a late worker knows it is late.
    """

    def __init__(self, jobs: Jobs, lease_seconds: float, *, clock: Callable[[], float] = time.time) -> None:
        self._jobs = jobs
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._held: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)
        self._thread.start()

    @contextmanager
    def keeping(self, job: Job, claimed_at: float) -> Iterator[Lease]:
        """Keep the lease of `job` during the block; `claimed_at` is the time of `clock` just before the claim."""
        lease = Lease(job, claimed_at + self._lease_seconds, self._clock)
        with self._lock:
            self._held[job.id] = lease
        try:
            yield lease
        finally:
            with self._lock:
                self._held.pop(job.id, None)

    def close(self) -> None:
        """Stop the renewal. Held leases then run out."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            with self._lock:
                held = dict(self._held)
            if held:
                self._renew(held)

    def _renew(self, held: dict[str, Lease]) -> None:
        now = self._clock()
        try:
            lost = self._jobs.renew([lease.job for lease in held.values()], self._lease_seconds)
        except Unavailable:
            return  # each lease is still valid until its own time
        for job_id, lease in held.items():
            if job_id in lost:
                lease.mark_lost()
            else:
                lease.valid_until = now + self._lease_seconds
