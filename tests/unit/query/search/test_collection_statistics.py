"""The sums behind idf: fresh when a refresh is quick, and right after every change and after a failed refresh."""

from __future__ import annotations

import pytest

from tests.servers.ledgers import add, an_upload, claim, new_base, record
from zhiwen.common.errors import Unavailable
from zhiwen.common.ledger import Ledger
from zhiwen.common.lexical.statistics import TermStatistics
from zhiwen.common.models import KnowledgeBase
from zhiwen.query.search.statistics import LONGEST_PAUSE, CollectionStatistics


@pytest.fixture
def base(ledger: Ledger) -> KnowledgeBase:
    return new_base(ledger)


def index(ledger: Ledger, base: KnowledgeBase, *chunks: set[int]) -> None:
    while (job := claim(ledger)).kind != "ingest":
        ledger.endings.finish_purge(job)
    terms = TermStatistics.of(chunks).to_bytes()
    ledger.endings.commit(job, base.live.id, len(chunks), terms)


def frequencies(statistics: CollectionStatistics, ledger: Ledger, base: KnowledgeBase) -> tuple[int, list[int]]:
    total = statistics.of(ledger.bases.get(base.name))
    return total.chunks, total.document_frequencies([1, 2, 3]).tolist()


def test_sums_follow_additions_replacements_and_deletes(ledger: Ledger, base: KnowledgeBase) -> None:
    statistics = CollectionStatistics(ledger, clock=lambda: 0.0)
    assert frequencies(statistics, ledger, base) == (0, [0, 0, 0])
    document = add(ledger, base, "a.txt", b"1")
    index(ledger, base, {1, 2}, {1})
    assert frequencies(statistics, ledger, base) == (2, [2, 1, 0])
    add(ledger, base, "b.txt", b"2")
    index(ledger, base, {1, 3})
    assert frequencies(statistics, ledger, base) == (3, [3, 1, 1])
    record(ledger, base, an_upload("a.txt", b"new"))
    index(ledger, base, {2})
    assert frequencies(statistics, ledger, base) == (2, [1, 1, 1])
    ledger.documents.begin_delete(base.id, document.id)
    assert frequencies(statistics, ledger, base) == (1, [1, 0, 1])


def test_slow_refresh_is_followed_by_a_pause(ledger: Ledger, base: KnowledgeBase) -> None:
    times = iter([0.0, 0.0, 0.2, 0.2 + LONGEST_PAUSE / 2, 0.2 + LONGEST_PAUSE, 2.0, 2.2])
    statistics = CollectionStatistics(ledger, clock=lambda: next(times))
    statistics.of(ledger.bases.get(base.name))
    add(ledger, base)
    index(ledger, base, {1})
    assert frequencies(statistics, ledger, base)[0] == 0
    assert frequencies(statistics, ledger, base)[0] == 1


def test_failed_refresh_leaves_the_sums_right(ledger: Ledger, base: KnowledgeBase) -> None:
    statistics = CollectionStatistics(ledger, clock=lambda: 0.0)
    document = add(ledger, base, "a.txt", b"1")
    index(ledger, base, {1})
    assert frequencies(statistics, ledger, base) == (1, [1, 0, 0])
    ledger.documents.begin_delete(base.id, document.id)
    add(ledger, base, "b.txt", b"2")
    assert claim(ledger).kind == "delete"
    index(ledger, base, {2})
    current = ledger.bases.get(base.name)
    with ledger.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE indexed RENAME COLUMN terms TO away")
    with pytest.raises(Unavailable):
        statistics.of(current)
    with ledger.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE indexed RENAME COLUMN away TO terms")
    assert frequencies(statistics, ledger, base) == (1, [0, 1, 0])
