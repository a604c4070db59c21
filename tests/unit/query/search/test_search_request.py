"""Which searches and questions are refused, in which order, and which defaults apply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.query.conftest import BASE
from zhiwen.common.api.questions import AskBody, SearchBody
from zhiwen.common.errors import InvalidRequest
from zhiwen.common.models import Hit, KnowledgeBase
from zhiwen.query.search.request import SHARED, Search, SearchRules, checked_search

RULES = SearchRules(
    max_question_characters=20, min_confidence=0.3, cross_language=True, fusion="min_max", has_reranker=False
)
RERANKING = replace(RULES, has_reranker=True)
EMPTY = {"query": " \u3000\n"}
LONG = {"query": "长" * 21}
BAD_PARAMS = {"params": {"nprobe": 17}}
BAD_FILTER = {"filter": {"owner": {"eq": 1}}}
NO_RERANKER = {"rerank": True}


def search_of(rules: SearchRules = RULES, base: KnowledgeBase = BASE, **body: Any) -> Search:
    return checked_search(SearchBody(**{"query": "年假", **body}), base, rules)


def search_of_question(rules: SearchRules = RULES, base: KnowledgeBase = BASE, **body: Any) -> Search:
    return checked_search(AskBody(**{"question": "年假", **body}), base, rules)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (EMPTY, "empty-question"),
        (LONG, "question-too-long"),
        (BAD_PARAMS, "bad-search-parameter"),
        ({"params": {"ef": 64}}, "bad-search-parameter"),
        (BAD_FILTER, "bad-filter"),
        ({"filter": {"page": "3"}}, "bad-filter"),
        (NO_RERANKER, "rerank-not-configured"),
        (EMPTY | BAD_PARAMS | BAD_FILTER | NO_RERANKER, "empty-question"),
        (LONG | BAD_PARAMS | BAD_FILTER | NO_RERANKER, "question-too-long"),
        (BAD_PARAMS | BAD_FILTER | NO_RERANKER, "bad-search-parameter"),
        (BAD_FILTER | NO_RERANKER, "bad-filter"),
    ],
    ids=ascii,
)
def test_first_mistake_of_a_search_is_told(bad: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        search_of(**bad)
    assert error.value.code == code


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"question": " "}, "empty-question"),
        ({"question": "长" * 21, **BAD_FILTER, **NO_RERANKER}, "question-too-long"),
        (BAD_FILTER | NO_RERANKER, "bad-filter"),
        (NO_RERANKER, "rerank-not-configured"),
    ],
    ids=ascii,
)
def test_first_mistake_of_a_question_is_told(bad: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        search_of_question(**bad)
    assert error.value.code == code


def test_errors_say_what_to_do() -> None:
    with pytest.raises(InvalidRequest, match="may be at most 20 characters long"):
        search_of(query="长" * 21)
    with pytest.raises(InvalidRequest, match="ZHIWEN_RERANK_MODEL"):
        search_of(rerank=True)


def test_what_is_asked_for_is_what_is_searched() -> None:
    assert search_of(
        RERANKING,
        query="长" * 20,
        top_k=7,
        mode="dense",
        fusion="rrf",
        filter={"page": {"gt": 3}},
        min_score=0.5,
        neighbours=2,
        cross_language=False,
        rerank=False,
        params={"nprobe": 16},
    ) == Search(
        query="长" * 20,
        top_k=7,
        mode="dense",
        fusion="rrf",
        expression="(page > 3)",
        min_score=0.5,
        neighbours=2,
        params={"nprobe": 16},
        cross_language=False,
        rerank=False,
    )


def test_what_is_not_asked_for_comes_from_the_settings() -> None:
    assert search_of(RERANKING) == Search("年假", 5, fusion="min_max", rerank=True)
    assert search_of() == Search("年假", 5, fusion="min_max", rerank=False)


def test_question_leaves_out_hits_only_below_the_score_it_asks_for() -> None:
    assert search_of_question(top_k=3) == Search("年假", 3, fusion="min_max")
    assert search_of_question(min_score=0.4) == Search("年假", 5, fusion="min_max", min_score=0.4)


@pytest.mark.parametrize(
    ("asked", "of_the_base", "set_up", "crosses"),
    [
        (None, None, True, True),
        (None, None, False, False),
        (None, True, False, True),
        (None, False, True, False),
        (True, False, False, True),
        (False, True, True, False),
    ],
)
def test_languages_are_crossed_as_asked_then_as_the_base_is_set_then_as_configured(
    asked: bool | None, of_the_base: bool | None, set_up: bool, crosses: bool
) -> None:
    rules, base = replace(RULES, cross_language=set_up), replace(BASE, cross_language=of_the_base)
    assert search_of(rules, base, cross_language=asked).cross_language is crosses
    assert search_of_question(rules, base, cross_language=asked).cross_language is crosses


# Which hits pass


def hit(score: float, text: str) -> Hit:
    return Hit("d:1:0", "d", 1, 0, "手册.txt", None, "", text, score, {})


@pytest.mark.parametrize(
    ("search", "least", "passing"),
    [
        (Search("年假", 5), 0.0, [0.0, 0.17, 0.2, 0.4]),
        (Search("年假", 5, min_score=0.2), 0.2, [0.2, 0.4]),
        (Search("年假", 5, min_score=0.0), 0.0, [0.0, 0.17, 0.2, 0.4]),
        (Search("年假", 5, min_score=0.5), 0.5, []),
    ],
    ids=["all", "above a score", "score of 0", "none"],
)
def test_hits_that_pass(search: Search, least: float, passing: list[float]) -> None:
    assert search.least_score == pytest.approx(least)
    scores = (0.0, 0.17, 0.2, 0.4)
    assert [score for score in scores if search.passes(hit(score, "年假十天"))] == passing


@pytest.mark.parametrize(
    ("scores", "nothing"),
    [([], True), ([0.0], True), ([SHARED - 0.001, 0.0], True), ([0.0, SHARED], False), ([0.4, 0.0], False)],
)
def test_question_shares_nothing_with_hits_that_score_next_to_nothing(scores: list[float], nothing: bool) -> None:
    assert RULES.shares_nothing("年假", [hit(score, "年假十天") for score in scores]) is nothing


def test_answer_is_sure_from_the_least_confidence_on() -> None:
    assert [RULES.is_sure(confidence) for confidence in (0.0, 0.299, 0.3, 1.0)] == [False, False, True, True]
