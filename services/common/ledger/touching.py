"""The lock on which uploads and deletes of the same bytes meet: their row in `originals`, made where there is none."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Connection

from zhiwen.common.ledger.schema import originals


def touch_originals(c: Connection, now: float, sha256s: Iterable[str]) -> None:
    """Lock originals until the caller's transaction ends, and note that they were used: `forgotten_originals` looks.

    A row that is not there cannot be locked, so it is written; all writers go in one order, so that none wait for
    each other in a circle.
    """
    rows = [{"sha256": sha256, "touched_at": now} for sha256 in sorted(set(sha256s))]
    if not rows:
        return
    insert = sqlite_insert(originals) if c.dialect.name == "sqlite" else postgresql_insert(originals)
    touched = {"touched_at": insert.excluded.touched_at}
    c.execute(insert.on_conflict_do_update(index_elements=[originals.c.sha256], set_=touched), rows)
