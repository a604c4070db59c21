"""Prompt templates: the designed ones, what makes one valid, and how it is filled."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.errors import InvalidRequest
from zhiwen.common.prompts import CHINESE_TEMPLATE, ENGLISH_TEMPLATE, REFUSAL, fill, prompt_for, validated_template

DESIGNED = (
    "已知信息:{context}\n"
    "根据上述已知信息,简洁和专业的来回答用户的问题。如果无法从中得到答案,请说 “根据已知信息无法回答该问题” 或 "
    "“没有提供足够的相关信息”,不允许在答案中添加编造成分,答案请使用中文。\n"
    "问题是:{question}"
)


def test_default_template_is_the_designed_one_to_the_byte() -> None:
    assert CHINESE_TEMPLATE.encode() == DESIGNED.encode()
    digest = hashlib.sha256(CHINESE_TEMPLATE.encode()).hexdigest()
    assert digest == hashlib.sha256(DESIGNED.encode()).hexdigest()
    assert REFUSAL in CHINESE_TEMPLATE


def test_both_templates_are_valid() -> None:
    assert validated_template(CHINESE_TEMPLATE) == CHINESE_TEMPLATE
    assert validated_template(ENGLISH_TEMPLATE) == ENGLISH_TEMPLATE


@pytest.mark.parametrize(
    ("template", "missing"),
    [
        ("", "{context} and {question}"),
        ("{context}", "{question}"),
        ("{question} {Context}", "{context}"),
        ("{{context}", "{question}"),
    ],
)
def test_template_without_a_placeholder_is_refused_by_name(template: str, missing: str) -> None:
    with pytest.raises(InvalidRequest, match=f"bad-template.* lacks {missing}\\."):
        validated_template(template)


pieces = st.one_of(
    st.text(max_size=20), st.sampled_from(["{context}", "{question}", "{", "}", "{{", "{0}", "%s", "\\1", "\\g<0>"])
)
hostile = st.lists(pieces, max_size=8).map("".join)


@given(hostile, hostile)
def test_words_of_the_template_inside_texts_stay_text(context: str, question: str) -> None:
    before, _, rest = CHINESE_TEMPLATE.partition("{context}")
    middle, _, after = rest.partition("{question}")
    assert fill(CHINESE_TEMPLATE, context=context, question=question) == before + context + middle + question + after


@given(hostile, hostile, hostile)
def test_every_placeholder_is_filled_once_and_nothing_else_changes(template: str, context: str, question: str) -> None:
    parts = [part.split("{question}") for part in template.split("{context}")]
    expected = context.join(question.join(part) for part in parts)
    assert fill(template, context=context, question=question) == expected


CITE = (
    "请在每个陈述之后用 [n] 标明它所依据的信息的编号。\n",
    "After each statement, give the number of the information that it rests on as [n].\n",
)


@pytest.mark.parametrize(
    ("question", "line", "template"),
    [
        ("年假有几天？", CITE[0], CHINESE_TEMPLATE),
        ("年假 annual leave 有几天？", CITE[0], CHINESE_TEMPLATE),
        ("How many days?", CITE[1], ENGLISH_TEMPLATE),
        ("Combien de jours ?", CITE[1], ENGLISH_TEMPLATE),
        ("42?", CITE[1], ENGLISH_TEMPLATE),
    ],
)
def test_question_chooses_template_and_line_and_comes_last(question: str, line: str, template: str) -> None:
    plain = prompt_for(question, "[1] 十天。", ask_for_citations=False)
    assert plain == fill(template, context="[1] 十天。", question=question)
    before, _, rest = prompt_for(question, "[1] 十天。").partition("\n")
    assert f"{before}\n" == line
    assert rest == plain
    assert rest.endswith(question)


def test_template_of_a_knowledge_base_is_sent_as_it_is() -> None:
    for question in ("年假有几天？", "How many days?"):
        assert prompt_for(question, "[1] 十天。", template="{question}|{context}") == f"{question}|[1] 十天。"
