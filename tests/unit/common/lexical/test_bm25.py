"""Sparse vectors and relevance."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiwen.common.lexical.analysis import analyze, term_id
from zhiwen.common.lexical.bm25 import (
    Bm25,
    QueryWeighting,
    SparseQuery,
    document_vector,
    query_vector,
)
from zhiwen.common.lexical.statistics import TermStatistics
from zhiwen.common.lexical.translations import Translation, Translations

TABLE = Translations.of(
    {
        "大学": [Translation("universiti", 1.0), Translation("colleg", 0.6)],
        "universiti": [Translation("大学", 1.0), Translation("综合性大学", 0.5)],
        "data base": [Translation("数据库", 1.0)],
        "colleg": [Translation("学院", 1.0)],
    }
)


def relevances(question: str, passages: list[str], **weighting: float) -> list[float]:
    documents = [document_vector(analyze(passage)) for passage in passages]
    query = query_vector(question, TermStatistics.of(documents), TABLE, QueryWeighting(**weighting))
    return [relevance(query, document) for document in documents]


def relevance(query: SparseQuery, document: dict[int, float]) -> float:
    return query.relevance(sum(weight * document.get(term, 0.0) for term, weight in query.weights.items()))


@settings(deadline=None)  # the first text loads the segmenter
@given(st.text(max_size=200))
def test_document_weights_are_shares_under_stable_numbers(text: str) -> None:
    vector = document_vector(analyze(text))
    assert all(0 < weight < 1 for weight in vector.values())
    assert all(0 <= term <= 2**32 - 2 for term in vector)


def test_long_documents_weigh_a_term_less() -> None:
    short, long = document_vector(analyze("cat dog")), document_vector(analyze("cat " + "dog " * 400))
    assert short[term_id("cat")] > long[term_id("cat")]
    assert document_vector(analyze("cat dog"), Bm25(b=0))[term_id("cat")] == pytest.approx(1 / 2.2)


def test_relevance_is_the_share_of_the_question_that_is_answered() -> None:
    full, half, none = relevances(
        "solar panels rotterdam", ["Solar panels in Rotterdam", "solar panels", "a recipe for soup"]
    )
    assert 1 > full > half > none == 0


def test_words_that_no_document_has_lower_the_relevance() -> None:
    passages = ["solar panels in Rotterdam", "soup"]
    assert relevances("solar panels zeppelin", passages)[0] < relevances("solar panels", passages)[0]


def test_grammar_of_the_question_counts_nothing() -> None:
    passages = ["大学位于北京", "的是什么", "what is the of"]
    plain, asked = relevances("北京大学", passages), relevances("北京的大学是什么", passages)
    assert asked[1] == 0
    assert asked[0] > 0.5 * plain[0]


def test_a_question_of_grammar_only_still_searches() -> None:
    assert relevances("to be or not to be", ["to be", "soup"])[0] > 0


def test_question_and_passage_in_two_languages_meet() -> None:
    english, other = relevances("大学", ["A university in the north", "a soup of fish"])
    assert english > other == 0
    chinese, other = relevances("universities", ["北方的大学", "鱼汤"])
    assert chinese > other == 0


def test_phrases_are_translated_as_a_whole() -> None:
    assert relevances("data bases", ["关于数据库", "鱼汤"])[0] > 0


def test_a_translation_that_the_segmenter_would_not_cut_is_found_by_its_pairs() -> None:
    table = Translations.of({"zeppelin": [Translation("齐柏林飞艇", 1.0)]})
    documents = [document_vector(analyze("齐柏林飞艇升空"))]
    query = query_vector("zeppelin", TermStatistics.of(documents), table)
    assert relevance(query, documents[0]) > 0


def test_translation_can_be_switched_off() -> None:
    assert relevances("大学", ["A university"], translation_weight=0.0) == [0.0]


def test_a_word_counts_more_than_its_translation() -> None:
    own, other = relevances("大学", ["大学", "university"])
    assert own > other > 0


@pytest.mark.parametrize("question", ["", "？", "zzz 齉"])
def test_a_question_without_known_words_has_no_weights(question: str) -> None:
    assert relevances(question, ["soup", "鱼汤"]) == [0.0, 0.0]


@settings(deadline=None)  # the first text loads the segmenter
@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=4))
def test_relevance_is_always_a_share(question: str, passages: list[str]) -> None:
    assert all(0 <= value <= 1 for value in relevances(question, [*passages, "大学 university", question]))


def test_a_bilingual_collection_raises_translations_of_chinese() -> None:
    english, chinese = ["the university of the north"] * 3, ["北方的大学"] * 3
    few = TermStatistics.of([document_vector(analyze(text)) for text in [*chinese, "university"]])
    many = TermStatistics.of([document_vector(analyze(text)) for text in [*chinese, *english]])
    question = "北方大学"
    share = [
        query_vector(question, statistics, TABLE, QueryWeighting(prior_chunks=0)).weights[term_id("universiti")]
        / query_vector("university", statistics, TABLE, QueryWeighting(prior_chunks=0)).weights[term_id("universiti")]
        for statistics in (few, many)
    ]
    assert share[1] > share[0]


def test_common_words_of_general_texts_weigh_less_in_a_small_collection() -> None:
    table = Translations.of({}, {term_id("northern"): 0.0, term_id("year"): 0.6})
    documents = [document_vector(analyze("a zebra one year"))]
    query = query_vector("zebra year", TermStatistics.of(documents), table)
    assert query.weights[term_id("zebra")] > 3 * query.weights[term_id("year")]
