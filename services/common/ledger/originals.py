"""The references from versions to original bytes. Bytes without a reference may be removed.

`zhiwen.common.originals` stores the bytes under their sha256. The row of a version names its bytes: `uploads` writes
the row, and `release_versions` removes it. An upload and a removal of the same bytes lock the same row of the table
`originals`, so they do not run at once. This row also holds the time of the last use: it leads to bytes that a killed
process left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Connection

from zhiwen.common.ledger.database import Database
from zhiwen.common.ledger.schema import originals, versions


class OriginalReferences:
    """The references from versions to original bytes. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def expect(self, sha256: str) -> None:
        """Record that bytes are about to be stored. If no version ever names them, `unreferenced` returns them."""
        with self.database.write() as c:
            lock_originals(c, self.database.now(), [sha256])

    def referenced(self) -> set[str]:
        """Return the sha256 of all bytes that a version names."""
        with self.database.read() as c:
            return set(c.scalars(sa.select(versions.c.sha256).distinct()))

    def unreferenced(self, *, since: float, before: float) -> Sequence[str]:
        """Return the sha256 of bytes that no version names, last used from `since` until before `before`.

        Both are seconds since 1970. A process has stored or released these bytes. It died before it finished, or it is
        still at work.
        """
        named = sa.exists().where(versions.c.sha256 == originals.c.sha256)
        used = (originals.c.touched_at >= since) & (originals.c.touched_at < before)
        with self.database.read() as c:
            return c.scalars(sa.select(originals.c.sha256).where(used, ~named)).all()

    def remove_if_unreferenced(self, sha256: str, remove: Callable[[], None]) -> bool:
        """Call `remove` if no version names the bytes; return whether it was called.

        The call runs under the lock that an upload of the same bytes takes.
        """
        with self.database.write() as c:
            lock_originals(c, self.database.now(), [sha256])
            if c.scalar(sa.select(versions.c.sha256).where(versions.c.sha256 == sha256).limit(1)) is not None:
                return False
            remove()
            c.execute(originals.delete().where(originals.c.sha256 == sha256))
            return True


def lock_originals(c: Connection, now: float, sha256s: Iterable[str]) -> None:
    """Lock bytes until the caller's transaction ends, and record that they were used at `now`.

    A row that does not exist cannot be locked, so it is written. All writers lock in sorted order, which prevents
    deadlocks.
    """
    rows = [{"sha256": sha256, "touched_at": now} for sha256 in sorted(set(sha256s))]
    if not rows:
        return
    insert = sqlite_insert(originals) if c.dialect.name == "sqlite" else postgresql_insert(originals)
    touched = {"touched_at": insert.excluded.touched_at}
    c.execute(insert.on_conflict_do_update(index_elements=[originals.c.sha256], set_=touched), rows)


def release_versions(c: Connection, now: float, which: sa.ColumnElement[bool]) -> list[str]:
    """Remove the versions that meet `which`, in the caller's transaction; return the sha256 of their bytes.

    After the commit, the caller removes the bytes that no other version names (`remove_if_unreferenced`).
    """
    released = list(c.scalars(sa.select(versions.c.sha256).where(which).distinct()))
    c.execute(versions.delete().where(which))
    lock_originals(c, now, released)  # the process may die before it removes them
    return released
