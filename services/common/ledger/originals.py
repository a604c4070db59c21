"""Which versions name which original bytes, and when bytes may be removed because no version names them.

The bytes themselves are kept by `zhiwen.common.originals`, under their sha256. A version's row names its bytes:
`uploads` writes the row, and `release_versions` removes it. Uploads and removals of the same bytes meet on a lock,
which is the row of these bytes in the table `originals`. The row also says when the bytes were last used, so that bytes
are found whose uploader or remover died halfway.
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
        """Note that bytes are about to be stored; if no version ever names them, `unreferenced` finds them."""
        with self.database.write() as c:
            lock_originals(c, self.database.now(), [sha256])

    def referenced(self) -> set[str]:
        """Return the sha256 of all bytes that a version names."""
        with self.database.read() as c:
            return set(c.scalars(sa.select(versions.c.sha256).distinct()))

    def unreferenced(self, *, since: float, before: float) -> Sequence[str]:
        """Return the sha256 of bytes that no version names and that were last used in a span of time.

        `since` and `before` are seconds since 1970. The process that stored or released these bytes died before it
        could finish, or is about to finish.
        """
        named = sa.exists().where(versions.c.sha256 == originals.c.sha256)
        used = (originals.c.touched_at >= since) & (originals.c.touched_at < before)
        with self.database.read() as c:
            return c.scalars(sa.select(originals.c.sha256).where(used, ~named)).all()

    def remove_if_unreferenced(self, sha256: str, remove: Callable[[], None]) -> bool:
        """Call `remove` if no version names the bytes, under the lock that an upload of them takes.

        Returns whether it was called.
        """
        with self.database.write() as c:
            lock_originals(c, self.database.now(), [sha256])
            if c.scalar(sa.select(versions.c.sha256).where(versions.c.sha256 == sha256).limit(1)) is not None:
                return False
            remove()
            c.execute(originals.delete().where(originals.c.sha256 == sha256))
            return True


def lock_originals(c: Connection, now: float, sha256s: Iterable[str]) -> None:
    """Lock bytes until the caller's transaction ends, and note that they were used at `now`.

    A row that does not exist cannot be locked, so it is written. All writers go in one order, so that none wait for
    each other in a circle.
    """
    rows = [{"sha256": sha256, "touched_at": now} for sha256 in sorted(set(sha256s))]
    if not rows:
        return
    insert = sqlite_insert(originals) if c.dialect.name == "sqlite" else postgresql_insert(originals)
    touched = {"touched_at": insert.excluded.touched_at}
    c.execute(insert.on_conflict_do_update(index_elements=[originals.c.sha256], set_=touched), rows)


def release_versions(c: Connection, now: float, which: sa.ColumnElement[bool]) -> list[str]:
    """Remove the versions that fit, within the caller's transaction; return the sha256 of the bytes they named.

    These bytes are removed after the commit, where no other version names them (`remove_if_unreferenced`).
    """
    released = list(c.scalars(sa.select(versions.c.sha256).where(which).distinct()))
    c.execute(versions.delete().where(which))
    lock_originals(c, now, released)  # the process that is to remove them may die before it does
    return released
