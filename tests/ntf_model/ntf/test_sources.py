"""Means over sources: each detector is trained on one subset and tested on all."""

from __future__ import annotations

import numpy as np
import pytest

from ntf_model.data.data import DetectionSplits
from ntf_model.errors import InputError
from ntf_model.judging.evaluate import Evaluation, Scored, summarise
from ntf_model.ntf.sources import across_sources, share_above, sources_table


def evaluation(splits: DetectionSplits, skill: dict[str, float], seed: int) -> Evaluation:
    """The evaluation of scores that tell the fakes of each subset with a skill of its own."""
    test, rng = splits.test, np.random.default_rng(seed)
    shift = np.array([skill.get(str(name), 0.0) for name in test.subsets]) * (test.labels == 1)
    scores = 1 / (1 + np.exp(-(rng.normal(size=len(test)) + shift)))
    return summarise(test, Scored(test.picture_ids(), scores), 0.5, name="x", title="x", bootstrap=0)


def runs_of(splits: DetectionSplits, seen: float, unseen: float) -> dict[str, list[Evaluation]]:
    """A detector trained on each subset, with two seeds."""
    skills = {"smooth": {"smooth": seen, "blocky": unseen}, "blocky": {"blocky": seen, "smooth": unseen}}
    return {source: [evaluation(splits, skill, seed) for seed in (0, 1)] for source, skill in skills.items()}


def ap(run: Evaluation, subset: str) -> float:
    return run.row(subset).measures["ap"].value or 0.0


def test_the_subset_that_was_trained_on_is_apart_from_the_others(splits: DetectionSplits) -> None:
    runs = {"good": runs_of(splits, 9.0, 2.0), "weak": runs_of(splits, 3.0, 0.0)}
    results = across_sources(splits.test, runs, bootstrap=200)
    good, weak = results["good"], results["weak"]
    assert good.seen.value == pytest.approx(np.mean([ap(run, source) for source, seeds in runs["good"].items() for run in seeds]))
    crossed = [ap(run, other) for source, other in (("smooth", "blocky"), ("blocky", "smooth")) for run in runs["good"][source]]
    assert good.unseen.value == pytest.approx(np.mean(crossed))
    for place, (mine, theirs) in enumerate(((good.seen, weak.seen), (good.unseen, weak.unseen))):
        gain = good.gains["weak"][place]
        assert gain.value == pytest.approx(mine.value - theirs.value)
        assert gain.low <= gain.value <= gain.high
        assert weak.gains["good"][place].value == pytest.approx(-gain.value)
    table = sources_table(results, {"good": "Good", "weak": "Weak"}, ["weak"], 2, 2)
    assert [len(row) for row in table.rows] == [len(table.header)] * 2
    assert table.rows[1][3:] == ["–", "–"]
    assert "over Weak: unseen" in table.render("markdown")


def test_a_detector_gains_nothing_over_itself(splits: DetectionSplits) -> None:
    runs = runs_of(splits, 3.0, 1.0)
    gains = across_sources(splits.test, {"a": runs, "b": runs}, bootstrap=50)["a"].gains["b"]
    assert [(gain.low, gain.value, gain.high) for gain in gains] == [(0.0, 0.0, 0.0)] * 2  # the same pictures and seeds are drawn


def test_what_was_not_trained_alike_is_not_compared(splits: DetectionSplits) -> None:
    runs = runs_of(splits, 3.0, 1.0)
    with pytest.raises(InputError, match="same subsets"):
        across_sources(splits.test, {"a": runs, "b": {"smooth": runs["smooth"]}})
    with pytest.raises(InputError, match="as many seeds"):
        across_sources(splits.test, {"a": runs, "b": {name: seeds[:1] for name, seeds in runs.items()}})


def test_a_threshold_of_one_per_cent_is_exceeded_by_at_most_one_per_cent_of_what_it_was_taken_from() -> None:
    scores = np.arange(1000) / 1000
    assert share_above(scores, scores) <= 0.01
    assert share_above(scores, scores + 0.5) == pytest.approx(0.509, abs=0.002)
    assert share_above(scores[:20], scores[:20]) == 0.0  # of so few, none
