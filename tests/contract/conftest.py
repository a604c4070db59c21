"""The stores that the contracts are held against, each in its own process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.common.ledger import Ledger
from tests.servers.ledgers import Clock, empty_ledger, ledger_on
from tests.servers.stores import new_database


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A migrated database on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}"
    else:
        url = new_database(request.getfixturevalue("postgres_url"), "contract")
    ledger = ledger_on(url)
    ledger.database.migrate()
    ledger.close()
    return url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(ledger_url: str, clock: Clock) -> Iterator[Ledger]:
    """An empty ledger whose time stands still."""
    ledger = ledger_on(ledger_url, clock)
    empty_ledger(ledger)
    yield ledger
    ledger.close()
