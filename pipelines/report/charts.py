"""Small charts as inline SVG: they scale, print, and need no script. Colours and dashes come from the page's style sheet.

Nothing is told by colour alone: reals are hatched, lines differ by dashes and marks, and every chart has its numbers in a table beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from pipelines.report.words import interval as interval_text
from pipelines.report.words import percent

WIDTH, HEIGHT = 260, 200
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 10, 34


def roc(labels: np.ndarray, scores: np.ndarray, title: str, auroc: Mapping[str, Any] | None = None, threshold: float | None = None) -> str:
    """The ROC curve of one subset, over the area that its AUROC is. `labels` int `[N]` with 1 for fake, `scores` float `[N]`, higher = more
    likely fake. The point of the `threshold` is marked; `auroc` is written into it with its interval, in per cent."""
    order = np.argsort(-scores, kind="stable")
    labels, scores = labels[order], scores[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # ties are one step
    fakes, reals = np.cumsum(labels == 1)[ends], np.cumsum(labels == 0)[ends]
    xs = np.concatenate([[0.0], reals / max(1, (labels == 0).sum())])
    ys = np.concatenate([[0.0], fakes / max(1, (labels == 1).sum())])
    points = " ".join(f"{_x(x):.0f},{_y(y):.0f}" for x, y in _corners(xs, ys))
    area = f'<polygon class="area" points="{points} {_x(1):.0f},{_y(0):.0f}"/>'
    body = f'{area}<path class="guide" d="M{_x(0)} {_y(0)} L{_x(1)} {_y(1)}"/><polyline class="line s0" points="{points}"/>'
    if threshold is not None:
        called = scores > threshold
        false, true = (float(called[labels == label].mean()) if (labels == label).any() else 0.0 for label in (0, 1))
        body += mark(_x(false), _y(true), 1)
    if auroc is not None and auroc["value"] is not None:
        lines = [f"AUROC {percent(auroc['value'])}", interval_text(auroc), "chance 50"]
        for place, line in enumerate(filter(None, lines)):
            body += f'<text x="{_x(1) - 4:.0f}" y="{_y(0) - 38 + 15 * place:.0f}" text-anchor="end">{escape(line)}</text>'
    return _frame(body, title, "false positive rate", "true positive rate", [(0, "0"), (1, "1")], [(0, "0"), (1, "1")])


def reliability(bins: Sequence[Mapping[str, Any]], title: str) -> str:
    """The share of fakes over the mean P(fake) of each bin that has pictures, in [0, 1]; the diagonal is perfect calibration.
    Below, how the pictures are spread over the bins."""
    body = [f'<path class="guide" d="M{_x(0)} {_y(0)} L{_x(1)} {_y(1)}"/>']
    for part in bins:
        left, right, height = _x(part["low"]), _x(part["high"]), part["weight"] * (_y(0) - _y(1)) / 2
        if part["weight"]:
            box = f'x="{left:.1f}" y="{_y(0) - height:.1f}" width="{right - left:.1f}" height="{height:.1f}"'
            body.append(f'<rect class="bar all" {box}/>')
    drawn = [(_x(part["probability"]), _y(part["fakes"])) for part in bins if part["probability"] is not None]
    body.append('<polyline class="line s1" points="{}"/>'.format(" ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)))
    body += [mark(x, y, 1) for x, y in drawn]
    return _frame("".join(body), title, "P(fake), calibrated", "share of fakes", [(0, "0"), (1, "1")], [(0, "0"), (1, "1")])


def score_histogram(labels: np.ndarray, scores: np.ndarray, threshold: float, title: str, bins: int = 20) -> str:
    """How often each score was given to reals and to fakes (shares of their class), with the threshold as a line."""
    edges = np.linspace(0, 1, bins + 1)
    shares = [np.histogram(scores[labels == label], edges)[0] / max(1, (labels == label).sum()) for label in (0, 1)]
    top = max(0.05, *(float(share.max()) for share in shares))
    bars = []
    for name, share in zip(("fake", "real"), reversed(shares), strict=True):  # the hatched reals over the filled fakes
        for place, value in enumerate(share):
            if value:
                left, right, height = _x(edges[place]), _x(edges[place + 1]), value / top * (_y(0) - _y(1))
                box = f'x="{left:.1f}" y="{_y(0) - height:.1f}" width="{right - left:.1f}" height="{height:.1f}"'
                bars.append(f'<rect class="bar {name}" {box}/>')
    line = f'<path class="threshold" d="M{_x(threshold):.1f} {_y(0)} V{_y(1)}"/>'
    return _frame("".join(bars) + line, title, "score, P(fake)", "share of class", [(0, "0"), (1, "1")], [(0, "0"), (1, f"{top:.0%}")])


def interval(measure: Mapping[str, Any], guide: float | None = 0.5, *, as_bar: bool = True) -> str:
    """A value in [0, 1] with its interval, as a bar from 0 or as a point, with a dashed guide if there is one. The numbers stand beside
    it in the table."""
    width, height = 120, 16
    value, low, high = measure.get("value"), measure.get("low"), measure.get("high")
    if value is None:
        return ""
    middle = height / 2
    parts = [f'<path class="axes" d="M0 {height - 0.5} H{width}"/>']
    if guide is not None:
        parts.append(f'<path class="guide" d="M{guide * width} 0 V{height}"/>')
    if as_bar:
        parts.append(f'<rect class="bar all" x="0" y="3" width="{value * width:.1f}" height="{height - 6}"/>')
    else:
        parts.append(f'<circle class="dot" cx="{value * width:.1f}" cy="{middle}" r="3.5"/>')
    if low is not None and high is not None:
        ends = f"M{low * width:.1f} {middle - 3} v6 m0 -3 H{high * width:.1f} m0 -3 v6"
        parts.append(f'<path class="interval" d="{ends}"/>')
    return f'<svg class="inline" viewBox="0 0 {width} {height}" aria-hidden="true" focusable="false">{"".join(parts)}</svg>'


def curves(series: Mapping[str, Sequence[Mapping[str, Any]]], ticks: Sequence[str], title: str, x_label: str, y_label: str) -> str:
    """One line for each name: measures in [0, 1] at evenly spaced `ticks`, their intervals as whiskers."""
    places = [place / max(1, len(ticks) - 1) for place in range(len(ticks))]
    body = [f'<path class="guide" d="M{_x(0)} {_y(0.5)} H{_x(1)}"/>']
    for number, measures in enumerate(series.values()):
        shift = (number - (len(series) - 1) / 2) * 0.02  # whiskers beside measure other
        drawn = [(_x(place + shift), measure) for place, measure in zip(places, measures, strict=True) if measure["value"] is not None]
        points = " ".join(f"{x:.1f},{_y(measure['value']):.1f}" for x, measure in drawn)
        body.append(f'<polyline class="line s{number % 4}" points="{points}"/>')
        for x, measure in drawn:
            if measure["low"] is not None:
                body.append(f'<path class="whisker s{number % 4}" d="M{x:.1f} {_y(measure["low"]):.1f} V{_y(measure["high"]):.1f}"/>')
            body.append(mark(x, _y(measure["value"]), number))
    x_ticks = list(zip(places, ticks, strict=True))
    return _frame("".join(body), title, x_label, y_label, x_ticks, [(0, "0"), (0.5, "50"), (1, "100")])


def mark(x: float, y: float, number: int) -> str:
    """The mark of the series `number`: a circle, a square, a diamond or a triangle."""
    style = f'class="mark s{number % 4}"'
    shapes = (
        "m-3.5 0 a3.5 3.5 0 1 0 7 0 a3.5 3.5 0 1 0 -7 0 z",
        "m-3.5 -3.5 h7 v7 h-7 z",
        "m0 -4.5 l4.5 4.5 l-4.5 4.5 l-4.5 -4.5 z",
        "m0 -4.5 l4.5 8 h-9 z",
    )
    return f'<path {style} d="M{x:.1f} {y:.1f} {shapes[number % 4]}"/>'


def legend_mark(number: int) -> str:
    """A short piece of the line of the series `number`, for a legend."""
    line = f'<path class="line s{number % 4}" d="M1 8 H31"/>'
    return f'<svg class="key" viewBox="0 0 32 16" aria-hidden="true" focusable="false">{line}{mark(16, 8, number)}</svg>'


INFERNO = ("#000004", "#280b54", "#65156e", "#9f2a63", "#d44842", "#f57d15", "#fac127", "#fcffa4")  # OpenCV's colours of heat maps


def heat_bar(name: str) -> str:
    """The bar of the heat maps' colours, from nothing at the left to full at the right. `name` is the id of its gradient on the page."""
    stops = "".join(f'<stop offset="{place / (len(INFERNO) - 1):.3f}" stop-color="{colour}"/>' for place, colour in enumerate(INFERNO))
    gradient = f'<defs><linearGradient id="{escape(name)}">{stops}</linearGradient></defs>'
    box = f'<rect class="frame" x="0.5" y="0.5" width="199" height="13" fill="url(#{escape(name)})"/>'
    said = "Colours of the heat maps, from dark, which is nothing, to bright, which is full"
    return f'<svg class="heatbar" viewBox="0 0 200 14" role="img" aria-label="{said}">{gradient}{box}</svg>'


def cloud(points: np.ndarray) -> str:
    """Faint dots at `points` `[N, 2]` in [0, 1]: the ground that several maps share."""
    return "".join(f'<circle cx="{_x(x):.0f}" cy="{_y(y):.0f}" r="1.6"/>' for x, y in points)


def embedding(shared: str, reals: np.ndarray, fakes: np.ndarray, title: str) -> str:
    """A map: the shared cloud of that name, `reals` as rings and `fakes` as crosses, both `[N, 2]` in [0, 1]."""
    rings = "".join(f'<circle class="ring" cx="{_x(x):.0f}" cy="{_y(y):.0f}" r="3"/>' for x, y in reals)
    crosses = "".join(f"M{_x(x) - 3:.0f} {_y(y) - 3:.0f} l6 6 m0 -6 l-6 6 " for x, y in fakes)
    box = f"{LEFT - 6} {TOP - 6} {WIDTH - LEFT - RIGHT + 12} {HEIGHT - TOP - BOTTOM + 12}"
    body = f'<use href="#{shared}"/>{rings}<path class="cross" d="{crosses}"/>'
    return f'<svg class="chart" viewBox="{box}" role="img" aria-label="{escape(title)}">{body}</svg>'


def _corners(xs: np.ndarray, ys: np.ndarray) -> list[tuple[float, float]]:
    """The points at which a staircase or a slope turns: the others lie between them."""
    points = list(zip(xs.tolist(), ys.tolist(), strict=True))
    kept = points[:1]
    for before, here, after in zip(points, points[1:], points[2:], strict=False):
        if (here[0] - before[0]) * (after[1] - here[1]) != (here[1] - before[1]) * (after[0] - here[0]):
            kept.append(here)
    return kept + points[-1:]


def _x(value: float) -> float:
    return LEFT + value * (WIDTH - LEFT - RIGHT)


def _y(value: float) -> float:
    return HEIGHT - BOTTOM - value * (HEIGHT - TOP - BOTTOM)


def _frame(
    body: str, title: str, x_label: str, y_label: str, x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[tuple[float, str]]
) -> str:
    """Axes, ticks and labels around `body`; `title` is what a screen reader says of it."""
    parts = [f'<path class="axes" d="M{_x(0)} {_y(1)} V{_y(0)} H{_x(1)}"/>', body]
    parts += [f'<text x="{_x(at):.0f}" y="{_y(0) + 13:.0f}" text-anchor="middle">{escape(text)}</text>' for at, text in x_ticks]
    parts += [f'<text x="{_x(0) - 5:.0f}" y="{_y(at) + 4:.0f}" text-anchor="end">{escape(text)}</text>' for at, text in y_ticks]
    parts.append(f'<text x="{_x(0.5):.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    middle = _y(0.5)
    parts.append(f'<text x="11" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 11 {middle:.0f})">{escape(y_label)}</text>')
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
