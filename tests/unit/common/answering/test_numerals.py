"""The numbers of a text, in digits and in words of both languages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.answering.numerals import numbers_held, numbers_stated
from zhiwen.common.lexical.analysis import fold_text


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("年假十五天", [{"15"}]),
        ("年假15天", [{"15"}]),
        ("二十年", [{"20"}]),
        ("一百零五元", [{"105"}]),
        ("三千五百元", [{"3500"}]),
        ("一万二千人", [{"12000"}]),
        ("三点五倍", [{"3.5"}]),
        ("二〇二四年", [{"2024"}]),
        ("两次", [{"2"}]),
        ("第三条", [{"3"}]),
        ("百分之五十", [{"50"}]),
        ("50%", [{"50"}]),
        ("1,200 yuan", [{"1200"}]),
        ("1.2万元", [{"1.2", "12000"}]),
        ("1.50", [{"1.5"}]),
        ("03月05日", [{"3"}, {"5"}]),
        ("2024-03-05", [{"2024"}, {"3"}, {"5"}]),
        ("9:00", [{"9"}]),
        ("twelve days", [{"12"}]),
        ("２０天", [{"20"}]),
        ("統一規定", []),
        ("一般情况下一个人十分重要，千万不要", []),
        ("one of the first", []),
        ("", []),
    ],
)
def test_numbers_that_a_statement_makes(text: str, numbers: list[set[str]]) -> None:
    assert [set(readings) for readings in numbers_stated(fold_text(text))] == numbers


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("一个月", "1"),
        ("共十五名", "15"),
        ("March 5", "3"),
        ("half", "0.5"),
        ("20 million", "20000000"),
        ("满十", "10"),
        ("一一二年", "112"),
        ("一一二年", "2"),
    ],
)
def test_passages_are_read_generously(text: str, number: str) -> None:
    assert number in numbers_held(fold_text(text))


@given(st.text(alphabet="零一二两三十百千万亿点0123456789.,% 第年百分之", max_size=40))
def test_a_passage_holds_whatever_it_states(text: str) -> None:
    held = numbers_held(fold_text(text))
    assert all(not readings.isdisjoint(held) for readings in numbers_stated(fold_text(text)))
