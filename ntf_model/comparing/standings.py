"""Who is how good on which generators: means and worst cases over held-out and trained-on subsets apart, ranks and their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel

from ntf_model.data.data import DetectionData
from ntf_model.judging.bootstrap import bootstrap_counts, resample
from ntf_model.judging.evaluate import HELD_OUT, TRAINED_ON, Evaluation, Row, worst_row
from ntf_model.judging.tables import LABELS, Cell, Figure, Table

ALL = "all"  # where nobody knows what detectors were trained on


class Group(BaseModel):
    """Subsets that are averaged together: how many, the unweighted mean, and the subset with the worst leading measure."""

    subsets: int
    mean: Row
    worst: Row | None


class Standing(BaseModel):
    """A detector's place. `groups` are "held-out" and "trained-on", as far as there are such subsets, or "all". `rank` is 1 for the best
    mean of the leading measure over held-out subsets (over all of them where none is held out), and equal for equal means; `rank_low` and
    `rank_high` hold 95 % of the bootstrap's ranks. None without a mean or replicates."""

    name: str
    title: str
    trained_on: list[str] | None
    groups: dict[str, Group]
    rank: int | None = None
    rank_low: int | None = None
    rank_high: int | None = None


def standings_of(data: DetectionData, evaluations: Mapping[str, Evaluation], bootstrap: int, seed: int) -> list[Standing]:
    """The standings of detectors that were evaluated on `data`, the best first."""
    first = next(iter(evaluations.values()))
    key, seen = first.leading, first.seen
    ranked = {name: _ranked_rows(evaluation) for name, evaluation in evaluations.items()}
    means = {name: _mean(rows, key) for name, rows in ranked.items()}
    drawn = _drawn_ranks(data, evaluations, [row.name for row in next(iter(ranked.values()))], key, bootstrap, seed)
    standings = []
    for name, evaluation in evaluations.items():
        mean = means[name]
        standing = Standing(name=name, title=evaluation.title, trained_on=evaluation.trained_on, groups=_groups(evaluation, seen, key))
        if mean is not None:
            standing.rank = 1 + sum(other is not None and round(other, 12) > round(mean, 12) for other in means.values())
            if name in drawn:
                low, high = np.percentile(drawn[name], [2.5, 97.5], method="nearest")
                standing.rank_low, standing.rank_high = min(int(low), standing.rank), max(int(high), standing.rank)
        standings.append(standing)
    return sorted(standings, key=lambda standing: (standing.rank is None, standing.rank))


def standings_table(standings: Sequence[Standing], key: str, titles: Mapping[str, str], rehearsal: str = "") -> Table:
    """A row for each detector: its rank, and for held-out and trained-on subsets apart the mean and the worst case of the measure."""
    kinds = [kind for kind in (HELD_OUT, TRAINED_ON, ALL) if any(kind in standing.groups for standing in standings)]
    header = ["rank", "95 %", "detector"]
    for kind in kinds:
        header += [f"{kind}: subsets", f"mean {LABELS[key]}", "worst", "ACC (validation threshold)", "FPR", "FNR"]
    rows: list[list[Cell]] = []
    for standing in standings:
        interval = "–" if standing.rank_low is None else f"{standing.rank_low} to {standing.rank_high}"
        cells: list[Cell] = ["–" if standing.rank is None else str(standing.rank), interval, titles.get(standing.name, standing.title)]
        for kind in kinds:
            cells += _group_cells(standing.groups.get(kind), key)
        rows.append(cells)
    said = [
        f"Ranked by the mean {LABELS[key]} over {'held-out subsets' if kinds[:1] == [HELD_OUT] else 'subsets'}; the rank's interval is the "
        "bootstrap's. Per cent. FPR and FNR at 0.5, fake is positive.",
        "A subset counts as trained-on for all if one of the detectors was trained on it." if TRAINED_ON in kinds else "",
    ]
    unknown = [titles.get(standing.name, standing.title) for standing in standings if standing.trained_on is None]
    if unknown:
        said.append(f"Not known what was trained on: {', '.join(unknown)}.")
    return Table("Standings", header, rows, note=" ".join(filter(None, said)), rehearsal=rehearsal)


def _groups(evaluation: Evaluation, seen: Sequence[str] | None, key: str) -> dict[str, Group]:
    if seen is None:
        rows = {ALL: evaluation.subsets}
        means = {ALL: evaluation.overall["unweighted"]}
    else:
        rows = {
            HELD_OUT: [row for row in evaluation.subsets if row.name not in seen],
            TRAINED_ON: [row for row in evaluation.subsets if row.name in seen],
        }
        means = {kind: averages["unweighted"] for kind, averages in evaluation.exposure.items()}
    return {kind: Group(subsets=len(rows[kind]), mean=mean, worst=worst_row(rows[kind], key)) for kind, mean in means.items()}


def _ranked_rows(evaluation: Evaluation) -> list[Row]:
    """The rows that the rank is about: held-out ones, or all where none is held out, as far as they are measured."""
    measured = [row for row in evaluation.subsets if row.is_measured]
    return [row for row in measured if row.name not in (evaluation.seen or ())] or measured


def _mean(rows: Sequence[Row], key: str) -> float | None:
    values = [row.measures[key].value for row in rows]
    return None if not values or None in values else float(np.mean(values))  # type: ignore[arg-type]


def _drawn_ranks(
    data: DetectionData, evaluations: Mapping[str, Evaluation], subsets: Sequence[str], key: str, bootstrap: int, seed: int
) -> dict[str, np.ndarray]:
    """The rank of each detector in every replicate, int `[B]`; all detectors are scored on the same draws."""
    if not bootstrap or not subsets:
        return {}
    totals = np.zeros((len(evaluations), bootstrap))
    for subset in subsets:
        members = data.evaluated_rows(subset)
        labels, counts = data.labels[members], bootstrap_counts(data, members, bootstrap, seed)
        for place, evaluation in enumerate(evaluations.values()):
            totals[place] += resample(labels, np.array(evaluation.scores.score)[members], evaluation.threshold, counts)[key]
    means = np.round(totals / len(subsets), 12)
    return {name: 1 + (means > means[place]).sum(0) for place, name in enumerate(evaluations)}


def _group_cells(group: Group | None, key: str) -> list[Cell]:
    if group is None:
        return ["–"] * 6
    worst: Cell = "–" if group.worst is None else Figure(group.worst.measures[key], True, remark=f" ({group.worst.name})")
    others = [Figure(group.mean.measures[other], True) for other in ("acc_fixed", "fpr", "fnr")]
    return [str(group.subsets), Figure(group.mean.measures[key], True), worst, *others]
