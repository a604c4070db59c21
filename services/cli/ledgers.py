"""Opens the ledger for commands that need no running service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from zhiwen.cli.settings import CliSettings
from zhiwen.cli.values import Usage

if TYPE_CHECKING:
    from zhiwen.common.ledger import Ledger


@contextmanager
def opened_ledger(settings: CliSettings, *, create: bool = False, migrate: bool = False) -> Iterator[Ledger]:
    """Open the ledger within the block.

    `create` makes a ledger if there is none. `migrate` updates its tables to the newest revision. Raises `Usage` when
    there is no ledger.
    """
    from zhiwen.common.ledger import open_ledger

    folder = settings.data_dir
    if not settings.database_url and not create and not (folder / "ledger.db").exists():
        raise Usage(f"There is no ledger in {folder}; name its folder with --data-dir, or set ZHIWEN_DATABASE_URL.")
    if not settings.database_url:
        folder.mkdir(parents=True, exist_ok=True)
    ledger = open_ledger(settings.ledger_url)
    try:
        if create or migrate:
            ledger.database.migrate()
        yield ledger
    finally:
        ledger.close()
