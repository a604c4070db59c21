"""Token accounts: what each key used of each model on each day, in the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from zhiwen.common.ledger.database import Database
from zhiwen.common.ledger.schema import usage
from zhiwen.common.models import UsageRow

PLACE = ("day", "key", "model")
SUMS = ("requests", "unmetered", "prompt_tokens", "completion_tokens")


class Usage:
    """Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, rows: Sequence[UsageRow]) -> None:
        """Add to the sums that are there: all rows or none. Several processes may do so at once."""
        if not rows:
            return
        insert = sqlite.insert(usage) if self.database.is_sqlite else postgresql.insert(usage)
        sums = {name: usage.c[name] + insert.excluded[name] for name in SUMS}
        statement = insert.on_conflict_do_update(index_elements=PLACE, set_=sums)
        with self.database.write() as c:
            c.execute(statement, _merged(rows))

    def report(self, since: str, until: str | None = None, key: str | None = None) -> list[UsageRow]:
        """Return the sums from the day `since` to the day `until` (both included), of one key or of all, by day, key
        and model."""
        query = sa.select(usage).where(usage.c.day >= since)
        if until is not None:
            query = query.where(usage.c.day <= until)
        if key is not None:
            query = query.where(usage.c.key == key)
        with self.database.read() as c:
            return [UsageRow(**row) for row in c.execute(query.order_by(*(usage.c[n] for n in PLACE))).mappings()]


def _merged(rows: Iterable[UsageRow]) -> list[dict[str, str | int]]:
    """One row per place, all writers in the same order, so that no two wait for each other's rows."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    for row in rows:
        day, key, model, *more = astuple(row)
        kept = sums.setdefault((day, _stored(key, usage.c.key), _stored(model, usage.c.model)), [0] * len(SUMS))
        kept[:] = [a + b for a, b in zip(kept, more, strict=True)]
    return [dict(zip(PLACE + SUMS, (*place, *sums[place]), strict=True)) for place in sorted(sums)]


def _stored(name: str, column: sa.Column[str]) -> str:
    """A client chooses the name of a model where a wildcard takes any: what no column can hold must not keep the
    other rows from being written."""
    assert isinstance(column.type, sa.String)
    return name.replace("\0", "\ufffd")[: column.type.length]
