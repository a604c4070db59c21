"""What mends the index after a late worker: it may have written or removed chunks when its job was another's already.

The ledger is fenced; Milvus is not.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zhiwen.common.ledger.queue import follow_up
from zhiwen.common.ledger.schema import documents, indexed, knowledge_bases, versions
from zhiwen.common.models import Job, JobKind


def mend_late_work(c: Connection, now: float, job: Job) -> None:
    """Queue what mends a late write or removal; it waits for whoever works on the document."""
    if job.kind in {JobKind.INGEST, JobKind.REBUILD}:
        if c.scalar(sa.select(documents.c.id).where(documents.c.id == job.document_id)) is not None:
            follow_up(c, now, JobKind.PURGE, job, int(job.version or 0))  # leaves alone what answers
    elif job.kind is JobKind.PURGE:
        _index_again(c, now, job)


def _index_again(c: Connection, now: float, job: Job) -> None:
    """Have a version that a late purge may have robbed of its chunks indexed again, if it answers by then."""
    bases = sa.select(knowledge_bases).where(knowledge_bases.c.id == job.knowledge_base_id)
    base = c.execute(bases.with_for_update()).one_or_none()
    mine = (versions.c.document_id == job.document_id) & (versions.c.version == job.version)
    if base is None or c.scalar(sa.select(versions.c.version).where(mine)) is None:
        return
    follow_up(c, now, JobKind.REBUILD, job, int(job.version or 0), base.live_generation)
    # What is not indexed in the generation that is built is missing there, and the rebuild indexes it.
    c.execute(
        indexed.delete().where(
            indexed.c.document_id == job.document_id,
            indexed.c.version == job.version,
            indexed.c.generation_id == base.building_generation,
        )
    )
