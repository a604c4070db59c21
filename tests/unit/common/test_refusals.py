"""What counts as a refusal among a model's answers."""

from __future__ import annotations

import re

import pytest

from zhiwen.common.prompts import CHINESE_TEMPLATE, ENGLISH_TEMPLATE, REFUSAL, is_refusal


@pytest.mark.parametrize(
    "answer",
    [
        REFUSAL,
        f"{REFUSAL}。",
        f"“{REFUSAL}”",
        f" \n「{REFUSAL}」",
        " 没有提供足够的相关信息。",
        '"The question cannot be answered from the known information."',
    ],
)
def test_refusals(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize(
    "answer", ["", "年假十天。[1]", f"年假十天。病假:{REFUSAL}。", "the question cannot be answered"]
)
def test_answers(answer: str) -> None:
    assert not is_refusal(answer)


@pytest.mark.parametrize("template", [CHINESE_TEMPLATE, ENGLISH_TEMPLATE])
def test_what_a_template_tells_the_model_to_say_is_a_refusal(template: str) -> None:
    told = re.findall(r"[“\"](.+?)[”\"]", template)
    assert told
    assert all(map(is_refusal, told))
