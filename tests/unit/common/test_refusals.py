"""What counts as a refusal among a model's answers."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.prompts import (
    CHINESE_TEMPLATE,
    ENGLISH_REFUSAL,
    ENGLISH_TEMPLATE,
    REFUSAL,
    is_refusal,
    refusal_for,
)

NOT_ENOUGH = "没有提供足够的相关信息"


@pytest.mark.parametrize("refusal", [REFUSAL, NOT_ENOUGH, ENGLISH_REFUSAL])
@pytest.mark.parametrize(
    "around",
    [
        *("{}", "{}。", "{}.", "{}！", " \n{}\n"),
        *(
            "“{}”",
            "“{}”。",
            "“{}。”",
            '"{}"',
            '"{}."',
            "'{}'",
            "‘{}’",
            "「{}」",
            "『{}』",
            "«{}»",
            "`{}`",
            "“{}",
            "{}”",
        ),
        *("**{}**", "**{}**。", "> {}", "> **“{}”**", "# {}", "- {}", "_{}_", "```\n{}\n```"),
        *(
            "<think>年假十天,但问的是病假。</think>\n\n{}",
            "想了想</think>{}",
            "抱歉，{}",
            "对不起。{}",
            "很抱歉，“{}”。",
        ),
        *("Sorry, {}.", "I'm sorry, but {}", "I’m sorry, {}", "Unfortunately, {}", "回答：{}", "Answer: {}"),
        *("{}[1]", "{}。[1][2]", "{}。请咨询人事部。", "{}, because the documents say nothing about it."),
    ],
)
def test_fixed_refusals_in_any_dress(refusal: str, around: str) -> None:
    assert is_refusal(around.format(refusal))
    assert is_refusal(around.format(refusal).upper())


@pytest.mark.parametrize(
    "answer",
    [
        "根據已知資訊無法回答該問題",
        "根據已知信息無法回答該問題。",
        "沒有提供足夠的相關資訊。",
        "根据已知信息，无法回答该问题。",
        "根据上述已知信息，我无法回答这个问题。",
        "基于提供的信息，无法回答您的问题",
        "根据提供的文档内容，无法回答该问题。",
        "从已知信息中无法得出答案。",
        "已知信息不足以回答该问题。",
        "无法回答该问题。",
        "抱歉，我无法回答这个问题。",
        "抱歉，根据目前的资料，暂时无法回答您的问题。",
        "已知信息中没有提供足够的相关信息。",
        "没有足够的相关信息来回答该问题。",
        "没有找到相关信息。",
        "未找到相关内容。",
        "已知信息中没有提到病假的天数。",
        "提供的信息中未提及病假。根据已知信息无法回答该问题。",
        "文档中没有说明。没有提供足够的相关信息。",
        "根据已知信息无法确定他的出生年份。",
        "我不知道。",
        "the question cannot be answered from the known information",
        "The question can't be answered from the known information.",
        "The question can’t be answered based on the provided information.",
        "This question cannot be answered with the information provided.",
        "Based on the known information above, the question cannot be answered.",
        "Based on the provided context, I cannot answer this question.",
        "From the known information, this question cannot be answered.",
        "I am unable to answer the question based on the given documents.",
        "I cannot answer this question.",
        "The question cannot be answered",
        "It is not possible to answer the question from the known information.",
        "There is not enough relevant information to answer the question.",
        "There is no information about this question.",
        "The provided information does not contain enough information to answer the question.",
        "The known information does not mention sick leave.",
        "Not enough information.",
        "I don't know.",
    ],
)
def test_small_variations(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " \n",
        "“”",
        "<think></think>",
        "年假十天。[1]",
        f"年假十天。病假:{REFUSAL}。",
        f"文档规定客服应回答“{REFUSAL}”。[1]",
        f"“{REFUSAL}”是客服的标准答复。[1]",
        f"{REFUSAL}的申请会被退回。[1]",
        "没有提供足够的相关信息的申请会被退回。[1]",
        "没有提供足够的相关信息时，客服应请用户补充。[1]",
        "根据已知信息无法回答该问题的第二部分，第一部分的答案是十天。[1]",
        "根据已知信息无法回答该问题，但年假是十天。[1]",
        "无法回答电话时，请留言。[1]",
        "没有找到发票的，凭情况说明报销。[1]",
        "员工无法确定休假日期的，由部门安排。[1]",
        "没有规定上限。[2]",
        "不能。试用期内不享有年假。[1]",
        "文档没有提到病假，年假为十天。[1]",
        "已知信息中没有提到病假。年假为十天。[1]",
        f'The guide tells agents to say "{ENGLISH_REFUSAL}".[1]',
        f'"{ENGLISH_REFUSAL}" is what the model says.[1]',
        "The question cannot be answered from the known information alone by agents without a licence.[1]",
        "The question cannot be answered from the known information, but leave is ten days. [1]",
        "I cannot answer the phone during meetings, says the policy.[1]",
        "No information is stored on the device.[1]",
        "The document does not mention sick leave. Annual leave is ten days.[1]",
        "Sorry is the word that the letter begins with.[1]",
        "<think>根据已知信息无法回答该问题</think>年假十天。[1]",
    ],
)
def test_answers(answer: str) -> None:
    assert not is_refusal(answer)


@pytest.mark.parametrize("template", [CHINESE_TEMPLATE, ENGLISH_TEMPLATE])
def test_what_a_template_tells_the_model_to_say_is_a_refusal(template: str) -> None:
    told = re.findall(r"[“\"](.+?)[”\"]", template)
    assert told
    assert all(map(is_refusal, told))


@pytest.mark.parametrize(("question", "refusal"), [("年假有几天？", REFUSAL), ("How many days?", ENGLISH_REFUSAL)])
def test_question_is_refused_in_its_language(question: str, refusal: str) -> None:
    assert refusal_for(question) == refusal
    assert is_refusal(refusal)


@given(st.text(max_size=200))
def test_any_text_is_judged(text: str) -> None:
    assert is_refusal(text) in {True, False}
    assert is_refusal(f"{REFUSAL}。{text}") or "[" in text or "【" in text


@pytest.mark.parametrize(
    "unit",
    ["根据", "已知信息", "相关", "the ", "based on the ", "known ", "抱歉，", "“", "没有", "\n", "<think>", "[1]"],
)
def test_hostile_repetition_costs_nothing(unit: str) -> None:
    started = time.perf_counter()
    is_refusal(unit * 100_000)
    assert time.perf_counter() - started < 1.0
