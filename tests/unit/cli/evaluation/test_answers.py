"""How the answers of a set are judged, and their figures by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.client.fake_api import ANSWER, source
from zhiwen.cli.evaluation.answers import AnswerOutcome, answer_figures_of, judge_answer
from zhiwen.cli.evaluation.passages import Question
from zhiwen.client import Answer

LEAVE = Question("年假几天?", frozenset({"员工手册.docx"}), ("15天",))
NOWHERE = Question("木星有几个卫星?", frozenset())


def answer(**changes: Any) -> Answer:
    return Answer.model_validate({**ANSWER, **changes})


def passage(n: int, name: str, text: str = "病假另计。") -> dict[str, Any]:
    return {**source(n, text), "source": name}


def test_answer_holds_the_gold_and_cites_the_right_document() -> None:
    judged = judge_answer(LEAVE, answer(confidence=0.8))
    assert judged == AnswerOutcome(True, "answered", 0.8, True, True, True, 1)
    assert judged.is_right


def test_only_the_cited_passage_counts() -> None:
    shown = [passage(1, "别的.docx"), passage(2, "员工手册.docx")]
    assert judge_answer(LEAVE, answer(answer="15天。[2]", sources=shown)).cites_right
    assert not judge_answer(LEAVE, answer(answer="15天。[1]", sources=shown)).cites_right
    assert not judge_answer(LEAVE, answer(answer="15天。", sources=shown)).cites_right
    assert judge_answer(LEAVE, answer(answer="15天。", sources=shown[::-1])).cites_right


def test_closest_passages_may_be_right() -> None:
    judged = judge_answer(LEAVE, answer(outcome="closest", sources=[], closest=[source()]))
    assert (judged.ending, judged.cites_right, judged.is_right) == ("closest", True, True)


def test_refusal_is_never_right() -> None:
    judged = judge_answer(LEAVE, answer(answer="15天?", refused=True, outcome="refused", model=None))
    assert (judged.ending, judged.called, judged.cites_right, judged.is_right) == ("refused", False, False, False)


def test_answer_to_what_cannot_be_answered_is_wrong() -> None:
    judged = judge_answer(NOWHERE, answer())
    assert (judged.answerable, judged.is_right) == (False, False)


def test_gold_text_decides_which_passage_is_right() -> None:
    question = Question("年假几天?", frozenset({"员工手册.docx"}), (), "满十年的员工享有15天年假。", "15天")
    assert judge_answer(question, answer()).cites_right
    other = judge_answer(question, answer(sources=[source(1, "病假为3天。")], answer="病假为3天。[1]"))
    assert (other.cites_right, other.holds_gold) == (False, False)


def test_without_gold_the_right_passage_makes_the_answer_right() -> None:
    judged = judge_answer(Question("?", LEAVE.passages), answer())
    assert (judged.holds_gold, judged.is_right) == (None, True)


def outcome(kind: str, ending: Any, confidence: float, holds: bool | None = None, called: bool = True) -> AnswerOutcome:
    return AnswerOutcome(kind == "yes", ending, confidence, holds, bool(holds), called, 2)


def test_figures_by_hand() -> None:
    figures = answer_figures_of(
        [
            outcome("yes", "answered", 0.95, True),
            outcome("yes", "answered", 0.92, False),
            outcome("yes", "closest", 0.35, True),
            outcome("yes", "refused", 0.05, False, called=False),
            outcome("yes", "refused", 0.15, False),
            outcome("no", "refused", 0.02),
            outcome("no", "closest", 0.31),
            outcome("no", "answered", 1.0),
        ]
    )
    assert (figures.asked, figures.answerable, figures.unanswerable, figures.with_gold) == (8, 5, 3, 5)
    assert (figures.holds_gold, figures.falsely_refused, figures.closest) == (2 / 5, 2 / 5, 1 / 5)
    assert figures.ended_without_call == 1 / 5
    assert (figures.rightly_refused, figures.rightly_unsure) == (1 / 3, 2 / 3)
    assert figures.auroc == pytest.approx((2 + 2 + 2 + 1 + 1) / 15)
    assert [(found.low, found.questions) for found in figures.reliability] == [(0.0, 2), (0.1, 1), (0.3, 2), (0.9, 3)]
    last = figures.reliability[-1]
    assert [last.mean_confidence, last.share_right] == pytest.approx([2.87 / 3, 1 / 3])
    by_hand = 2 * 0.035 + 0.15 + 2 * abs(0.33 - 0.5) + 3 * abs(2.87 / 3 - 1 / 3)
    assert figures.calibration_error == pytest.approx(by_hand / 8)
    assert figures.longest_answer == 2
    assert figures.to_json()["reliability"][1] == {
        "from": 0.1,
        "to": 0.2,
        "questions": 1,
        "mean_confidence": 0.15,
        "share_right": 0.0,
    }


def test_a_perfect_confidence_has_no_error() -> None:
    sure = [outcome("yes", "answered", 1.0, True)] * 3 + [outcome("no", "answered", 0.0)] * 2
    assert answer_figures_of(sure).calibration_error == 0.0


def test_a_set_of_one_kind_or_none_has_no_figures_of_the_other() -> None:
    figures = answer_figures_of([outcome("yes", "answered", 0.5)])
    assert (figures.holds_gold, figures.rightly_refused, figures.rightly_unsure, figures.auroc) == (None,) * 4
    nothing = answer_figures_of([])
    assert (nothing.falsely_refused, nothing.calibration_error, nothing.longest_answer) == (None, 0.0, 0)
