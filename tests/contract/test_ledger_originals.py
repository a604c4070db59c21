"""Which originals may be removed, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest

from tests.servers.ledgers import LEASE, Clock, add_ready, an_upload, claim, index, new_base, record
from zhiwen.common.ledger import Ledger
from zhiwen.common.models import KnowledgeBase


@pytest.fixture
def base(ledger: Ledger) -> KnowledgeBase:
    return new_base(ledger)


def test_original_is_removed_only_when_no_document_names_it(ledger: Ledger, base: KnowledgeBase) -> None:
    first, second = add_ready(ledger, base, "a.txt"), add_ready(ledger, base, "b.txt")
    removed: list[str] = []
    for document in (first, second):
        ledger.documents.begin_delete(base.id, document.id)
        for sha256 in ledger.endings.finish_delete(claim(ledger)):
            ledger.originals.remove_if_unreferenced(sha256, lambda: removed.append("gone"))
        assert removed == ([] if document is first else ["gone"])


@pytest.mark.parametrize("how", ["deleted", "replaced", "dropped"])
def test_original_whose_remover_died_is_found_long_after_its_upload(
    ledger: Ledger, base: KnowledgeBase, clock: Clock, how: str
) -> None:
    ledger.originals.expect(an_upload(content=b"1").sha256)
    document = add_ready(ledger, base, content=b"1")
    clock.pass_by(7 * 24 * 3600)
    if how == "deleted":
        ledger.documents.begin_delete(base.id, document.id)
        released = ledger.endings.finish_delete(claim(ledger))
    elif how == "replaced":
        record(ledger, base, an_upload(content=b"2"))
        index(ledger, base)
        released = ledger.endings.finish_purge(claim(ledger))
    else:
        ledger.bases.begin_drop(base.name)
        released = ledger.endings.finish_drop(claim(ledger))
    assert released == [an_upload(content=b"1").sha256]
    since = clock()
    clock.pass_by(LEASE)
    assert list(ledger.originals.unreferenced(since=since, before=clock())) == released
