"""The retry policy: when a failed job is tried again, and when it is given up.

It is pure: it reads no clock and no database. The ledger and the worker both use it.
"""

from __future__ import annotations

from dataclasses import dataclass

from zhiwen.common.models import Job, JobKind

UNLIMITED_KINDS = frozenset({JobKind.DELETE, JobKind.PURGE, JobKind.DROP, JobKind.RETIRE})
"""Removals are never given up: data that a user has deleted must not stay."""


@dataclass(frozen=True, slots=True)
class Retry:
    """One more try of a job: it is due after `seconds`, and `attempts` and `waits` are the job's counts until then."""

    seconds: float
    attempts: int
    waits: int


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a job is tried again.

    `max_attempts` is the number of attempts that an indexing job has. The pause after the nth attempt that ended in an
    error is `error_base` to the power of n, in seconds. The pause before the nth wait for a dependency is
    `outage_base` to the power of n - 1. No pause is longer than `max_pause` seconds.
    """

    max_attempts: int = 3
    error_base: float = 3.0
    outage_base: float = 2.0
    max_pause: float = 60.0

    def count_claim(self, attempts: int) -> int:
        """Return a job's attempts after it is claimed.

        Claims are counted, not ends: a worker that a document kills cannot count anything afterwards.
        """
        return attempts + 1

    def exhausted(self, kind: JobKind, attempts: int) -> bool:
        """Return whether a job of this kind has no attempt left."""
        return kind not in UNLIMITED_KINDS and attempts >= self.max_attempts

    def after_error(self, job: Job) -> Retry | None:
        """Return the next try after the work itself failed; None when the job must be given up."""
        if self.exhausted(job.kind, job.attempts):
            return None
        return Retry(self._pause(self.error_base, job.attempts), job.attempts, job.waits)

    def after_outage(self, job: Job) -> Retry:
        """Return the next try after a dependency did not answer. This counts as a wait, not as an attempt."""
        return Retry(self._pause(self.outage_base, job.waits), job.attempts - 1, job.waits + 1)

    def after_lost_lease(self, job: Job) -> Retry:
        """Return the next try after the lease was not renewed in time. It is due at once, and counts as no attempt."""
        return Retry(0.0, job.attempts - 1, job.waits)

    def _pause(self, base: float, times: int) -> float:
        return min(base ** min(times, 8), self.max_pause)  # 2.0**1024 is larger than any float


RETRY_POLICY = RetryPolicy()
"""The policy that ledger and worker use: the only place where its numbers are set."""
