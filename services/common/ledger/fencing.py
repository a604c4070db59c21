"""Fencing: whether a worker still holds its job.

Every claim gives a job a higher fencing number. Every write that ends a job names the number, so that a late worker,
whose lease ran out and was given to another, changes nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zhiwen.common.ledger.schema import jobs
from zhiwen.common.models import Job


class LeaseLost(Exception):
    """The job is no longer this worker's: cancelled, superseded, deleted, or claimed by another."""


def is_held(job: Job) -> sa.ColumnElement[bool]:
    """The condition on the job's row that this worker's claim is its last and not released."""
    return (jobs.c.id == job.id) & (jobs.c.fence == job.fence) & jobs.c.lease_owner.is_not(None)


def require_held(c: Connection, job: Job) -> None:
    """Raise `LeaseLost` unless the job is held and not cancelled; its row stays locked until the transaction ends."""
    row = c.execute(sa.select(jobs.c.cancelled).where(is_held(job)).with_for_update()).one_or_none()
    if row is None or row.cancelled:
        raise LeaseLost(job.id)
