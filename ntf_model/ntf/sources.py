"""Detectors that were each trained on one subset alone: how well they tell its fakes, and those of the subsets that they have not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ntf_model.data.data import DetectionData
from ntf_model.errors import InputError, counted
from ntf_model.judging.bootstrap import Measure, difference_with_interval
from ntf_model.judging.evaluate import Evaluation
from ntf_model.judging.tables import Cell, Figure, Table
from ntf_model.ntf.ablation import replicates_of, seed_draws

Runs = Mapping[str, Sequence[Evaluation]]  # the subset that was trained on -> an evaluation for each seed


@dataclass(frozen=True)
class AcrossSources:
    """The AP of one kind of detector, as means over sources and seeds: `seen` on the subset that was trained on, `unseen` over the others.
    `gains` are the differences to other kinds, by their names, drawn in pairs. Intervals are from a bootstrap over seeds and pictures."""

    seen: Measure
    unseen: Measure
    gains: dict[str, tuple[Measure, Measure]]


def across_sources(test: DetectionData, runs: Mapping[str, Runs], bootstrap: int = 1000) -> dict[str, AcrossSources]:
    """What each kind of detector in `runs` reaches, and what it gains over each of the others.

    All kinds have the same sources and as many seeds. Raises InputError if they do not, or if there is no subset that was not trained on.
    """
    shapes = {tuple((source, len(seeds)) for source, seeds in sorted(by_source.items())) for by_source in runs.values()}
    if len(shapes) != 1:
        raise InputError("the detectors were not trained on the same subsets with as many seeds", "Train all of them alike")
    drawn = {kind: _of_kind(test, by_source, bootstrap) for kind, by_source in runs.items()}
    results = {}
    for kind, (seen, unseen) in drawn.items():
        gains = {other: (_measure(seen - drawn[other][0]), _measure(unseen - drawn[other][1])) for other in runs if other != kind}
        results[kind] = AcrossSources(_measure(seen), _measure(unseen), gains)
    return results


def sources_table(results: Mapping[str, AcrossSources], titles: Mapping[str, str], lines: Sequence[str], sources: int, seeds: int) -> Table:
    """A row for each kind of detector: its AP, and its gains over the kinds `lines`."""
    rows: list[list[Cell]] = []
    for kind, result in results.items():
        gains = [("–", "–") if line == kind else tuple(Figure(gain, True) for gain in result.gains[line]) for line in lines]
        rows.append([titles[kind], Figure(result.seen, True), Figure(result.unseen, True), *(cell for pair in gains for cell in pair)])
    header = [
        "detector",
        "AP, trained on",
        "AP, unseen",
        *(f"over {titles[line]}: {part}" for line in lines for part in ("trained on", "unseen")),
    ]
    note = (
        f"Per cent, means over {counted(sources, 'source')} that were trained on alone, and {counted(seeds, 'seed')}; 95 % intervals from "
        "a bootstrap over seeds and pictures. Gains are percentage points, drawn in pairs."
    )
    return Table("Trained on one subset", header, rows, note=note)


def share_above(reference: np.ndarray, scores: np.ndarray, share: float = 0.01) -> float:
    """The share of `scores` above the threshold that at most `share` of the scores `reference` exceed."""
    threshold = np.quantile(reference, 1 - share, method="higher")
    return float(np.mean(scores > threshold))


def _of_kind(test: DetectionData, by_source: Runs, bootstrap: int) -> tuple[np.ndarray, np.ndarray]:
    """AP on the subset that was trained on, and over the others: float `[1 + bootstrap]` each, first the value, then its replicates."""
    seen, unseen = [], []
    for source, runs in sorted(by_source.items()):
        measured = [name for name in test.fake_subsets if runs[0].row(name).is_measured]
        others = [name for name in measured if name != source]
        if not others:
            raise InputError(f"there is no subset beside {source} to test on", "Give data with two subsets of fakes or more")
        by_seed = [_precisions(test, run, measured, bootstrap) for run in runs]
        seen.append(np.stack([precisions[source] for precisions in by_seed]))
        unseen.append(np.stack([np.mean([precisions[name] for name in others], axis=0) for precisions in by_seed]))
    weights = seed_draws(len(seen[0]), bootstrap).T  # [seeds, replicates]
    values = []
    for precisions in (np.mean(seen, axis=0), np.mean(unseen, axis=0)):  # [seeds, 1 + replicates]
        values.append(np.append(precisions[:, 0].mean(), (precisions[:, 1:] * weights).sum(0)))
    return values[0], values[1]


def _precisions(test: DetectionData, run: Evaluation, subsets: Sequence[str], bootstrap: int) -> dict[str, np.ndarray]:
    """The AP of each subset, and then its replicates: float `[1 + bootstrap]`."""
    replicates = replicates_of(test, run, bootstrap)
    return {name: np.append(run.row(name).measures["ap"].value or np.nan, replicates[name]["ap"]) for name in subsets}


def _measure(values: np.ndarray) -> Measure:
    return difference_with_interval(float(values[0]), values[1:])
