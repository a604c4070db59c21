"""When an answer holds what it should, and which passage is the right one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.cli.evaluation.gold import contains, holds_one, holds_text, marks, sentences_of, tells, tokens

ROW = "LS-P411,隔膜计量泵,0至120升每小时，PVDF泵头,台,7800.00,1,30,适用于强酸强碱"
NOTICE = "正式员工离职应提前30天书面通知公司，试用期员工提前3天。"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("黑豹队丢了 136 次", "136次"),
        ("它在後裡。", "后里"),
        ("The Ｎormans came in the 10th and 11th centuries!", "10TH and 11th Centuries"),
        ("It has 1,200.50 euros", "1200.5"),
        ("由光荣和ω-force开发", "光荣和ω-force"),
        ("| C级 | 60至74分 | 60天 |", "C级，60至74分"),
        ("in the 20th century", "20"),
    ],
)
def test_text_contains_the_gold_whatever_its_form(text: str, part: str) -> None:
    assert contains(text, part)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("15天", "5天"),
        ("1500", "15"),
        ("3.5 m", "5 m"),
        ("the party", "art"),
        ("10 to 20", "1020"),
        ("x", ""),
        ("x", "。"),
    ],
)
def test_part_of_a_number_or_word_is_no_gold(text: str, part: str) -> None:
    assert not contains(text, part)


def test_marks_are_no_part_of_an_answer() -> None:
    answer = "年假为十天[2]，病假[1]另计。[2]"
    assert marks(answer) == [2, 1]
    assert holds_one(answer, ["十天，病假"])
    assert not holds_one(answer, ["2", "1"])
    assert holds_one("它有15天。[1]", ["十五天", "15天"])


@pytest.mark.parametrize(
    ("answer", "short", "gold_text"),
    [
        ("省会城市每晚不超过450元。[1]", "450元", ""),
        ("无法拒绝的，应在两天内交给监察办公室登记。", "两天内交监察办公室登记", ""),
        ("编号：LS-P411；单价：7800.00", "LS-P411，7800元", ""),
        ("LS-P411 | 隔膜计量泵 | 0至120升每小时，PVDF泵头 | 台 | 7800.00 | 1 | 30 | 适用于强酸强碱", "硫酸用它", ROW),
        ("You need 30 days' notice in writing; on probation 3 days.", "30 days in writing; 3 days on probation", ""),
        (NOTICE, "30 days in writing; 3 days on probation", NOTICE),
        ("请勿使用食醋除垢，醋酸会腐蚀密封圈。[1]", "不能", "请勿使用食醋除垢，醋酸会腐蚀密封圈。"),
        ("Do not use a high-pressure cleaner.", "no", "Do not use a high-pressure cleaner."),
    ],
)
def test_answer_tells_what_the_person_said_or_quotes_the_text(answer: str, short: str, gold_text: str) -> None:
    assert tells(answer, short, gold_text)


@pytest.mark.parametrize(
    ("answer", "short", "gold_text"),
    [
        ("每晚不超过320元。", "450元", "省会城市每晚不超过450元"),
        ("LS-P412，7800元", "LS-P411，7800元", ROW),
        ("在30天内交给财务部。", "30天内报8610", "30分钟内报告8610"),
        ("不能，请咨询别人。", "不能", "请勿使用食醋除垢，醋酸会腐蚀密封圈。"),
        ("There is no such thing.", "no", "Do not use a high-pressure cleaner: it drives water into the motor."),
        ("根据已知信息无法回答该问题", "两天内交监察办公室登记", "应在两天内交给监察办公室登记。"),
        ("Ask the incident team.", "the incident lead decides alone", ""),
        ("什么都没有", "", ""),
    ],
)
def test_answer_that_lacks_a_number_or_most_words_does_not_tell(answer: str, short: str, gold_text: str) -> None:
    assert not tells(answer, short, gold_text)


def test_right_passage_holds_the_text_or_most_of_it_at_its_edge() -> None:
    gold = "one two three four five"
    assert holds_text("zero | ONE  two, three | four five | six", gold)
    assert holds_text("zero one two three", gold)
    assert holds_text("three four five six", gold)
    assert not holds_text("zero one two", gold)
    assert not holds_text("zero one two three six", gold)
    assert not holds_text("anything", "")


def test_sentences_are_counted_by_line_without_marks() -> None:
    assert sentences_of("年假为十天。[1]病假另计。[2]") == 2
    assert sentences_of("Ask Dr. Li. Then wait.\na | b | c\n\n") == 3
    assert sentences_of("[1]") == 0


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_every_text_contains_its_own_tokens(before: str, part: str, after: str) -> None:
    assert contains(f"{before} | {part} | {after}", part) is bool(tokens(part))
