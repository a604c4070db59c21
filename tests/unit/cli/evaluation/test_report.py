"""The page of an evaluation: every figure is on it, and the plots are drawn from the figures."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from zhiwen.cli.evaluation.answers import AnswerOutcome, Bin, answer_figures_of
from zhiwen.cli.evaluation.figures import Report
from zhiwen.cli.evaluation.metrics import Outcome, figures_of, refusal_of
from zhiwen.cli.evaluation.plots import reliability_diagram
from zhiwen.cli.evaluation.report import ANSWERS, render, shown

SEARCHED = [Outcome(True, 1, 1.0, 0.9, False, 5.0), Outcome(False, None, 0.0, 0.1, True, 5.0)]
ANSWERED = [
    AnswerOutcome(True, "answered", 0.85, True, True, True, 1),
    AnswerOutcome(False, "closest", 0.25, None, False, True, 2),
]


def report(*, answers: bool) -> Report:
    return Report(
        passages=2,
        modes={"hybrid": figures_of(SEARCHED)},
        refusal=refusal_of(SEARCHED),
        answers=answer_figures_of(ANSWERED) if answers else None,
        scores={"answerable": [0.9], "unanswerable": [0.1]},
    )


def test_page_shows_every_figure_of_the_answers_and_the_reliability() -> None:
    page = render(report(answers=True), "a < b")
    assert "<title>a &lt; b</title>" in page
    assert all(f"<td>{name}</td>" in page for name in ANSWERS)
    assert re.findall(r"<td>(0\.\d-0\.\d)</td>", page) == ["0.2-0.3", "0.8-0.9"]
    assert len(re.findall("<svg", page)) == 3
    assert "<script" not in page


def test_page_without_answers_shows_the_searches_only() -> None:
    page = render(report(answers=False), "searches")
    assert len(re.findall("<svg", page)) == 2
    assert "calibration" not in page


def test_json_has_the_answers_or_null() -> None:
    figures = report(answers=True).to_json()
    assert figures["answers"]["rightly_unsure"] == 1.0
    assert [found["from"] for found in figures["answers"]["reliability"]] == [0.2, 0.8]
    assert report(answers=False).to_json()["answers"] is None


def test_reliability_diagram_has_a_circle_where_confidence_and_share_meet() -> None:
    bins = [Bin(0.0, 0.1, 4, 0.05, 0.0), Bin(0.9, 1.0, 1, 1.0, 1.0)]
    drawn = ElementTree.fromstring(reliability_diagram(bins, width=460, height=440))
    low, high = drawn.findall("circle")
    assert (low.get("cx"), low.get("cy"), low.get("r")) == ("60.0", "420.0", "10.0")
    assert (high.get("cx"), high.get("cy"), high.get("r")) == ("440.0", "20.0", "6.0")
    assert [bar.get("height") for bar in drawn.findall("rect")] == ["0.0", "400.0"]
    assert len(ElementTree.fromstring(reliability_diagram([])).findall("circle")) == 0


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (3, "3"), (0.5, "0.500"), (1.0, "1.000")])
def test_figures_are_shown_as_counts_shares_or_a_dash(value: float | None, text: str) -> None:
    assert shown(value) == text
