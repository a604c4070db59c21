"""The plots of the report of an evaluation, as SVG. Pure."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from zhiwen.cli.evaluation.answers import Bin

COLOURS = ("#2f6f8f", "#d98a29", "#7a9a4b")
BINS = 40


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
    parts += [*_ticks(width, height), _legend(list(series), width)]
    return _svg(width, height, parts)


def reliability_diagram(bins: Sequence[Bin], *, width: int = 420, height: int = 420) -> str:
    """Return the reliability diagram as SVG: the share of right answers over the confidence.

    Each bin is a bar, and a circle at its mean confidence whose area grows with its number of questions. The dashed
    line is where a perfect confidence lies.
    """
    across, up = width - 60, height - 40
    most = max([found.questions for found in bins], default=1)
    parts = [_axis(width, height), *_ticks(width - 20, height)]
    parts.append(
        f'<line x1="40" y1="{height - 20}" x2="{width - 20}" y2="20" stroke="#999" stroke-dasharray="4 4"/>'
        f'<text x="4" y="24">1</text><text x="4" y="{height - 16}">0</text>'
    )
    for found in bins:
        tall = found.share_right * up
        tip = f"{found.questions}: {found.mean_confidence:.3f} → {found.share_right:.3f}"
        left, bar = 40 + found.low * across, (found.high - found.low) * across
        parts.append(_bar(left, height - 20 - tall, bar * 0.94, tall, COLOURS[0], tip, opacity=0.35))
        radius = 2 + 8 * (found.questions / most) ** 0.5
        parts.append(
            f'<circle cx="{40 + found.mean_confidence * across:.1f}" cy="{height - 20 - tall:.1f}" r="{radius:.1f}" '
            f'fill="{COLOURS[1]}"><title>{tip}</title></circle>'
        )
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


def _ticks(width: int, height: int) -> list[str]:
    """Return the labels of an axis from 0 to 1."""
    return [
        f'<text x="{40 + tick * (width - 40):.0f}" y="{height - 4}" text-anchor="middle">{tick:g}</text>'
        for tick in (0, 0.25, 0.5, 0.75, 1)
    ]


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
