"""What unit tests share: an empty ledger."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.ledgers import empty_ledger, ledger_on
from zhiwen.common.ledger import Ledger


@pytest.fixture(scope="session")
def one_ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A ledger on SQLite for all tests: SQLAlchemy compiles each statement once, and the tables are made once."""
    ledger = ledger_on(f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}")
    ledger.database.migrate()
    yield ledger
    ledger.close()


@pytest.fixture
def ledger(one_ledger: Ledger) -> Iterator[Ledger]:
    """An empty ledger on SQLite."""
    yield one_ledger
    empty_ledger(one_ledger)
