"""Small charts as inline SVG: they scale, print, and need no script. Colours come from the page's style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

SIDE = 180
MARGIN = 26


def roc(labels: np.ndarray, scores: np.ndarray, title: str) -> str:
    """The ROC curve of one subset. `labels` int `[N]` with 1 for fake, `scores` float `[N]`, higher = more likely fake."""
    order = np.argsort(-scores, kind="stable")
    labels, scores = labels[order], scores[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # ties are one step
    fakes, reals = np.cumsum(labels == 1)[ends], np.cumsum(labels == 0)[ends]
    xs = np.concatenate([[0.0], reals / max(1, (labels == 0).sum())])
    ys = np.concatenate([[0.0], fakes / max(1, (labels == 1).sum())])
    points = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in zip(xs, ys, strict=True))
    body = f'<line class="guide" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/><polyline class="curve" points="{points}"/>'
    return _frame(body, title, "false positive rate", "true positive rate")


def score_histogram(labels: np.ndarray, scores: np.ndarray, threshold: float, title: str, bins: int = 20) -> str:
    """How often each score was given to reals and to fakes (shares of their class), with the threshold as a line."""
    edges = np.linspace(0, 1, bins + 1)
    shares = [np.histogram(scores[labels == label], edges)[0] / max(1, (labels == label).sum()) for label in (0, 1)]
    top = max(0.05, *(float(share.max()) for share in shares))
    bars = []
    for name, share in zip(("real", "fake"), shares, strict=True):
        for place, value in enumerate(share):
            if value:
                left, right, height = _x(edges[place]), _x(edges[place + 1]), value / top * (SIDE - 2 * MARGIN)
                bars.append(
                    f'<rect class="bar {name}" x="{left:.1f}" y="{_y(0) - height:.1f}" width="{right - left:.1f}" height="{height:.1f}"/>'
                )
    line = f'<line class="threshold" x1="{_x(threshold):.1f}" y1="{_y(0)}" x2="{_x(threshold):.1f}" y2="{_y(1)}"/>'
    return _frame("".join(bars) + line, title, "score (P fake)", f"share, up to {top:.0%}")


def bars(
    names: Sequence[str], values: Sequence[float | None], lows: Sequence[float | None], highs: Sequence[float | None], title: str
) -> str:
    """One horizontal bar for each name, values in [0, 1] with their intervals."""
    row, label = 22, 130
    width, height = 560, row * len(names) + 24
    span = width - label - 60
    parts = []
    for place, (name, value, low, high) in enumerate(zip(names, values, lows, highs, strict=True)):
        y = place * row + 6
        parts.append(f'<text x="{label - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>')
        if value is None:
            parts.append(f'<text x="{label + 4}" y="{y + 12}">not defined</text>')
            continue
        parts.append(f'<rect class="bar all" x="{label}" y="{y}" width="{span * value:.1f}" height="14"/>')
        if low is not None and high is not None:
            parts.append(f'<line class="interval" x1="{label + span * low:.1f}" y1="{y + 7}" x2="{label + span * high:.1f}" y2="{y + 7}"/>')
        parts.append(f'<text x="{label + span + 8}" y="{y + 12}">{value * 100:.1f}</text>')
    chance = label + span * 0.5
    parts.append(f'<line class="guide" x1="{chance}" y1="0" x2="{chance}" y2="{height - 18}"/>')
    parts.append(f'<text class="axis" x="{chance}" y="{height - 4}" text-anchor="middle">50</text>')
    return (
        f'<svg class="wide" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def pipeline(stages: Sequence[tuple[str, str]], title: str) -> str:
    """The pipeline as boxes in a row, each a name with what went through it."""
    box, gap, height = 132, 24, 62
    width = len(stages) * (box + gap) - gap + 4
    parts = []
    for place, (name, fact) in enumerate(stages):
        x = place * (box + gap) + 2
        parts.append(f'<rect class="stage" x="{x}" y="2" width="{box}" height="{height - 4}" rx="6"/>')
        parts.append(f'<text class="strong" x="{x + box / 2}" y="26" text-anchor="middle">{escape(name)}</text>')
        parts.append(f'<text x="{x + box / 2}" y="46" text-anchor="middle">{escape(fact)}</text>')
        if place:
            parts.append(f'<path class="arrow" d="M{x - gap + 3} {height / 2} h{gap - 9} m-5 -4 l5 4 l-5 4"/>')
    text = "; ".join(f"{name}: {fact}" for name, fact in stages)
    return (
        f'<svg class="pipeline" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(text)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _x(value: float) -> float:
    return MARGIN + value * (SIDE - 2 * MARGIN + 16)


def _y(value: float) -> float:
    return SIDE - MARGIN - value * (SIDE - 2 * MARGIN)


def _frame(body: str, title: str, x_label: str, y_label: str) -> str:
    axes = f'<path class="axes" d="M{_x(0)} {_y(1)} V{_y(0)} H{_x(1)}"/>'
    text = (
        f'<text class="axis" x="{_x(0.5)}" y="{SIDE - 8}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text class="axis" x="12" y="{_y(0.5)}" text-anchor="middle" transform="rotate(-90 12 {_y(0.5)})">{escape(y_label)}</text>'
    )
    name = escape(title)
    return f'<svg viewBox="0 0 {SIDE + 16} {SIDE}" role="img" aria-label="{name}"><title>{name}</title>{axes}{body}{text}</svg>'
