"""Confidence is a probability, follows the evidence, and needs no part of a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.common.answering.examples import chunks_with
from zhiwen.common.answering import constants
from zhiwen.common.answering.confidence import NAMES, confidence
from zhiwen.common.answering.features import NAMES as FEATURES
from zhiwen.common.models import Hit


def hit(text: str, score: float = 0.5, *, parts: bool = True) -> Hit:
    found = Hit("d:1:0", "d", 1, 0, "手册.txt", None, "", text, score, {})
    return replace(found, full_text_score=score, dense_score=score) if parts else found


def hits_of(texts: Sequence[str], scores: Sequence[float]) -> list[Hit]:
    return [hit(text, score) for text, score in zip(texts, scores, strict=True)]


HANDBOOK = [passage.text for passage in chunks_with("员工手册.docx", "报销单应在", "带薪年假", "书面通知", "加班必须")]


def test_the_fitted_numbers_belong_to_these_features() -> None:
    assert tuple(constants.fitted()["quoting"]) == FEATURES
    assert tuple(constants.fitted()["confidence"]) == NAMES
    assert 0 < constants.MIN_CONFIDENCE < 0.5


def test_nothing_to_quote_is_no_confidence() -> None:
    assert confidence("年假有几天？", []) == 0.0
    assert confidence("月球到地球的距离是多少？", [hit("报销须在三十天内提交。")]) == 0.0


@pytest.mark.parametrize(
    ("likely", "unlikely"),
    [
        ("报销单要在费用发生后多久提交？", "报销单丢在飞机上，谁赔偿损失？"),
        ("正式员工离职要提前几天书面通知公司？", "公司的股票在哪个交易所上市？"),
        ("法定节假日加班按几倍计算？", "食堂周末提供早餐吗？"),
    ],
)
def test_what_is_answered_has_more_confidence_than_what_is_not(likely: str, unlikely: str) -> None:
    sure = confidence(likely, hits_of(HANDBOOK, [0.7, 0.2, 0.15, 0.1]))
    unsure = confidence(unlikely, hits_of(HANDBOOK, [0.2, 0.18, 0.15, 0.1]))
    assert sure > 0.5 > unsure
    assert unsure < sure - 0.3


def test_a_clear_lead_of_the_first_hit_gives_confidence() -> None:
    question = "报销单要在多久之内提交？"
    assert confidence(question, hits_of(HANDBOOK, [0.7, 0.2, 0.1, 0.1])) > confidence(
        question, hits_of(HANDBOOK, [0.2, 0.2, 0.2, 0.2])
    )


def test_unknown_parts_of_a_score_count_as_the_usual_ones() -> None:
    known = confidence("报销单要在多久之内提交？", [hit(HANDBOOK[0])])
    unknown = confidence("报销单要在多久之内提交？", [hit(HANDBOOK[0], parts=False)])
    assert abs(known - unknown) < 0.3


def test_hits_after_the_fifth_do_not_count() -> None:
    hits = hits_of([*HANDBOOK, "其他。"], [0.7, 0.2, 0.1, 0.1, 0.1])
    assert confidence("报销多久提交？", [*hits, *hits]) == confidence("报销多久提交？", hits)


@given(st.text(max_size=80), st.lists(st.tuples(st.text(max_size=120), st.floats(0, 1)), max_size=6), st.booleans())
def test_any_hits_give_a_probability(question: str, found: list[tuple[str, float]], parts: bool) -> None:
    hits = [hit(text, score, parts=parts) for text, score in found]
    assert 0.0 <= confidence(question, hits) <= 1.0
    assert confidence(question, hits) == confidence(question, hits)
