"""The HTML report of an evaluation: one file, no script, nothing fetched. Pure."""

from __future__ import annotations

import html
from collections.abc import Sequence

from zhiwen.cli.evaluation.answers import AnswerFigures
from zhiwen.cli.evaluation.figures import Report
from zhiwen.cli.evaluation.plots import bars, histogram, reliability_diagram

METRICS = {
    "R@1": "recall_at_1",
    "R@5": "recall_at_5",
    "R@10": "recall_at_10",
    "MRR@10": "mrr_at_10",
    "nDCG@10": "ndcg_at_10",
}
ANSWERS = {
    "questions": "asked",
    "answerable": "answerable",
    "unanswerable": "unanswerable",
    "hold the gold": "holds_gold",
    "cite a right passage": "cites_right",
    "falsely refused": "falsely_refused",
    "unsure: closest passages": "closest",
    "refused without a model": "ended_without_call",
    "rightly refused": "rightly_refused",
    "rightly refused or unsure": "rightly_unsure",
    "AUROC of confidence": "auroc",
    "calibration error": "calibration_error",
    "longest answer, sentences": "longest_answer",
}
RELIABILITY = ("confidence", "questions", "mean confidence", "right")
STYLE = """
body { font: 15px/1.5 system-ui, "Noto Sans CJK SC", "Microsoft YaHei", sans-serif; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; color: #222 }
table { border-collapse: collapse }
td, th { padding: .3rem .9rem; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child { text-align: left }
svg { max-width: 100%; height: auto }
figure { margin: 1.5rem 0 }
figcaption { color: #555 }
"""


def render(report: Report, title: str) -> str:
    """Return the report as an HTML page."""
    figures = {mode: {name: getattr(f, key) for name, key in METRICS.items()} for mode, f in report.modes.items()}
    return f"""<!doctype html><html lang="zh"><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>{STYLE}</style><h1>{html.escape(title)}</h1>
<p>{report.passages} passages · {next(iter(report.modes.values())).questions} questions</p>
{_table(report)}
<figure>{bars(figures)}<figcaption>Retrieval by mode, over the answerable questions</figcaption></figure>
<h2>Refusal 拒答</h2>{_refusal(report)}
<figure>{histogram(report.scores)}<figcaption>Best score of each question</figcaption></figure>
{_answers(report.answers) if report.answers else ""}</html>
"""


def answer_rows(answers: AnswerFigures) -> list[list[str]]:
    """Return the rows of the table of answers: name, value."""
    return [[name, shown(getattr(answers, key))] for name, key in ANSWERS.items()]


def reliability_rows(answers: AnswerFigures) -> list[list[str]]:
    """Return the rows of the reliability table, with the columns of `RELIABILITY`."""
    return [
        [f"{found.low:.1f}-{found.high:.1f}", *map(shown, (found.questions, found.mean_confidence, found.share_right))]
        for found in answers.reliability
    ]


def shown(value: float | None) -> str:
    """Return a figure as text: a count as it is, a share with three decimals, and a dash when there is none."""
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _table(report: Report) -> str:
    head = "".join(f"<th>{name}</th>" for name in ["mode", *METRICS, "p50 ms", "p99 ms"])
    rows = ""
    for mode, figures in report.modes.items():
        cells = [f"{getattr(figures, key):.3f}" for key in METRICS.values()]
        cells += [f"{figures.p50_ms:.1f}", f"{figures.p99_ms:.1f}"]
        rows += f"<tr><td>{mode}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    return f"<table><tr>{head}</tr>{rows}</table>"


def _refusal(report: Report) -> str:
    refusal = report.refusal
    rows = {
        "answerable questions": refusal.answerable,
        "unanswerable questions": refusal.unanswerable,
        "rightly refused": refusal.rightly_refused,
        "wrongly refused": refusal.wrongly_refused,
        "AUROC": refusal.auroc,
    }
    return _rows([[name, shown(value)] for name, value in rows.items()])


def _answers(answers: AnswerFigures) -> str:
    return f"""<h2>Answers 回答</h2>{_rows(answer_rows(answers))}
<h2>Confidence 把握</h2>
<figure>{reliability_diagram(answers.reliability)}
<figcaption>Share of right answers over the confidence</figcaption></figure>
{_rows(reliability_rows(answers), RELIABILITY)}"""


def _rows(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Return an HTML table."""
    lines = ["".join(f"<th>{name}</th>" for name in head)] if head else []
    lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
