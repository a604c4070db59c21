"""The sample of each generation: chunks against which cosines are stated. It is written with the end of an indexing.

A row goes with its version, its document or its generation. Writers lock rows by ascending slot, after the rows of the
knowledge base and the document, which prevents deadlocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from zhiwen.common.ledger.database import Database
from zhiwen.common.ledger.schema import samples
from zhiwen.common.models import Job, Sampled

_KEY = ("generation_id", "slot")
_ROW = ("slot", "hash", "ordinal", "vector", "opening", "rest")


class Samples:
    """The samples of the generations, for reading. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def of(self, generation_id: int) -> Sequence[Sampled]:
        """Return the sample of a generation, at most 128 chunks, by slot."""
        columns = [samples.c[name] for name in _ROW]
        rows = sa.select(*columns).where(samples.c.generation_id == generation_id).order_by(samples.c.slot)
        with self.database.read() as c:
            return [Sampled(**row) for row in c.execute(rows).mappings()]

    def hashes(self, generation_id: int) -> Mapping[int, int]:
        """Return the hashes of a generation's sample by slot."""
        rows = sa.select(samples.c.slot, samples.c.hash).where(samples.c.generation_id == generation_id)
        with self.database.read() as c:
            return {row.slot: row.hash for row in c.execute(rows)}


# Within the caller's transaction


def add_samples(c: Connection, job: Job, generation_id: int, sample: Sequence[Sampled]) -> None:
    """Put chunks of the version that `job` has indexed into their slots, where no chunk with a lower hash is.

    `generation_id` is the number of the generation. Another worker may have filled a slot meanwhile.
    """
    if not sample:
        return
    insert = sqlite.insert(samples) if c.dialect.name == "sqlite" else postgresql.insert(samples)
    changed = {column.name: insert.excluded[column.name] for column in samples.c if column.name not in _KEY}
    statement = insert.on_conflict_do_update(
        index_elements=_KEY, set_=changed, where=insert.excluded.hash <= samples.c.hash
    )
    of_version = {"generation_id": generation_id, "document_id": job.document_id, "version": job.version}
    c.execute(statement, [{**of_version, **asdict(row)} for row in sorted(sample, key=lambda row: row.slot)])


def remove_samples(c: Connection, document_id: str, version: int | None = None) -> None:
    """Remove the chunks of a document, or of one of its versions, from all samples."""
    mine = samples.c.document_id == document_id
    if version is not None:
        mine &= samples.c.version == version
    in_order = sa.select(samples.c.slot).where(mine).order_by(samples.c.generation_id, samples.c.slot)
    if c.execute(in_order.with_for_update()).first() is not None:
        c.execute(samples.delete().where(mine))
