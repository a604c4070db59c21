"""Numbers and ranges compare whatever way they are written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.answering.features import agreement
from zhiwen.common.answering.quantities import Range, ranges_of, with_digits


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("工作满二十年", "工作满20年"),
        ("十五天", "15天"),
        ("一百零五元", "105元"),
        ("三千二百五十", "3250"),
        ("两万五千元", "25000元"),
        ("一亿二千万", "120000000"),
        ("二〇二六年", "2026年"),
        ("十分钟", "10分钟"),
        ("1,200 mm", "1200 mm"),
        ("twenty-five days", "25 days"),
        ("three weeks", "3 weeks"),
        ("十分重要", "十分重要"),
        ("千万不要", "千万不要"),
        ("一些", "一些"),
        ("三四", "三四"),
        ("百度", "百度"),
        ("someone", "someone"),
    ],
)
def test_numbers_become_digits(text: str, digits: str) -> None:
    assert with_digits(text) == digits


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("满10年不满20年", [Range(10, 20, "年", high_included=False)]),
        ("满20年", [Range(20, math.inf, "年")]),
        ("60至74分", [Range(60, 74, "分")]),
        ("90分以上", [Range(90, math.inf, "分")]),
        ("不超过3次", [Range(-math.inf, 3, "次")]),
        ("3天以内", [Range(-math.inf, 3, "天")]),
        ("3 to 5 days", [Range(3, 5, "天")]),
        ("at least 5 years", [Range(5, math.inf, "年")]),
        ("15 days", [Range(15, 15, "天")]),
        ("2026-01-12 ls-p411 orders-db-3", []),
    ],
)
def test_ranges_are_read(text: str, ranges: list[Range]) -> None:
    assert ranges_of(text) == ranges


@pytest.mark.parametrize(
    ("asked", "row", "agrees"),
    [
        ("满20年", "满20年", 1.0),
        ("满20年", "满10年不满20年", -1.0),
        ("15年", "满10年不满20年", 1.0),
        ("15年", "满10年", 0.5 + 0.1 * 10 / 15),
        ("6年", "满10年", -1.0),
        ("20年", "20天", 0.0),
        ("82分", "75至89分", 1.0),
        ("82分", "60至74分", -1.0),
    ],
)
def test_a_row_agrees_with_the_number_asked_for(asked: str, row: str, agrees: float) -> None:
    assert agreement(ranges_of(asked)[0], ranges_of(row)) == agrees


@given(st.text(st.sampled_from("零一二两三四五六七八九十百千万亿年天0123456789.,-至to满不 以上")))
def test_any_text_can_be_read(text: str) -> None:
    ranges_of(with_digits(text))
    assert with_digits(with_digits(text)) is not None
