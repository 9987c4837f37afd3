"""Evaluation by subset, its intervals, and the tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ntf_model.data.data import FAKE, DetectionData, DetectionSplits, Item, single_split
from ntf_model.detector import Detector
from ntf_model.errors import InputError
from ntf_model.judging import bootstrap, metrics
from ntf_model.judging.evaluate import Evaluation, evaluate, score_data
from ntf_model.judging.tables import comparison_tables, result_table


class Roughness(Detector):
    """Calls smooth pictures fake: no training, no weights."""

    name, title = "roughness", "Roughness"

    @classmethod
    def train(cls, splits, config, run):
        return cls()

    def score(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([1 / (1 + np.abs(np.diff(image.astype(float), axis=1)).mean() / 14) for image in images])

    def save_pretrained(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, folder, device=None):
        raise NotImplementedError


class Brightness:
    """Items whose only pixel is their score in percent."""

    def __init__(self, scores: Sequence[int], labels: Sequence[int], subsets: Sequence[str]):
        self.rows = list(zip(scores, labels, subsets, strict=True))

    def __getitem__(self, index: int) -> Item:
        score, label, subset = self.rows[index]
        return Item(np.full((1, 1, 3), score, np.uint8), label, subset, f"picture-{index}")

    def __len__(self) -> int:
        return len(self.rows)


class Reader(Roughness):
    def score(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([image[0, 0, 0] / 100 for image in images])


def scored_data(scores: Sequence[int], labels: Sequence[int], subsets: Sequence[str], **facts: dict[str, str]) -> DetectionData:
    dataset = Brightness(scores, labels, subsets)
    return DetectionData(dataset, np.array(labels), np.array(subsets), facts["real_of"], facts.get("families", {}), "digest")


@pytest.fixture
def two_sources() -> DetectionData:
    """Subset A is well detected among its own reals, and badly among those of B."""
    scores = [10, 20, 60, 70, 80, 90, 30, 95]
    labels = [0, 0, 1, 1, 0, 0, 1, 1]
    subsets = ["a-real", "a-real", "A", "A", "b-real", "b-real", "B", "B"]
    return scored_data(scores, labels, subsets, real_of={"A": "a-real", "B": "b-real"}, families={"A": "GAN", "B": "DM"})


def test_a_subset_meets_the_reals_of_its_own_source(two_sources: DetectionData) -> None:
    evaluation = evaluate(Reader(), two_sources, two_sources, bootstrap=0)
    assert evaluation.row("A").measures["ap"].value == 1.0
    assert (evaluation.row("A").n_real, evaluation.row("A").n_fake) == (2, 2)
    assert evaluation.row("B").measures["auroc"].value == 0.5
    assert evaluation.worst == "B"
    assert list(evaluation.families) == ["GAN", "DM"]


def test_positive_is_fake(two_sources: DetectionData) -> None:
    measures = evaluate(Reader(), two_sources, two_sources, bootstrap=0).row("B").measures
    assert measures["fpr"].value == 1.0  # both reals are above 0.5
    assert measures["fnr"].value == 0.5  # one fake is below


def test_weighted_and_unweighted_means_differ_by_size() -> None:
    scores, labels = [10, 10, 90, 90, 90, 10, 90], [0, 0, 1, 1, 1, 0, 1]
    subsets = ["r", "r", "A", "A", "A", "s", "B"]
    data = scored_data(scores, labels, subsets, real_of={"A": "r", "B": "s"})
    data.dataset.rows[6] = (5, 1, "B")  # B's only fake scores lowest
    evaluation = evaluate(Reader(), data, data, bootstrap=0)
    assert evaluation.overall["unweighted"].measures["ap"].value == pytest.approx((1.0 + 0.5) / 2)
    assert evaluation.overall["weighted"].measures["ap"].value == pytest.approx((3 * 1.0 + 0.5) / 4)


def test_the_threshold_comes_from_validation_alone() -> None:
    validation = scored_data([10, 30, 40, 50], [0, 0, 1, 1], ["r", "r", "F", "F"], real_of={"F": "r"})
    test = scored_data([20, 36, 45, 90], [0, 0, 1, 1], ["r", "r", "F", "F"], real_of={"F": "r"})
    evaluation = evaluate(Reader(), test, validation, bootstrap=0)
    assert evaluation.threshold == pytest.approx(0.35)
    assert evaluation.row("F").measures["acc_fixed"].value == pytest.approx(0.75)
    assert evaluation.row("F").measures["acc"].value == pytest.approx(0.75)
    assert evaluate(Reader(), test, validation, threshold=0.4, bootstrap=0).row("F").measures["acc_fixed"].value == 1.0


def test_best_threshold_is_in_the_middle_of_the_gap_nearest_to_a_half() -> None:
    labels = np.array([0, 0, 1, 1])
    assert metrics.best_threshold(labels, np.array([0.1, 0.2, 0.8, 0.9])) == pytest.approx(0.5)
    assert metrics.best_threshold(labels, np.array([0.01, 0.02, 0.04, 0.9])) == pytest.approx(0.03)
    assert 0 <= metrics.best_threshold(labels, np.array([1.0, 1.0, 1.0, 1.0])) <= 1


def test_resampling_by_counts_equals_repeating_pictures() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 60), rng.integers(0, 20, 60) / 20
    counts = np.stack([np.bincount(rng.integers(60, size=60), minlength=60) for _ in range(5)])
    replicates = bootstrap.resample(labels, scores, 0.4, counts)
    for replicate, count in enumerate(counts):
        repeated = np.repeat(np.arange(60), count)
        for name, value in metrics.measure(labels[repeated], scores[repeated], 0.4).items():
            assert replicates[name][replicate] == pytest.approx(value), name


def test_intervals_contain_the_value_and_shrink_with_more_pictures(splits: DetectionSplits) -> None:
    def width(count: int) -> float:
        rng = np.random.default_rng(1)
        scores = np.concatenate([rng.normal(40, 12, count), rng.normal(60, 12, count)]).clip(0, 100).astype(int)
        data = scored_data(scores.tolist(), [0] * count + [1] * count, ["r"] * count + ["F"] * count, real_of={"F": "r"})
        auroc = evaluate(Reader(), data, data, bootstrap=200).row("F").measures["auroc"]
        assert auroc.low <= auroc.value <= auroc.high
        return auroc.high - auroc.low

    assert width(400) < width(50) / 2


def test_subsets_of_one_source_share_its_draws() -> None:
    data = scored_data([1, 2, 3, 4, 5], [0, 0, 0, 1, 1], ["r", "r", "r", "A", "B"], real_of={"A": "r", "B": "r"})
    first, second = (bootstrap.bootstrap_counts(data, data.rows_of(name), 20, seed=0) for name in ("A", "B"))
    assert np.array_equal(first[:, :3], second[:, :3])


def test_scores_are_kept_by_id_and_json_gives_them_back(splits: DetectionSplits, tmp_path: Path) -> None:
    evaluation = evaluate(Roughness(), splits.test, splits.validation, bootstrap=50)
    assert evaluation.scores.id == [splits.test.dataset[row].id for row in range(len(splits.test))]
    evaluation.save(tmp_path / "evaluation.json")
    assert Evaluation.load(tmp_path / "evaluation.json") == evaluation
    with pytest.raises(InputError, match="is not an evaluation"):
        (tmp_path / "other.json").write_text("{}")
        Evaluation.load(tmp_path / "other.json")


def test_fakes_alone_are_measured_as_far_as_they_can_be(folders: Path, tmp_path: Path) -> None:
    source = next((folders / "smooth" / "fake").iterdir())
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / source.name).write_bytes(source.read_bytes())
    measures = evaluate(Roughness(), single_split(tmp_path), single_split(folders), bootstrap=20).row("fake").measures
    assert measures["acc"].value in {0.0, 1.0}
    assert measures["auroc"].value is None
    assert measures["fpr"].value is None


def test_a_transform_sees_every_test_picture_and_no_other(splits: DetectionSplits) -> None:
    seen = []
    evaluate(Roughness(), splits.test, splits.validation, transform=lambda image: seen.append(1) or image, bootstrap=0)
    assert len(seen) == len(splits.test)


def test_a_score_that_is_no_probability_is_refused(splits: DetectionSplits) -> None:
    class Broken(Roughness):
        def score(self, images: Sequence[np.ndarray]) -> np.ndarray:
            return np.full(len(images), np.nan)

    with pytest.raises(InputError, match="no probability"):
        score_data(Broken(), splits.test)


def test_data_without_fakes_are_refused(splits: DetectionSplits) -> None:
    reals = splits.test.take(np.flatnonzero(splits.test.labels != FAKE))
    with pytest.raises(InputError, match="no fakes"):
        evaluate(Roughness(), reals, splits.validation)


def test_tables_in_every_form(two_sources: DetectionData) -> None:
    evaluation = evaluate(Reader(), two_sources, two_sources, bootstrap=20)
    table = result_table(evaluation)
    assert "| A | GAN | 2 | 2 | 100.00" in table.render("markdown")
    rows = list(csv.reader(io.StringIO(table.render("csv"))))
    assert len(rows) == 1 + 2 + 4 + 2
    assert all(len(row) == len(rows[0]) for row in rows)
    assert table.render("latex").count(r"\\") == len(rows)
    assert table.render("html").count("<tr>") == len(rows) + 1


def test_the_papers_convention_exchanges_the_two_rates(two_sources: DetectionData) -> None:
    evaluation = evaluate(Reader(), two_sources, two_sources, bootstrap=0)
    ours, theirs = (result_table(evaluation, paper_convention=paper).rows[1] for paper in (False, True))
    assert (ours[6], ours[7]) == (theirs[7], theirs[6])
    assert ours[6] != ours[7]


def test_comparison_is_laid_out_as_in_the_paper(two_sources: DetectionData) -> None:
    evaluation = evaluate(Reader(), two_sources, two_sources, bootstrap=0)
    gan, dm = comparison_tables({"Reader": evaluation, "Again": evaluation})
    assert gan.groups == [("", 1), ("A", 4), ("Average", 4)]
    assert gan.rows[0][:5] == ["Reader", "100.00", "100.00", "0.00", "0.00"]
    assert dm.rows[1][0] == "Again"
    assert r"\multicolumn{4}{c}{Average}" in gan.render("latex")
