"""Which searches and questions are refused, in which order, and which defaults apply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.query.conftest import BASE
from zhiwen.common.api.questions import AskBody, SearchBody
from zhiwen.common.errors import InvalidRequest
from zhiwen.common.models import Hit, KnowledgeBase
from zhiwen.query.search.request import Search, SearchRules, checked_search

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


def test_question_is_searched_for_like_any_other_text() -> None:
    assert search_of_question(top_k=3) == Search("年假", 3, fusion="min_max")
    assert search_of_question(min_score=0.0).min_score == 0.0
    assert search_of_question(dense_weight=0.7).dense_weight == search_of(dense_weight=0.7).dense_weight == 0.7


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


def test_answer_is_sure_from_the_least_confidence_on() -> None:
    assert [RULES.is_sure(value, BASE) for value in (0.0, 0.299, 0.3, 1.0)] == [False, False, True, True]
    tuned = replace(BASE, min_confidence=0.7)
    assert [RULES.is_sure(value, tuned) for value in (0.3, 0.699, 0.7)] == [False, False, True]


# Whether a question has anything to do with the collection


@pytest.mark.parametrize(
    ("full_text", "dense", "nothing"),
    [(0.0, 0.1, True), (0.0, None, True), (0.2, 0.1, False), (0.0, 0.5, False), (None, 0.1, False)],
    ids=["neither", "no word", "a word", "the meaning", "words were not searched"],
)
def test_question_shares_nothing_when_neither_a_word_nor_the_meaning_is_in_a_hit(
    full_text: float | None, dense: float | None, nothing: bool
) -> None:
    stranger = replace(hit(0.1, "年假十天"), full_text_score=0.0, dense_score=0.0)
    other = replace(stranger, full_text_score=full_text, dense_score=dense)
    assert RULES.shares_nothing([stranger], 0.32)
    assert RULES.shares_nothing([stranger, other], 0.32) is nothing
    assert RULES.shares_nothing([], 0.32)
