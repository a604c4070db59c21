"""Texts that somebody wrote to keep the service busy take no longer than others, and stay in no memory."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from zhiwen.common.answering import features
from zhiwen.common.answering.knowledge import built_in_knowledge
from zhiwen.common.answering.matching import matchable
from zhiwen.common.answering.pieces import LONGEST_PASSAGE, Passage, Piece, cut
from zhiwen.common.answering.quoting import choose_quotes
from zhiwen.llm_gateway.builtin.extractive import read_prompt

SECONDS = 5.0
"""Each of these took minutes or more, and takes milliseconds."""
RULES = {"dashes": "-" * 20_000 + "x", "columns": "|---" * 5_000 + "x", "spaces": "- " * 9_000 + "---x"}


def took(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


@pytest.mark.parametrize("line", RULES.values(), ids=RULES)
def test_a_line_that_looks_like_a_rule_takes_linear_time(line: str) -> None:
    assert took(lambda: cut(0, Passage(1, "", f"年假\n{line}\n{line}"))) < SECONDS


def test_rule_below_a_header_still_makes_it_one() -> None:
    for rule in ("|---|---|", "| :--- | ---: |", "--- | ---", "----+-----", "---"):
        (row,) = cut(0, Passage(1, "", f"工龄 | 第1年 | 天数\n{rule}\n满五年 | 是 | 10"))
        assert row.columns == ("工龄", "第1年", "天数")
    assert [piece.text for piece in cut(0, Passage(1, "", "a -- b.\n\n--"))] == ["a -- b."]


def test_long_title_is_not_read_again_for_each_piece() -> None:
    title = "年假" * (LONGEST_PASSAGE // 4)
    passage = Passage(1, title, f"# {title}\n" + "十天。\n" * 2_000)
    assert max(len(piece.titles) for piece in cut(0, passage)) < 500
    assert took(lambda: choose_quotes("年假几天？", [passage] * 5, built_in_knowledge())) < SECONDS


def test_long_text_does_not_stay_in_memory() -> None:
    short, long = "员工年假为十天。", "员工年假为十天。" * 100
    assert matchable(short) is matchable(short)
    assert matchable(long) is not matchable(long)
    assert matchable(long) == matchable(long)


def test_empty_lines_of_a_prompt_take_linear_time() -> None:
    prompt = "已知信息:\n[1] 年假为十天。" + "\n" * 100_000 + "根据上述已知信息,回答。\n问题是:年假几天？"
    assert took(lambda: read_prompt(prompt)) < SECONDS
    assert read_prompt(prompt).passages == ((1, "年假为十天。"),)


def test_passages_beyond_the_last_piece_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(place: int, passage: Passage) -> list[Piece]:
        read.append(place)
        return cut(place, passage)

    monkeypatch.setattr(features, "cut", counted)
    passages = [Passage(number, "", "年假为十天。\n" * 150) for number in range(1, 500)]
    assert choose_quotes("年假几天？", passages, built_in_knowledge()).quotes
    assert len(read) == -(-features.MOST_PIECES // 150)
