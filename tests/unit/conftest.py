"""What unit tests share: a ledger of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.ledgers import ledger_on
from zhiwen.common.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger on SQLite."""
    ledger = ledger_on(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.database.migrate()
    yield ledger
    ledger.close()
