"""What the ledger promises about API keys, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest

from tests.servers.ledgers import new_base
from zhiwen.common.errors import NotFound
from zhiwen.common.ledger import Ledger
from zhiwen.common.models import KnowledgeBase


@pytest.fixture
def base(ledger: Ledger) -> KnowledgeBase:
    return new_base(ledger)


def test_key_is_found_by_its_secret_and_the_secret_is_not_kept(ledger: Ledger) -> None:
    key, secret = ledger.keys.create(name="网站", scope="read", knowledge_base="手册")
    assert ledger.keys.find(secret) == key
    assert ledger.keys.find(secret + "x") is None
    with ledger.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM api_keys").all()
    assert all(secret not in str(value) for row in rows for value in row)


def test_revoked_key_is_found_no_more_but_still_listed(ledger: Ledger) -> None:
    assert not ledger.keys.any_ever_made()
    key, secret = ledger.keys.create(name="k", scope="admin", knowledge_base=None)
    assert ledger.keys.any_valid()
    assert ledger.keys.any_ever_made()
    assert ledger.keys.revoke(key.id).revoked
    assert ledger.keys.find(secret) is None
    assert not ledger.keys.any_valid()
    assert ledger.keys.any_ever_made()
    assert [k.revoked for k in ledger.keys.list()] == [True]
    with pytest.raises(NotFound, match="key-not-found"):
        ledger.keys.revoke("unknown")


def test_key_for_one_base_does_not_open_the_next_of_that_name(ledger: Ledger, base: KnowledgeBase) -> None:
    for_it, for_another, for_all = (
        ledger.keys.create(name="k", scope="write", knowledge_base=name)[1] for name in (base.name, "another", None)
    )
    ledger.bases.begin_drop(base.name)
    new_base(ledger, base.name)
    assert ledger.keys.find(for_it) is None
    assert ledger.keys.find(for_another) is not None
    assert ledger.keys.find(for_all) is not None
