"""How sure it is that hits answer a question."""

from __future__ import annotations

from zhiwen.common.answering.confidence import confidence
from zhiwen.common.models import Hit


def hit(score: float) -> Hit:
    return Hit("d:1:0", "d", 1, 0, "手册.txt", None, "", "年假十天。", score, {})


def test_nothing_found_answers_nothing() -> None:
    assert confidence("年假有几天？", []) == 0.0


def test_better_hits_are_surer_and_only_the_first_five_count() -> None:
    rising = [confidence("年假有几天？", [hit(score / 10)]) for score in range(11)]
    assert rising == sorted(rising)
    assert 0.0 < rising[0] < 0.1
    assert 0.9 < rising[-1] < 1.0
    assert confidence("年假有几天？", [hit(0.1)] * 5 + [hit(0.9)]) == rising[1]
