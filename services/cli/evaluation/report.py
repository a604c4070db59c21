"""The HTML report of an evaluation: one file, no script, nothing fetched. Pure."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from zhiwen.cli.evaluation.metrics import Report

METRICS = {
    "R@1": "recall_at_1",
    "R@5": "recall_at_5",
    "R@10": "recall_at_10",
    "MRR@10": "mrr_at_10",
    "nDCG@10": "ndcg_at_10",
}
COLOURS = ("#2f6f8f", "#d98a29", "#7a9a4b")
BINS = 40
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
<figure>{histogram(report.scores)}<figcaption>Best score of each question</figcaption></figure></html>
"""


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
        "answerable questions": str(refusal.answerable),
        "unanswerable questions": str(refusal.unanswerable),
        "rightly refused": _share(refusal.rightly_refused),
        "wrongly refused": _share(refusal.wrongly_refused),
        "AUROC": _share(refusal.auroc),
    }
    return "<table>" + "".join(f"<tr><td>{k}</td><td>{v}</td></tr>" for k, v in rows.items()) + "</table>"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def bars(groups: Mapping[str, Mapping[str, float]], *, width: int = 760, height: int = 240) -> str:
    """Return a bar chart of values in 0..1 as SVG, with a group for each metric and a bar for each mode."""
    names = list(next(iter(groups.values())))
    group_width = (width - 40) / len(names)
    bar = group_width * 0.8 / len(groups)
    parts = [_axis(width, height)]
    for g, name in enumerate(names):
        left = 40 + g * group_width
        parts.append(f'<text x="{left + group_width * 0.4:.1f}" y="{height - 4}" text-anchor="middle">{name}</text>')
        for m, values in enumerate(groups.values()):
            tall = values[name] * (height - 40)
            parts.append(
                _bar(left + m * bar, height - 20 - tall, bar * 0.9, tall, COLOURS[m % 3], f"{values[name]:.3f}")
            )
    parts.append(_legend(list(groups), width))
    return _svg(width, height, parts)


def histogram(series: Mapping[str, Sequence[float]], *, width: int = 760, height: int = 220) -> str:
    """Return the histograms of values in 0..1 in one SVG, each scaled to its own largest bin."""
    parts = [_axis(width, height)]
    bar = (width - 40) / BINS
    for s, values in enumerate(series.values()):
        counts = [0] * BINS
        for value in values:
            counts[min(BINS - 1, int(max(0.0, value) * BINS))] += 1
        top = max([*counts, 1])
        for index, count in enumerate(counts):
            tall = count / top * (height - 40)
            parts.append(
                _bar(40 + index * bar, height - 20 - tall, bar, tall, COLOURS[s % 3], str(count), opacity=0.55)
            )
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<text x="{40 + tick * (width - 40):.0f}" y="{height - 4}" text-anchor="middle">{tick:g}</text>')
    parts.append(_legend(list(series), width))
    return _svg(width, height, parts)


def _bar(x: float, y: float, width: float, height: float, colour: str, tip: str, *, opacity: float = 1.0) -> str:
    """Return a rectangle as SVG.

    `x`, `y`, `width` and `height` are in pixels, from the upper left corner. `colour` is a CSS colour, `tip` the text
    under the mouse, and `opacity` is in 0..1.
    """
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}" '
        f'opacity="{opacity}"><title>{tip}</title></rect>'
    )


def _axis(width: int, height: int) -> str:
    return f'<line x1="40" y1="{height - 20}" x2="{width}" y2="{height - 20}" stroke="#999"/>'


def _legend(names: Sequence[str], width: int) -> str:
    return "".join(
        f'<rect x="{width - 130}" y="{i * 18}" width="12" height="12" fill="{COLOURS[i % 3]}"/>'
        f'<text x="{width - 112}" y="{i * 18 + 11}">{html.escape(name)}</text>'
        for i, name in enumerate(names)
    )


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height}" font-size="12" role="img">{"".join(parts)}</svg>'
