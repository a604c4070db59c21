"""The order that a reranker gives, and the result when it fails."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from zhiwen.common.errors import ServiceError
from zhiwen.common.models import Hit
from zhiwen.query.search.reranking import FAILURES, RERANKED_HITS, rerank, unit_scores


class ByLength:
    """Scores passages by their length. Fails for the empty question."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        if not query:
            raise ServiceError("rerank-failed", "broken")
        self.seen = list(passages)
        return [min(1.0, len(passage) / 100) for passage in passages]

    def close(self) -> None:
        return None


def hit(number: int, text: str, heading: str = "") -> Hit:
    return Hit(f"d:1:{number}", "d", 1, number, "s", None, heading, text, 1 - number / 1000, {})


def test_hits_come_in_the_order_of_the_reranker_and_keep_their_relevance() -> None:
    hits = [hit(0, "a"), hit(1, "bbb"), hit(2, "cc")]
    found, done = rerank(ByLength(), "q", hits)
    assert done
    assert [(h.text, h.score, h.rerank_score) for h in found] == [
        ("bbb", 0.999, 0.03),
        ("cc", 0.998, 0.02),
        ("a", 1.0, 0.01),
    ]


def test_equals_keep_the_order_of_the_search() -> None:
    found, _ = rerank(ByLength(), "q", [hit(n, "same") for n in range(5)])
    assert [h.ordinal for h in found] == list(range(5))


def test_only_the_first_are_reranked_and_the_others_follow() -> None:
    hits = [hit(n, "x" * (n + 1)) for n in range(RERANKED_HITS + 3)]
    reranker = ByLength()
    found, _ = rerank(reranker, "q", hits)
    assert len(reranker.seen) == RERANKED_HITS
    assert [h.ordinal for h in found] == [*reversed(range(RERANKED_HITS)), 50, 51, 52]
    assert found[-1].rerank_score is None


def test_headings_are_read_with_their_text() -> None:
    reranker = ByLength()
    rerank(reranker, "q", [hit(0, "十天", "年假")])
    assert reranker.seen == ["年假\n十天"]


def test_failure_leaves_the_hits_as_they_were_and_is_counted() -> None:
    hits = [hit(0, "a"), hit(1, "bbb")]
    before = FAILURES._value.get()
    assert rerank(ByLength(), "", hits) == (hits, False)
    assert FAILURES._value.get() == before + 1


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.0, 0.5, 1.0], [0.0, 0.5, 1.0]),
        ([-2.0, 0.0, 2.0], [0.1192, 0.5, 0.8808]),
        ([1e6, -1e6], [1.0, 0.0]),
        ([], []),
    ],
)
def test_scores_are_in_range(scores: list[float], expected: list[float]) -> None:
    assert unit_scores(scores) == pytest.approx(expected, abs=1e-4)
