"""Search and answers of the running services on a sample of every shared question set stay above floors.

`make eval` measures whole sets, and the README shows them. These floors are generous: a sample is small, and easier
than its set, because fewer passages compete. `pytest -rP` shows the figures of every sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.evaluate import figure, run_eval
from bench.question_sets import DATA, SETS, Files
from zhiwen.cli.stack import Stack

pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here"),
    pytest.mark.slow,
]

PASSAGES = 160


@dataclass(frozen=True)
class Sample:
    """How many questions of a set to ask, the lowest value of its figures, and the highest."""

    questions: int
    lowest: Mapping[str, float]
    highest: Mapping[str, float] = field(default_factory=dict)


NO_REFUSALS = {"falsely_refused": 0.05, "ended_without_call": 0.02}

SAMPLES: Mapping[str, Sample] = {
    "zh_cmrc2018": Sample(60, {"recall_at_1": 0.9, "holds_gold": 0.75}, NO_REFUSALS),
    "zh_xquad": Sample(60, {"recall_at_1": 0.85, "holds_gold": 0.8}, NO_REFUSALS),
    "zh_xquad traditional": Sample(60, {"recall_at_1": 0.85, "holds_gold": 0.8}, NO_REFUSALS),
    "en_xquad": Sample(60, {"recall_at_1": 0.85, "holds_gold": 0.8}, NO_REFUSALS),
    "en_squad2_third": Sample(80, {"recall_at_1": 0.75, "holds_gold": 0.75}, NO_REFUSALS),
    "zh to en": Sample(60, {"recall_at_1": 0.65, "holds_gold": 0.6}, NO_REFUSALS),
    "en to zh": Sample(60, {"recall_at_1": 0.6, "holds_gold": 0.6}, NO_REFUSALS),
    "zh_faq": Sample(80, {"mrr_at_10": 0.6, "cites_right": 0.6}, NO_REFUSALS),
    "en_faq": Sample(80, {"mrr_at_10": 0.55, "cites_right": 0.5}, NO_REFUSALS),
    "office": Sample(80, {"recall_at_10": 0.5, "holds_gold": 0.25}, NO_REFUSALS),
}
LONGEST_ANSWER = 3
"""Sentences of an answer at most, in any set."""


@pytest.fixture(scope="module")
def files() -> Files:
    return Files()


@pytest.mark.parametrize("name", SAMPLES)
def test_set_stays_above_its_floors(stack: Stack, files: Files, tmp_path: Path, name: str) -> None:
    sample = SAMPLES[name]
    options = SETS[name](files).sampled(sample.questions, PASSAGES).write(tmp_path)
    kb = f"sample-{list(SAMPLES).index(name)}"
    figures = run_eval(stack, *options, "--kb", kb, "--modes", "hybrid", "--clients", "2")
    found = {key: figure(figures, key) for key in (*sample.lowest, *sample.highest)}
    wrong = {key: found[key] for key, floor in sample.lowest.items() if (found[key] or 0) < floor}
    wrong |= {key: found[key] for key, ceiling in sample.highest.items() if (found[key] or 0) > ceiling}
    print(name, figures["modes"]["hybrid"], {**figures["answers"], "reliability": None})  # shown with `pytest -rP`
    assert not wrong
    assert figures["answers"]["longest_answer"] <= LONGEST_ANSWER


def test_every_set_of_its_own_is_sampled() -> None:
    made_of_others = {"zh to en, distractors", "en to zh, distractors", "zh_cmrc2018 half"}
    assert SETS.keys() - SAMPLES.keys() == made_of_others
