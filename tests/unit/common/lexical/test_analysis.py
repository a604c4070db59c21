"""How a text becomes terms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.lexical.analysis import analyze, analyze_question, fold_text, is_chinese, term_id


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Databases are running", ["databas", "are", "run"]),
        ("2024年", ["2024", "年"]),
        ("GPT4模型", ["gpt4", "模型", "模型"]),
        ("Ｍｉｌｖｕｓ", ["milvus"]),
        ("café", ["cafe"]),
        ("", []),
        ("，。!", []),
    ],
)
def test_terms_of(text: str, terms: list[str]) -> None:
    assert list(analyze(text).terms) == terms


def test_chinese_gives_words_and_pairs() -> None:
    terms = analyze("中华人民共和国").terms
    assert {"中华", "人民", "共和国", "华人", "民共"} <= set(terms)


def test_traditional_and_simplified_are_the_same_terms() -> None:
    assert analyze("資料庫與網絡").terms == analyze("资料库与网络").terms


def test_length_is_counted_in_words_of_either_language() -> None:
    assert analyze("the cat sat").length == 3
    assert analyze("一七" * 17).length == pytest.approx(20)


@given(st.text(max_size=200))
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold_text(fold_text(text)) == fold_text(text)


def test_term_numbers_never_change() -> None:
    assert (term_id("大学"), term_id("universiti")) == (694543690, 3184366984)


def test_question_keeps_its_telling_words_and_phrases_with_grammar() -> None:
    question = analyze_question("What is the capital of 法国？")
    assert question.terms == ("法国", "capit")
    assert {"法国", "capit", "is the", "capit of"} <= set(question.phrases)


def test_question_loses_the_fillers_of_everyday_speech() -> None:
    assert analyze_question("你好，发票丢了咋办，急").terms == analyze_question("发票丢").terms
    assert analyze_question("hello, I just want to know my balance please, thanks").terms == ("balanc",)


def test_question_of_grammar_only_keeps_all_of_it() -> None:
    assert analyze_question("to be or not to be").terms == ("to", "be", "or", "not")


@pytest.mark.parametrize(
    ("text", "chinese"),
    [("什么是 Milvus?", True), ("What is 知 in Chinese, please?", False), ("", False), ("2024", False)],
)
def test_language_of_a_text(text: str, chinese: bool) -> None:
    assert is_chinese(text) is chinese
