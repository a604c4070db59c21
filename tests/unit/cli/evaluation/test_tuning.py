"""Tuning chooses on one half of the questions, judges on the other, and stores only what is better there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.unit.client.fake_api import FOUND, source
from zhiwen.cli.evaluation.passages import Question
from zhiwen.cli.evaluation.tuning import FEWEST, Tuner, best_weight, halves, least_confidence, right_decisions
from zhiwen.cli.values import Usage
from zhiwen.client import SearchOut


def answerable(count: int) -> list[Question]:
    return [Question(f"question {n}", frozenset({f"{n}.md"})) for n in range(count)]


def unanswerable(count: int) -> list[Question]:
    return [Question(f"nothing {n}", frozenset()) for n in range(count)]


@dataclass
class FakeService:
    """Finds the right document first where the dense half has a weight from `good` on, and second below.

    Questions without an answer get a confidence of `unsure`. The service itself is sure of everything above `least`.
    """

    good: float = 1.0
    own_weight: float = 0.5
    unsure: float = 0.2
    least: float = 0.0
    stored: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    weights: list[float | None] = field(default_factory=list)

    def search(
        self, kb: str, query: str, *, top_k: int, mode: str, fusion: str | None, dense_weight: float | None
    ) -> SearchOut:
        assert (kb, mode, fusion) == ("手册", "hybrid", None)
        self.weights.append(dense_weight)
        kind, number = query.split()
        right, wrong = {**source(), "source": f"{number}.md"}, {**source(), "source": "other.md"}
        weight = self.own_weight if dense_weight is None else dense_weight
        hits = [right, wrong] if weight >= self.good else [wrong, right]
        confidence = 0.4 + int(number) / 1000 if kind == "question" else self.unsure
        found = {**FOUND, "hits": hits[:top_k], "confidence": confidence, "answerable": confidence >= self.least}
        return SearchOut.model_validate(found)

    def update_knowledge_base(self, name: str, **changes: Any) -> None:
        self.stored.append((name, changes))


QUESTIONS = answerable(60) + unanswerable(20)


def test_better_values_are_found_and_stored() -> None:
    service = FakeService()
    tuner = Tuner(service, "手册", clients=2)
    tuning = tuner.tune(QUESTIONS)
    assert tuning.choosing + tuning.testing == len(QUESTIONS)
    assert (tuning.dense_weight.before, tuning.dense_weight.after) == (0.5, 1.0)
    assert tuning.dense_weight.value >= service.good
    assert tuning.min_confidence.before == 0.5
    assert tuning.min_confidence.after > 0.9
    assert 0.4 <= tuning.min_confidence.value < 0.46
    assert service.stored == []
    tuner.store(tuning)
    assert service.stored == [("手册", tuning.better)]
    assert set(tuning.better) == {"dense_weight", "min_confidence"}


def test_nothing_is_stored_when_nothing_is_better() -> None:
    service = FakeService(good=0.0, least=0.3)
    tuner = Tuner(service, "手册")
    tuning = tuner.tune(QUESTIONS)
    assert (tuning.dense_weight.before, tuning.dense_weight.after) == (1.0, 1.0)
    assert tuning.min_confidence.before == 1.0
    assert tuning.better == {}
    tuner.store(tuning)
    assert service.stored == []


def test_confidence_is_fitted_with_the_weight_that_will_be_used() -> None:
    service = FakeService()
    tuning = Tuner(service, "手册").tune(QUESTIONS)
    assert set(service.weights[-len(QUESTIONS) :]) == {tuning.dense_weight.value}
    kept = FakeService(good=0.0)
    Tuner(kept, "手册").tune(QUESTIONS)
    assert set(kept.weights[-len(QUESTIONS) :]) == {None}


def test_too_few_questions_are_refused() -> None:
    with pytest.raises(Usage, match=f"it takes {FEWEST}"):
        Tuner(FakeService(), "手册").tune(answerable(12) + unanswerable(40))


def test_halves_do_not_depend_on_the_order_and_keep_a_passage_together() -> None:
    questions = [Question(f"{n}?", frozenset({f"p/{n % 40}.txt"})) for n in range(120)]
    choosing, testing = halves(questions)
    assert set(halves(questions[::-1])[0]) == set(choosing)
    assert 30 < len(choosing) < 90
    assert not {q.passages for q in choosing} & {q.passages for q in testing}


def test_questions_about_one_document_are_in_both_halves() -> None:
    one = [Question(f"{n}?", frozenset({"手册.docx"})) for n in range(40)]
    assert all(len(half) > 8 for half in halves(one))


def test_best_weight_is_in_the_middle_of_the_best() -> None:
    assert best_weight([(0, 0.5), (0.5, 0.9), (1, 0.9), (2, 0.9), (3, 0.4)]) == 1
    assert best_weight([(0, 0.5), (0.5, 0.6)]) == 0.5


@pytest.mark.parametrize("count", [1, 19, 20, 39, 40, 100])
def test_at_most_a_twentieth_is_below_the_least_confidence(count: int) -> None:
    values = [n / 100 for n in range(count)]
    least = least_confidence(values)
    assert sum(value < least for value in values) <= count / 20
    assert sum(value < least + 0.011 for value in values) > count / 20 - 1


def test_right_decisions_by_hand() -> None:
    assert right_decisions([(True, True), (True, False), (False, False), (False, False)]) == 0.75
    assert right_decisions([(True, True), (True, False)]) == 0.5
    assert right_decisions([]) == 0.0
