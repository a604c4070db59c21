"""What a follow-up question takes over from the questions before it, and which questions stay to the letter."""

from __future__ import annotations

import time

import pytest

from tests.unit.query.answer.follow_up_cases import EXACT, HOLDING, UNCHANGED
from zhiwen.common.api.questions import Message
from zhiwen.common.lexical.analysis import tagged
from zhiwen.query.answer.follow_ups.resolving import resolved


def turns(questions: list[str]) -> list[Message]:
    return [
        turn
        for question in questions
        for turn in (Message(role="user", content=question), Message(role="assistant", content="根据已知信息。[1]"))
    ]


@pytest.mark.parametrize(("before", "question", "expected"), EXACT)
def test_parallel_part_is_put_into_the_earlier_question(before: list[str], question: str, expected: str) -> None:
    assert resolved(question, turns(before)) == expected


@pytest.mark.parametrize(("before", "question", "holds", "lacks"), HOLDING)
def test_what_the_question_leaves_out_is_taken_over(before: list[str], question: str, holds: str, lacks: str) -> None:
    found = resolved(question, turns(before)).lower()
    assert [word for word in holds.lower().split() if word not in found] == []
    assert [word for word in lacks.lower().split() if word in found] == []


@pytest.mark.parametrize(("before", "question"), UNCHANGED)
def test_complete_question_stays_to_the_letter(before: str, question: str) -> None:
    assert resolved(question, turns([before])) == question


def test_who_comes_from_the_answer() -> None:
    history = [
        Message(role="user", content="谁负责服务器备份？"),
        Message(role="assistant", content="服务器备份由运维组的张伟负责。[1]"),
    ]
    found = resolved("他的电话是多少？", history)
    assert "张伟" in found
    assert "[1]" not in found
    assert "电话" in found


def test_question_without_history_stays() -> None:
    assert resolved("那上海呢", []) == "那上海呢"
    assert resolved("那上海呢", [Message(role="system", content="北京的酒店")]) == "那上海呢"


def test_names_come_from_the_answer_only_when_it_speaks_of_the_question() -> None:
    history = [
        Message(role="user", content="谁负责服务器备份？"),
        Message(role="assistant", content="根据已知信息无法回答该问题"),
    ]
    assert resolved("他的电话是多少？", history) == "服务器备份的电话是多少？"


def test_additions_in_a_row_stand_against_the_first_question() -> None:
    before = ["图书逾期一天罚多少钱？", "那遗失呢？"]
    assert resolved("那污损呢？", turns(before)) == "污损，图书逾期一天罚多少钱？"
    before = ["Can I keep rabbits on the roof garden?", "What about chickens?"]
    assert resolved("And bees?", turns(before)) == "Can I keep rabbits on the roof garden bees?"


def test_long_question_stands_alone() -> None:
    question = "那它" + "很长" * 200
    assert resolved(question, turns(["年假有几天？"])) == question


@pytest.mark.parametrize(
    "text",
    [
        "太好了" * 2000 + "x",
        " " * 20_000,
        "一" * 20_000,
        "也一样" * 60 + "x",
        "and " * 5000,
        "“" * 5000,
        "\n",
        "？",
        "呢",
        "它",
    ],
)
def test_odd_text_is_no_error_and_takes_no_time(text: str) -> None:
    started = time.process_time()
    resolved(text, turns(["年假有几天？"]))
    resolved("那上海呢", turns([text, "年假有几天？", text]))
    resolved("And in Berlin?", turns([text]))
    assert time.process_time() - started < 2


@pytest.mark.parametrize("text", ["年假，有 几天？\n", "HydroSense 300 多少錢", "İstanbul ﬁ Ⅳ 年", "", "a\u3000b\tc"])
def test_tagged_words_keep_their_places(text: str) -> None:
    assert len("".join(word for word, _ in tagged(text))) == len(text)
