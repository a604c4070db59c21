"""Token accounts: how many tokens each key used of each model on each day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from zhiwen.common.ledger.database import Database
from zhiwen.common.ledger.schema import usage
from zhiwen.common.models import UsageRow

PRIMARY_KEY = ("day", "key", "model")
SUMS = ("requests", "unmetered", "prompt_tokens", "completion_tokens")


class Usage:
    """The token accounts. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, rows: Sequence[UsageRow]) -> None:
        """Add rows to the sums, in one transaction. Several processes may do so at once."""
        if not rows:
            return
        insert = sqlite.insert(usage) if self.database.is_sqlite else postgresql.insert(usage)
        sums = {name: usage.c[name] + insert.excluded[name] for name in SUMS}
        statement = insert.on_conflict_do_update(index_elements=PRIMARY_KEY, set_=sums)
        with self.database.write() as c:
            c.execute(statement, _merged(rows))

    def report(self, since: str, until: str | None = None, key: str | None = None) -> list[UsageRow]:
        """Return the sums from the day `since` to the day `until`, both included, in order of day, key and model.

        Without `until` the report goes to the last day. Without `key` it covers all keys.
        """
        query = sa.select(usage).where(usage.c.day >= since)
        if until is not None:
            query = query.where(usage.c.day <= until)
        if key is not None:
            query = query.where(usage.c.key == key)
        with self.database.read() as c:
            return [UsageRow(**row) for row in c.execute(query.order_by(*(usage.c[n] for n in PRIMARY_KEY))).mappings()]


def _merged(rows: Iterable[UsageRow]) -> list[dict[str, str | int]]:
    """Return one row for each primary key, sorted. All writers use this order, which prevents deadlocks."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    for row in rows:
        day, key, model, *more = astuple(row)
        kept = sums.setdefault((day, _stored(key, usage.c.key), _stored(model, usage.c.model)), [0] * len(SUMS))
        kept[:] = [a + b for a, b in zip(kept, more, strict=True)]
    return [dict(zip(PRIMARY_KEY + SUMS, (*row_key, *sums[row_key]), strict=True)) for row_key in sorted(sums)]


def _stored(name: str, column: sa.Column[str]) -> str:
    """Return a name as its column can hold it.

    Where an upstream accepts any model, the client chooses the name. A name that does not fit must not stop the other
    rows from being written.
    """
    assert isinstance(column.type, sa.String)
    return name.replace("\0", "\ufffd")[: column.type.length]
