"""Migrations make exactly the tables that the code uses, and can be taken back, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from tests.servers.ledgers import ledger_on, new_base, unique
from tests.servers.stores import free_port, new_database
from zhiwen.common.errors import ConfigurationError, Unavailable
from zhiwen.common.ledger import Database, Ledger
from zhiwen.common.ledger.database import MIGRATIONS
from zhiwen.common.ledger.schema import metadata


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Ledger]:
    """A ledger on an empty database."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'ledger.db'}"
    else:
        url = new_database(request.getfixturevalue("postgres_url"), unique("migrate"))
    ledger = ledger_on(url)
    yield ledger
    ledger.close()


def test_upgraded_database_is_what_the_code_expects(fresh: Ledger) -> None:
    fresh.database.migrate()
    with fresh.database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "render_as_batch": fresh.database.is_sqlite}
        )
        assert compare_metadata(context, metadata) == []


def test_migrating_twice_changes_nothing(fresh: Ledger) -> None:
    fresh.database.migrate()
    base = new_base(fresh)
    fresh.database.migrate()
    assert fresh.bases.get(base.name) == base


def test_processes_that_start_together_migrate_once(fresh: Ledger) -> None:
    ledgers = [ledger_on(fresh.database.engine.url.render_as_string(hide_password=False)) for _ in range(4)]
    errors: list[BaseException] = []

    def migrate(ledger: Ledger) -> None:
        try:
            ledger.database.migrate()
        except Exception as exc:
            errors.append(exc)

    threads = [threading.Thread(target=migrate, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ledger in ledgers:
        ledger.close()
    assert errors == []
    fresh.ping()


def test_downgrade_leaves_no_table(fresh: Ledger) -> None:
    fresh.database.migrate()
    new_base(fresh)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with fresh.database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    left = set(sa.inspect(fresh.database.engine).get_table_names()) - {"alembic_version"}
    assert left == set()
    fresh.database.migrate()
    new_base(fresh)


def test_ledger_without_tables_is_not_ready(fresh: Ledger) -> None:
    with pytest.raises((Unavailable, sa.exc.ProgrammingError)):
        fresh.ping()


def test_database_that_does_not_answer_is_unavailable() -> None:
    ledger = ledger_on(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    with pytest.raises(Unavailable, match="ledger-unavailable"):
        ledger.ping()
    ledger.close()


def test_what_is_no_url_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigurationError):
        Database("not a url")
