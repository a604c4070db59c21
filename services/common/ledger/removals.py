"""How purges, deletes and drops end, once the chunks are gone: the rows go, and the originals that no version names.

Each returns the sha256 of originals that may be unreferenced now; their bytes are removed after the commit, under the
lock that an upload of them takes.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zhiwen.common.ledger.schema import documents, indexed, jobs, knowledge_bases, versions
from zhiwen.common.ledger.touching import touch_originals
from zhiwen.common.models import DocumentStatus, Job


def finish_purge(c: Connection, now: float, job: Job) -> list[str]:
    """Forget what of a version is indexed, and the version itself when it is superseded."""
    document = c.execute(sa.select(documents).where(documents.c.id == job.document_id)).one()
    mine = (versions.c.document_id == job.document_id) & (versions.c.version == job.version)
    released: list[str] = []
    if document.live_version != job.version:
        c.execute(indexed.delete().where(indexed.c.document_id == job.document_id, indexed.c.version == job.version))
        if document.version != job.version:  # superseded: nobody can ask for it again
            released = _release_versions(c, now, mine)
    c.execute(jobs.delete().where(jobs.c.id == job.id))
    return released


def finish_delete(c: Connection, now: float, job: Job) -> list[str]:
    """Leave of a document only its tombstone."""
    released = _release_versions(c, now, versions.c.document_id == job.document_id)
    c.execute(indexed.delete().where(indexed.c.document_id == job.document_id))
    c.execute(jobs.delete().where(jobs.c.document_id == job.document_id))
    c.execute(
        documents.update()
        .where(documents.c.id == job.document_id)
        .values(status=DocumentStatus.DELETED, updated_at=now)
    )
    return released


def finish_drop(c: Connection, now: float, job: Job) -> list[str]:
    """Remove a knowledge base's rows."""
    of_base = sa.select(documents.c.id).where(documents.c.knowledge_base_id == job.knowledge_base_id)
    released = _release_versions(c, now, versions.c.document_id.in_(of_base))
    c.execute(knowledge_bases.delete().where(knowledge_bases.c.id == job.knowledge_base_id))
    return released


def _release_versions(c: Connection, now: float, condition: sa.ColumnElement[bool]) -> list[str]:
    released = list(c.scalars(sa.select(versions.c.sha256).where(condition).distinct()))
    c.execute(versions.delete().where(condition))
    touch_originals(c, now, released)  # whoever is to remove them may die before it does
    return released
