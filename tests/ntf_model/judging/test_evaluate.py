"""Evaluation by subset, its intervals, and the tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ntf_model.data.data import FAKE, DetectionData, DetectionSplits, Item, single_split
from ntf_model.detector import Detector
from ntf_model.errors import InputError
from ntf_model.judging import bootstrap, metrics
from ntf_model.judging.evaluate import SMALL_CLASS, Evaluation, Scored, evaluate, leading_measure, score_data, summarise
from ntf_model.judging.tables import Figure, Table, comparison_tables, result_table


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
    evaluation = evaluate(Roughness(), single_split(tmp_path), single_split(folders), bootstrap=20)
    measures = evaluation.row("fake").measures
    assert (evaluation.worst, evaluation.row("fake").chance, measures["ap"].value) == ("", None, None)
    assert all(measure.value is None for measure in evaluation.overall["unweighted"].measures.values())
    assert "Without reals, and in no mean: fake." in result_table(evaluation).note
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
    assert "| A | GAN | 2 | 2 | 100.00 [34.24, 100.00] |" in table.render("markdown")
    rows = list(csv.reader(io.StringIO(table.render("csv"))))
    assert len(rows) == 1 + 2 + 4 + 2
    assert all(len(row) == len(rows[0]) for row in rows)
    assert table.render("latex").count(r"\\") == len(rows)
    assert table.render("html").count("<tr>") == len(rows) + 1


def test_the_papers_convention_exchanges_the_two_rates(two_sources: DetectionData) -> None:
    evaluation = evaluate(Reader(), two_sources, two_sources, bootstrap=0)
    table, paper = (result_table(evaluation, paper_convention=paper) for paper in (False, True))
    ours, theirs = (dict(zip(of.header, of.rows[1], strict=True)) for of in (table, paper))
    assert (ours["FPR"], ours["FNR"]) == (theirs["FNR"], theirs["FPR"])
    assert ours["FPR"] != ours["FNR"]


def test_comparison_is_laid_out_as_in_the_paper(two_sources: DetectionData) -> None:
    evaluation = evaluate(Reader(), two_sources, two_sources, bootstrap=0)
    gan, dm = comparison_tables({"Reader": evaluation, "Again": evaluation})
    assert gan.groups == [("", 1), ("A", 4), ("Average", 4)]
    assert list(map(str, gan.rows[0][:5])) == ["Reader", "100.00", "100.00", "0.00", "0.00"]
    assert dm.rows[1][0] == "Again"
    assert r"\multicolumn{4}{c}{Average}" in gan.render("latex")


def test_a_subset_without_reals_has_no_ap_and_is_in_no_mean() -> None:
    """det/07: a detector that is always wrong had AP 100."""
    scores, labels, subsets = [20, 40, 60, 30, 1, 1], [0, 0, 1, 1, 1, 1], ["r", "r", "A", "A", "B", "B"]
    data = scored_data(scores, labels, subsets, real_of={"A": "r", "B": "s"})
    evaluation = evaluate(Reader(), data, data, threshold=0.5, bootstrap=30)
    without, measured = evaluation.row("B"), evaluation.row("A")
    assert without.measures["ap"] == bootstrap.Measure(value=None)
    assert (without.n_real, without.chance, without.measures["fnr"].value) == (0, None, 1.0)
    for kind in ("unweighted", "weighted"):
        mean = evaluation.overall[kind]
        assert mean.measures == measured.measures  # the same figure has the same interval
        assert (mean.n_real, mean.n_fake, mean.chance) == (2, 2, measured.chance)
    assert evaluation.worst == "A"


@pytest.mark.parametrize(
    ("fakes", "reals", "ap"), [(9, 9, 0.5734), (1, 1, 0.75), (1, 3, (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4), (500, 500, 0.503)]
)
def test_the_ap_of_random_scores(fakes: int, reals: int, ap: float) -> None:
    assert metrics.chance_ap(fakes, reals) == pytest.approx(ap, abs=6e-4)
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [reals, fakes])
    drawn = [metrics.average_precision(labels, rng.random(len(labels))) for _ in range(300)]
    assert np.mean(drawn) == pytest.approx(metrics.chance_ap(fakes, reals), abs=4 * np.std(drawn) / 300**0.5)
    assert np.isnan(metrics.chance_ap(fakes, 0)) and np.isnan(metrics.chance_ap(0, reals))


@pytest.mark.parametrize(("fakes", "reals"), [(9, 9), (40, 12)])
def test_random_scores_are_above_chance_in_at_most_one_draw_of_twenty(fakes: int, reals: int) -> None:
    labels, subsets = [0] * reals + [1] * fakes, ["r"] * reals + ["F"] * fakes
    above, chance = {"ap": 0, "auroc": 0}, {"ap": metrics.chance_ap(fakes, reals), "auroc": 0.5}
    data = scored_data([0] * len(labels), labels, subsets, real_of={"F": "r"})
    for draw in range(200):
        scored = Scored([], np.random.default_rng(draw).random(len(labels)))
        measures = summarise(data, scored, 0.5, name="x", title="x", bootstrap=100, seed=draw).row("F").measures
        for key in above:
            above[key] += measures[key].low > chance[key]
    assert max(above.values()) <= 10, above


def test_every_interval_holds_its_value_and_none_is_a_point() -> None:
    rng = np.random.default_rng(3)
    for count in (1, 2, 9):
        for scores in (rng.integers(0, 100, 2 * count), np.repeat([10, 90], count), np.repeat([90, 10], count)):
            data = scored_data(scores.tolist(), [0] * count + [1] * count, ["r"] * count + ["F"] * count, real_of={"F": "r"})
            evaluation = evaluate(Reader(), data, data, threshold=0.5, bootstrap=25)
            for row in [*evaluation.subsets, *evaluation.overall.values()]:
                for measure in row.measures.values():
                    assert 0 <= measure.low <= measure.value <= measure.high <= 1
                    assert measure.high - measure.low > 0.05


def test_a_difference_holds_its_value() -> None:
    widened = bootstrap.difference_with_interval(0.3, np.array([0.0, 0.1, 0.2]))
    assert (widened.value, widened.low, widened.high) == (0.3, pytest.approx(0.005), 0.3)
    assert bootstrap.difference_with_interval(0.1, np.linspace(0, 1, 101)).high == pytest.approx(0.975)
    assert bootstrap.difference_with_interval(-0.3, np.array([0.0, 0.1, 0.2])).low == -0.3
    assert bootstrap.difference_with_interval(float("nan"), np.array([0.0])) == bootstrap.Measure(value=None)
    assert bootstrap.difference_with_interval(0.1, np.array([np.nan])) == bootstrap.Measure(value=0.1)


def test_which_pictures_limit_a_measure() -> None:
    sizes = bootstrap.Sizes(fakes=7, reals=5)
    assert [sizes.behind(key) for key in ("acc", "acc_fixed", "fpr", "fnr", "ap", "auroc", "tpr_at_fpr_1")] == [12, 12, 5, 7, 5, 5, 5]


def test_auroc_comes_first_where_a_class_is_small(two_sources: DetectionData) -> None:
    small = evaluate(Reader(), two_sources, two_sources, bootstrap=0)
    assert small.leading == "auroc"
    assert result_table(small).header[4:7] == ["AUROC", "AP", "AP by chance"]
    many = [row.model_copy(update={"n_real": SMALL_CLASS, "n_fake": SMALL_CLASS}) for row in small.subsets]
    assert leading_measure(many) == "ap"
    assert leading_measure([many[0], many[1].model_copy(update={"n_real": SMALL_CLASS - 1})]) == "auroc"
    assert leading_measure([many[0], many[1].model_copy(update={"n_real": 0})]) == "ap"


def test_cells_of_csv_are_numbers_with_intervals_in_columns_of_their_own(two_sources: DetectionData) -> None:
    evaluation = evaluate(Reader(), two_sources, two_sources, bootstrap=20)
    header, *rows = csv.reader(io.StringIO(result_table(evaluation).render("csv")))
    assert header[4:9] == ["AUROC", "AUROC low", "AUROC high", "AP", "AP low"]
    assert all(float(cell) >= 0 for row in rows for cell in row[2:])
    plain, *_ = csv.reader(io.StringIO(result_table(evaluation, intervals=False).render("csv")))
    assert not any(name.endswith("low") for name in plain)
    without = [Figure(bootstrap.Measure(value=None), True), Figure(bootstrap.Measure(value=0.5, low=0.25, high=0.75), True, p=0.04)]
    table = Table("t", ["a", "b"], [["x", without[0]], ["–", without[1]]], groups=[("", 1), ("G", 1)])
    assert table.render("csv") == "a,G b,G b low,G b high,G b p\nx,,,,\n,50.0000,25.0000,75.0000,0.0400\n"
    assert "50.00 [25.00, 75.00] (p 0.040)" in table.render("markdown")


def test_a_rehearsal_is_marked_in_every_form(two_sources: DetectionData) -> None:
    tried = replace(two_sources, origin={"rehearsal": "at most 8 images"})
    for evaluation in (
        evaluate(Reader(), tried, tried, bootstrap=0),
        evaluate(Reader(), two_sources, two_sources, rehearsal="x", bootstrap=0),
    ):
        assert evaluation.title == "Roughness (rehearsal)"
        for form in ("markdown", "csv", "latex", "html"):
            assert "rehearsal" in result_table(evaluation).render(form)
    assert "rehearsal" not in result_table(evaluate(Reader(), two_sources, two_sources, bootstrap=0)).render("csv")


def test_the_true_positive_rate_at_exactly_the_false_positive_rate_asked_for() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.5, 0.9])
    assert metrics.tpr_at_fpr(labels, scores, 0.5) == 1.0
    assert metrics.tpr_at_fpr(labels, scores, 0.49) == 0.5


def test_rates_are_at_one_half_unless_said() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.4, 0.6, 0.5, 0.9])
    assert metrics.error_rates(labels, scores) == (0.5, 0.5)
    assert metrics.error_rates(labels, scores, 0.45) == (0.5, 0.0)
    assert (metrics.accuracy(labels, scores), metrics.accuracy(labels, scores, 0.45)) == (0.5, 0.75)


def test_the_equal_error_rate_is_where_both_errors_are_nearest() -> None:
    labels, scores = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([0.1, 0.2, 0.3, 0.7, 0.25, 0.6, 0.8, 0.9])
    assert metrics.equal_error_rate(labels, scores) == 0.25
    assert metrics.equal_error_rate(labels, -scores) == 0.75
    assert metrics.equal_error_rate(np.array([0, 1]), np.array([0.1, 0.9])) == 0.0


@pytest.mark.parametrize(
    ("drawn", "pictures", "number"),
    [
        ([0.25, 0.75], 100, 0.25 / (0.0625 * 100 / 99)),  # as uncertain as a share of four pictures
        ([0.499, 0.501], 100, 100),  # never surer than as many independent pictures
        ([0.0, 1.0], 100, 1),
        ([0.5, 0.5], 40, 40),
    ],
)
def test_the_interval_is_wilson_s_for_the_pictures_that_the_replicates_are_worth(drawn: list[float], pictures: int, number: float) -> None:
    measure = bootstrap.with_interval(0.5, np.array(drawn), pictures)
    for end in (measure.low, measure.high):
        assert end is not None
        assert abs(end - 0.5) == pytest.approx(1.959964 * np.sqrt(end * (1 - end) / number))
