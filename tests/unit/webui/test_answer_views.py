"""What the page shows of an answer: marks, passages, quotes, and nothing that runs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.client.fake_api import citation, source
from zhiwen.client import Citation, Outcome, SourceOut
from zhiwen.webui.answers import highlighted, marked_answer, passages_html, refused_html


def shown_source(n: int = 1, **fields: Any) -> SourceOut:
    return SourceOut.model_validate(source(n) | fields)


def mark(n: int = 1, *, supported: bool = True, **fields: Any) -> Citation:
    return Citation.model_validate(citation(n, supported=supported) | fields)


def test_passages_are_numbered_with_file_page_and_text() -> None:
    shown = passages_html([shown_source(1), shown_source(2)], "answered", 0.91, [])
    assert shown.count("<details") == 2
    for text in ("[1]", "[2]", "员工手册.docx", "p. 3", "满十年的员工享有15天年假。", "0.88", "0.91"):
        assert text in shown


@pytest.mark.parametrize(
    ("outcome", "title", "sure"),
    [
        (None, "Passages found", False),
        ("answered", "来源 / Sources", True),
        ("closest", "The closest passages", True),
        ("refused", "The closest passages", False),
    ],
)
def test_title_says_what_the_passages_are(outcome: Outcome | None, title: str, sure: bool) -> None:
    shown = passages_html([shown_source()], outcome, 0.91, [])
    assert (title in shown, "Confidence" in shown) == (True, sure)
    assert ("来源" in shown) is (outcome == "answered")


def test_no_passages_show_nothing() -> None:
    assert passages_html([], "answered", 0.5, [mark()]) == ""


def test_text_of_documents_and_models_stays_text() -> None:
    hostile = shown_source(text="<img src=x onerror=alert(1)>", source='"><script>', heading="<b>")
    quoted = mark(quote="<img", start=0, end=4)
    shown = passages_html([hostile], "closest", 0.5, [quoted]) + refused_html("<script>alert(1)</script>")
    assert "<img" not in shown
    assert "<script" not in shown
    assert "<mark>&lt;img</mark> src" in shown


def test_quote_is_highlighted_in_its_own_passage() -> None:
    shown = passages_html([shown_source(1), shown_source(2, text="年假十天。")], "answered", 0.5, [mark(1)])
    assert shown.count("<mark>") == 1
    assert "<mark>满十年的员工享有15天年假。</mark>" in shown


@pytest.mark.parametrize(
    ("quotes", "shown"),
    [
        ([], "年假&lt;十天"),
        ([(0, 2)], "<mark>年假</mark>&lt;十天"),
        ([(3, 5), (0, 2)], "<mark>年假</mark>&lt;<mark>十天</mark>"),
        ([(0, 3), (2, 5), (1, 2)], "<mark>年假&lt;</mark><mark>十天</mark>"),
        ([(None, None), (-1, 2), (2, 2), (3, 9), (4, 1)], "年假&lt;十天"),
    ],
)
def test_quotes_are_highlighted(quotes: list[tuple[int | None, int | None]], shown: str) -> None:
    assert highlighted("年假<十天", quotes) == shown


@given(st.text(max_size=20), st.lists(st.tuples(st.integers(-2, 25), st.integers(-2, 25)), max_size=6))
def test_highlighting_changes_no_text(text: str, quotes: list[tuple[int, int]]) -> None:
    plain = highlighted(text, [])
    assert highlighted(text, quotes).replace("<mark>", "").replace("</mark>", "") == plain


def test_marks_without_support_are_marked_where_they_stand_and_named() -> None:
    marks = [mark(1), mark(2, supported=False), mark(1), mark(3, supported=False)]
    assert marked_answer("甲[1]。乙[2]。丙[1, 3]。", marks) == "甲[1]。乙[2]⚠。丙[1, 3]⚠。"
    assert "⚠ 缺少依据 / Not supported by the passage: [2] [3]" in passages_html(
        [shown_source()], "answered", 0.5, marks
    )


def test_answer_without_marks_is_as_it_was() -> None:
    assert marked_answer("`a[1]` 甲", []) == "`a[1]` 甲"
    assert marked_answer("甲[1]", [mark(1)]) == "甲[1]"
    assert "缺少依据" not in passages_html([shown_source()], "answered", 0.5, [mark(1)])


def test_refusal_says_what_it_means_in_both_languages() -> None:
    shown = refused_html("根据已知信息无法回答该问题")
    for text in ("zw-refused", "知识库中没有答案", "does not hold the answer", "根据已知信息无法回答该问题"):
        assert text in shown
