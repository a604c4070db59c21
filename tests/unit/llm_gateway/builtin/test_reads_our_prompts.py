"""The built-in answerer reads every prompt that the query API sends."""

from __future__ import annotations

import pytest

from zhiwen.common.prompts import prompt_for
from zhiwen.llm_gateway.builtin.extractive import answer_prompt, read_prompt

CONTEXT = "[1] 年假\n年假为 10 天。\n\n[2] Sick leave is five days. [n] marks a note."
PASSAGES = ((1, "年假\n年假为 10 天。"), (2, "Sick leave is five days. [n] marks a note."))


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("question", ["年假有几天？", "How many days is sick leave?"])
def test_passages_and_question_are_read_whatever_stands_before_the_template(question: str, asks: bool) -> None:
    prompt = read_prompt(prompt_for(question, CONTEXT, ask_for_citations=asks))
    assert (prompt.passages, prompt.question) == (PASSAGES, question)


def test_line_before_the_template_changes_no_answer() -> None:
    for question in ("年假有几天？", "How many days is sick leave?"):
        asked, plain = (prompt_for(question, CONTEXT, ask_for_citations=asks) for asks in (True, False))
        assert answer_prompt(asked) == answer_prompt(plain)
        assert not answer_prompt(asked).refused
