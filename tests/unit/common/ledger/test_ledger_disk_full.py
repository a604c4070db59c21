"""A full disk is reported, and the ledger works again once there is space."""

from __future__ import annotations

import sqlite3

import pytest
import sqlalchemy as sa

from zhiwen.common.errors import Unavailable
from zhiwen.common.ledger import Ledger
from zhiwen.common.ledger.database import _translated


def fill_up(ledger: Ledger) -> None:
    """Change the ledger in a transaction that finds no room for its end."""
    with ledger.database.write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # what there is and no more
        connection.exec_driver_sql("DELETE FROM api_keys")
        connection.exec_driver_sql("CREATE TABLE ballast AS SELECT zeroblob(1000000) AS bytes")


def test_no_room_for_the_ledger_is_507_and_changes_nothing(ledger: Ledger) -> None:
    _, secret = ledger.keys.create(name="first", scope="read", knowledge_base=None)
    with pytest.raises(Unavailable) as error:
        fill_up(ledger)
    ledger.database.engine.dispose()  # the limit belongs to the connection, which other tests would get
    assert (error.value.status, error.value.code) == (507, "disk-full")
    assert ledger.keys.find(secret) is not None


@pytest.mark.parametrize("name", ["SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"])
def test_both_ways_in_which_sqlite_meets_a_full_disk_are_507(name: str) -> None:
    cause = sqlite3.OperationalError("disk I/O error")
    cause.sqlite_errorname = name
    with pytest.raises(Unavailable, match="disk-full"), _translated():
        raise sa.exc.OperationalError("INSERT", None, cause)
