"""Which part of a conversation a model sees, and how the question is read from its reply."""

from __future__ import annotations

import pytest

from zhiwen.common.api.questions import Message
from zhiwen.common.prompts import CONDENSE_CHINESE, CONDENSE_ENGLISH, fill_condensing
from zhiwen.query.answer.condensing import LAST_TURNS, TURN_CHARACTERS, question_in, transcript


@pytest.mark.parametrize(
    ("reply", "question"),
    [
        ("病假有几天?", "病假有几天?"),
        ("  “病假有几天?”\n", "病假有几天?"),
        ("完整问题:病假有几天?", "病假有几天?"),
        ("**Standalone question:** How many days of sick leave are there?", "How many days of sick leave are there?"),
        ("<think>用户问的是\n病假。</think>\n\n病假有几天?", "病假有几天?"),
        ("病假有几天?\n\n说明:补全了指代。", "病假有几天?"),
        ("完整问题:\n病假有几天?", "病假有几天?"),
        ("", ""),
        ("<think>嗯</think>", ""),
        ("“”\n", ""),
    ],
)
def test_question_is_taken_out_of_the_reply(reply: str, question: str) -> None:
    assert question_in(reply) == question


def test_last_turns_are_shown_without_the_system_prompt() -> None:
    turns = [Message(role="system", content="secret")]
    turns += [Message(role=("user", "assistant")[n % 2], content=f" turn {n} ") for n in range(9)]
    lines = transcript(turns, CONDENSE_ENGLISH).splitlines()
    assert lines == [f"{('User', 'Assistant')[n % 2]}: turn {n}" for n in range(9 - LAST_TURNS, 9)]


def test_long_turns_are_cut() -> None:
    shown = transcript([Message(role="assistant", content="长" * 5000)], CONDENSE_CHINESE)
    assert shown == "助手: " + "长" * TURN_CHARACTERS


def test_words_of_the_template_in_a_conversation_are_text() -> None:
    filled = fill_condensing("{history}|{question}", history="{question} {x}", question="{history}")
    assert filled == "{question} {x}|{history}"
