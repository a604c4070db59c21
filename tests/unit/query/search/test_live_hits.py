"""Which of the found chunks are live, and when Milvus is asked again. Ledger and store are dictionaries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import islice

from tests.unit.query.conftest import BASE
from zhiwen.common.models import Hit, KnowledgeBase, chunk_id, parse_chunk_id
from zhiwen.common.store import Ranking
from zhiwen.query.search.live import LONGEST_STEP, MOST_ROUNDS, LiveHits, LiveSearch, Ranked


@dataclass
class Fakes:
    """The live version of each document, and the chunks that are gone. Records what was asked."""

    live: dict[str, int]
    gone: set[str] = field(default_factory=set)
    asked_ledger: list[set[str]] = field(default_factory=list)
    asked_store: list[tuple[str, int]] = field(default_factory=list)
    reloads: int = 0

    def live_versions(self, documents: set[str]) -> dict[str, int]:
        self.asked_ledger.append(set(documents))
        return {document: self.live[document] for document in documents if document in self.live}

    def rows(self, collection: str, ranking: Ranking) -> list[Hit]:
        self.asked_store.append((collection, len(ranking)))
        return [hit(id, score) for id, score in ranking.items() if id not in self.gone]

    def reload(self, base: KnowledgeBase) -> KnowledgeBase:
        self.reloads += 1
        return replace(base, live=replace(base.live, collection=f"reloaded_{self.reloads}"))

    def hits(self, *ids: str, step: int = 10) -> LiveHits:
        return LiveHits(ranking(*ids), self.live_versions, lambda found: self.rows("kb", found), step=step)

    @property
    def live_search(self) -> LiveSearch:
        return LiveSearch(self.live_versions, self.rows, self.reload)


def hit(id: str, score: float) -> Hit:
    document_id, version, ordinal = parse_chunk_id(id)
    return Hit(id, document_id, version, ordinal, "手册.txt", None, "", id, score, {})


def ranking(*ids: str) -> Ranking:
    return {id: 1 - place / 10_000 for place, id in enumerate(ids)}


def chunks(document: str, version: int, count: int) -> list[str]:
    return [chunk_id(document, version, ordinal) for ordinal in range(count)]


# The hits of one ranking


def test_only_chunks_of_live_versions_answer_and_keep_their_order_and_score() -> None:
    fakes = Fakes({"a": 2, "b": 1})
    live = fakes.hits("b:1:0", "a:1:0", "a:2:0", "deleted:1:0", "b:1:1")
    found = list(live)
    assert [one.chunk_id for one in found] == ["b:1:0", "a:2:0", "b:1:1"]
    assert [one.score for one in found] == [1.0, 0.9998, 0.9996]


def test_newer_live_version_was_missed() -> None:
    live = Fakes({"a": 2, "b": 1}).hits("a:1:0", "b:1:0")
    assert [one.chunk_id for one in live] == ["b:1:0"]
    assert live.missed == {("a", 2)}


def test_version_that_is_written_and_not_yet_live_was_not_missed() -> None:
    live = Fakes({"a": 1}).hits("a:2:0", "a:1:0")
    assert [one.chunk_id for one in live] == ["a:1:0"]
    assert live.missed == set()


def test_deleted_document_was_not_missed() -> None:
    live = Fakes({}).hits("a:1:0")
    assert list(live) == []
    assert live.missed == set()


def test_live_version_whose_rows_are_gone_was_missed() -> None:
    live = Fakes({"a": 1, "b": 1}, gone={"a:1:0"}).hits("a:1:0", "b:1:0")
    assert [one.chunk_id for one in live] == ["b:1:0"]
    assert live.missed == {("a", 1)}


def test_rows_are_looked_up_as_they_are_asked_for_twice_as_many_each_time() -> None:
    fakes = Fakes({"a": 1})
    hits = iter(fakes.hits(*chunks("a", 1, 5000), step=3))
    list(islice(hits, 3))
    assert fakes.asked_store == [("kb", 3)]
    list(hits)
    steps = [rows for _, rows in fakes.asked_store]
    assert steps[:4] == [3, 6, 12, 24]
    assert (max(steps), sum(steps)) == (LONGEST_STEP, 5000)


def test_ledger_is_asked_once_for_each_document() -> None:
    fakes = Fakes({"a": 1, "b": 1})
    list(fakes.hits("a:1:0", "gone:1:0", "b:1:0", "a:1:1", "gone:1:1", "c:1:0", step=2))
    assert fakes.asked_ledger == [{"a", "gone"}, {"b", "c"}]


def test_what_the_ledger_said_once_holds_for_the_whole_ranking() -> None:
    fakes = Fakes({"a": 1})
    hits = iter(fakes.hits("a:1:0", "a:1:1", "a:2:0", step=2))
    assert next(hits).version == 1
    fakes.live["a"] = 2
    assert [one.version for one in hits] == [1]


# Searching until no version was missed


@dataclass
class Ranker:
    """Finds the next of these rankings each time; the last again and again."""

    rankings: list[Ranking]
    asked: list[tuple[str, bool]] = field(default_factory=list)

    def __call__(self, base: KnowledgeBase, strong: bool) -> Ranked:
        self.asked.append((base.live.collection, strong))
        return Ranked(self.rankings[min(len(self.asked), len(self.rankings)) - 1], 0.5, {}, 2.0)


def test_search_that_missed_no_version_asks_once() -> None:
    fakes, rank = Fakes({"a": 1}), Ranker([ranking("a:1:0")])
    result = fakes.live_search.search(BASE, rank, list, step=10)
    assert [one.chunk_id for one in result.hits] == ["a:1:0"]
    assert (result.base, result.rest, result.embed_ms) == (BASE, 0.5, 2.0)
    assert (rank.asked, fakes.reloads) == ([("kb_b_1", False)], 0)
    assert (len(fakes.asked_ledger), fakes.asked_store) == (1, [("kb_b_1", 1)])


def test_search_that_missed_a_version_is_repeated_with_strong_consistency_in_the_live_generation() -> None:
    fakes, rank = Fakes({"a": 2}), Ranker([ranking("a:1:0"), ranking("a:1:0", "a:2:0")])
    result = fakes.live_search.search(BASE, rank, list, step=10)
    assert [one.chunk_id for one in result.hits] == ["a:2:0"]
    assert rank.asked == [("kb_b_1", False), ("reloaded_1", True)]
    assert (result.base.live.collection, result.embed_ms) == ("reloaded_1", 4.0)
    assert fakes.asked_store[-1] == ("reloaded_1", 1)


def test_search_is_given_up_while_versions_go_live_all_the_time() -> None:
    fakes = Fakes({"a": 2})

    def rank(_base: KnowledgeBase, _strong: bool) -> Ranked:
        fakes.live["a"] += 1
        return Ranked(ranking("a:1:0"), -1.0, {})

    result = fakes.live_search.search(BASE, rank, list, step=10)
    assert result.hits == []
    assert fakes.reloads == len(fakes.asked_ledger) == MOST_ROUNDS


def test_what_is_not_chosen_is_not_looked_up() -> None:
    fakes, rank = Fakes({"a": 1}), Ranker([ranking(*chunks("a", 1, 100))])

    def first(live: Iterable[Hit]) -> list[Hit]:
        return list(islice(live, 2))

    result = fakes.live_search.search(BASE, rank, first, step=5)
    assert [one.ordinal for one in result.hits] == [0, 1]
    assert fakes.asked_store == [("kb_b_1", 5)]
