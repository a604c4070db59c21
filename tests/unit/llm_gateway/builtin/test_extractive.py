"""The built-in answerer quotes what fits best, and refuses when nothing shares anything with the question."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.prompts import CHINESE_TEMPLATE, ENGLISH_REFUSAL, ENGLISH_TEMPLATE, REFUSAL, fill
from zhiwen.llm_gateway.builtin.extractive import answer_prompt, read_prompt

PASSAGES = """[1] 员工手册 第三章
员工入职满一年后，每年享有 10 天带薪年假。年假应当在当年使用，最多可以结转 5 天到下一年。
[2] 报销须在费用发生后 30 天内提交。超过 5000 元的报销需要部门经理批准。
[3] The office Wi-Fi password changes every 90 days. Ask IT by e-mail at help@example.com for version 2.5.
[4] 服务器机房位于三号楼地下一层，温度保持在 22 摄氏度。"""


@pytest.mark.parametrize(
    ("question", "quoted"),
    [
        ("年假有几天？", "每年享有 10 天带薪年假。[1]"),
        ("入职一年后有多少天年假?", "每年享有 10 天带薪年假。[1]"),
        ("年假可以结转吗", "最多可以结转 5 天到下一年。[1]"),
        ("报销要在多久内提交？", "报销须在费用发生后 30 天内提交。[2]"),
        ("谁批准超过5000元的报销？", "超过 5000 元的报销需要部门经理批准。[2]"),
        ("How often does the Wi-Fi password change?", "The office Wi-Fi password changes every 90 days.[3]"),
        ("机房在哪里？", "服务器机房位于三号楼地下一层"),
    ],
)
def test_the_best_sentence_is_quoted_with_its_number(question: str, quoted: str) -> None:
    answer = answer_prompt(fill(CHINESE_TEMPLATE, context=PASSAGES, question=question))
    assert quoted in answer.text
    assert not answer.refused
    assert 1 <= len(answer.pieces) <= 3


@pytest.mark.parametrize(
    ("question", "refusal"),
    [
        ("公司的股票代码是多少？", REFUSAL),
        ("月球到地球的距离是多少？", REFUSAL),
        ("食堂几点开门？", REFUSAL),
        ("What is the boiling point of tungsten?", ENGLISH_REFUSAL),
    ],
)
def test_what_shares_nothing_with_the_passages_is_refused_in_the_language_of_the_question(
    question: str, refusal: str
) -> None:
    answer = answer_prompt(fill(CHINESE_TEMPLATE, context=PASSAGES, question=question))
    assert answer.text == refusal
    assert answer.refused


@pytest.mark.parametrize(
    ("question", "quoted"),
    [
        ("How many days of annual leave are there?", "每年享有 10 天带薪年假。[1]"),
        ("密码多久换一次？", "The office Wi-Fi password changes every 90 days.[3]"),
        ("報銷要在多久內提交？", "报销须在费用发生后 30 天内提交。[2]"),
    ],
)
def test_quotes_across_languages_and_scripts(question: str, quoted: str) -> None:
    assert quoted in answer_prompt(fill(CHINESE_TEMPLATE, context=PASSAGES, question=question)).text


@pytest.mark.parametrize(
    "line",
    [
        "请在每个陈述之后用 [n] 标明它依据的信息的编号。\n",
        "After each statement, give the number of the information that it rests on as [n].\n",
        "Cite like [1]:\n[1] is the first passage.\n",
    ],
)
@pytest.mark.parametrize("template", [CHINESE_TEMPLATE, ENGLISH_TEMPLATE])
def test_a_line_before_the_template_changes_nothing(line: str, template: str) -> None:
    prompt = fill(template, context=PASSAGES, question="年假有几天？")
    assert read_prompt(line + prompt) == read_prompt(prompt)


def test_rows_stand_on_their_own_lines_and_sentences_of_two_languages_apart() -> None:
    rows = "[1] Part | Price\nRed valve | 4 euros\nBlue valve | 5 euros"
    answer = answer_prompt(fill(ENGLISH_TEMPLATE, context=rows, question="What is the price of a valve?"))
    assert answer.text == "Part: Red valve; Price: 4 euros[1]\nPart: Blue valve; Price: 5 euros[1]"
    both = "[1] VPN 会话最长十二小时。\n[2] A VPN session needs a token."
    answer = answer_prompt(fill(CHINESE_TEMPLATE, context=both, question="VPN"))
    assert answer.text == "VPN 会话最长十二小时。[1] A VPN session needs a token.[2]"


def test_the_english_template() -> None:
    answer = answer_prompt(
        fill(ENGLISH_TEMPLATE, context=PASSAGES, question="How often is the Wi-Fi password changed?")
    )
    assert answer.text == "The office Wi-Fi password changes every 90 days.[3]"


@pytest.mark.parametrize("separator", ["", "\n"])
def test_passages_and_question_are_found(separator: str) -> None:
    prompt = read_prompt(fill(CHINESE_TEMPLATE, context=separator + PASSAGES, question="多行\n问题?"))
    assert [number for number, _ in prompt.passages] == [1, 2, 3, 4]
    assert prompt.passages[0][1].startswith("员工手册")
    assert prompt.passages[-1][1].endswith("摄氏度。")
    assert prompt.question == "多行\n问题?"


def test_template_words_inside_a_passage_are_text() -> None:
    passage = "[1] 模板写法:\n问题是:甲\n根据上述已知信息,回答。\n乙方的电话是 123。"
    prompt = read_prompt(fill(CHINESE_TEMPLATE, context=passage, question="乙方的电话是多少?"))
    assert prompt.question == "乙方的电话是多少?"
    assert "123" in prompt.passages[0][1]


def test_a_number_out_of_sequence_belongs_to_the_passage() -> None:
    prompt = read_prompt(fill(CHINESE_TEMPLATE, context="[1] 甲\n[7] 参考文献\n[2] 乙", question="?"))
    assert prompt.passages == ((1, "甲\n[7] 参考文献"), (2, "乙"))


@pytest.mark.parametrize("prompt", ["", "你好", "hello", "问题是:年假?", "已知信息:\n问题是:年假?"])
def test_without_passages_there_is_nothing_to_quote(prompt: str) -> None:
    assert answer_prompt(prompt).text in {REFUSAL, ENGLISH_REFUSAL}


@given(st.text(max_size=300), st.text(max_size=50))
def test_any_text_gets_an_answer(context: str, question: str) -> None:
    answer = answer_prompt(fill(CHINESE_TEMPLATE, context=f"[1] {context}", question=question))
    assert answer.text
