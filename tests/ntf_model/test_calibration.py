"""Temperature, thresholds by wish and the band, on scores whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import logistic, norm

from ntf_model.baselines.probe import FeatureProbe
from ntf_model.calibration import CALIBRATION_FILE, Band, Calibration, fit_calibration, fit_temperature
from ntf_model.data.data import DetectionSplits
from ntf_model.errors import InputError
from ntf_model.judging.reliability import bins_of, brier, expected_calibration_error, reliability
from ntf_model.ntf.config import NTFConfig
from ntf_model.ntf.ntf import NTFDetector
from ntf_model.registry import load_detector


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def overlapping(count: int, seed: int, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of two classes whose true logit is `2 x`, with x normal around -1 and 1; scores are its sigmoid, sharpened."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], count)
    x = rng.normal(2.0 * labels - 1, 1.0)
    return labels, sigmoid(2 * x * sharpness)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_how_much_too_sure_a_detector_is(sharpness: float) -> None:
    labels, scores = overlapping(4000, 0, sharpness)
    calibration = fit_calibration(labels, scores)
    assert calibration is not None
    assert calibration.temperature == pytest.approx(sharpness, rel=0.06)
    test_labels, test_scores = overlapping(4000, 1, sharpness)
    measured = reliability(calibration, test_labels, test_scores)
    assert measured is not None
    assert measured.ece < 0.02
    assert measured.brier <= measured.brier_scores + 1e-3
    if sharpness != 1.0:
        assert measured.ece_scores > 3 * measured.ece


def test_classes_count_alike_and_a_perfect_split_does_not_ask_for_no_temperature_at_all() -> None:
    labels, scores = overlapping(2000, 0, 2.0)
    few = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:500]])
    both, rare = (fit_calibration(labels[rows], scores[rows]) for rows in (np.arange(4000), few))
    assert both and rare
    assert rare.temperature == pytest.approx(both.temperature, rel=0.1)
    certain = fit_temperature(np.array([1e-6] * 9), np.array([1 - 1e-6] * 9))
    assert sigmoid(np.log(1e6) / certain) == pytest.approx(10 / 11, abs=0.01)  # Platt's target for nine pictures
    assert sigmoid(0.0) == Calibration(temperature=certain, real=(0.1,), fake=(0.9,)).probability(np.array([0.5]))[0]


def test_thresholds_are_order_statistics_where_reals_are_many() -> None:
    real = tuple(np.arange(1, 1000) / 1000)  # 999 reals: 0.001 to 0.999
    calibration = Calibration(temperature=1, real=real, fake=(1.0,))
    assert calibration.threshold_at(0.011) == 0.989
    assert calibration.threshold_at(0.10) == 0.90
    with pytest.raises(InputError, match="not between 0 and 1"):
        calibration.threshold_at(1.5)
    few = Calibration(temperature=1, real=real[:30], fake=(1.0,))
    assert few.threshold_at(0.2) == 0.025
    with pytest.raises(InputError, match=r"an FPR of 0\.01 needs 50 validation reals, and there are 30"):
        few.threshold_at(0.01)
    with pytest.raises(InputError, match=r"an FPR of 0\.1 needs 9 validation reals, and there are 3"):
        Calibration(temperature=1, real=real[:3], fake=(1.0,)).threshold_at(0.1)
    rng = np.random.default_rng(3)
    rates = [1 - Calibration(temperature=1, real=tuple(np.sort(rng.random(399))), fake=(1.0,)).threshold_at(0.05) for _ in range(300)]
    assert np.mean(rates) == pytest.approx(0.05, abs=0.003)  # of uniform scores as many lie above it


@pytest.mark.parametrize(("count", "inside"), [(90, 0.75), (300, 0.93), (900, 0.98)])
@pytest.mark.parametrize("shape", ["normal", "logistic"])
def test_a_threshold_of_few_reals_holds_on_further_ones(count: int, inside: float, shape: str) -> None:
    """Of 400 validation sets so many give a threshold at which 0.3 to 3 % of all reals are called fake, where 1 % are wished."""
    rng = np.random.default_rng(4)
    rates = []
    for _ in range(400):
        logits = np.sort(getattr(rng, shape)(-3, 2, count))
        threshold = Calibration(temperature=1, real=tuple(sigmoid(logits)), fake=(1.0,)).threshold_at(0.01)
        cut = (np.log(threshold / (1 - threshold)) + 3) / 2
        rates.append(norm.sf(cut) if shape == "normal" else logistic.sf(cut))
    assert np.mean((np.array(rates) > 0.003) & (np.array(rates) < 0.03)) >= inside
    assert np.median(rates) == pytest.approx(0.01, rel=0.35)


def test_the_band_keeps_its_stated_error_in_both_classes() -> None:
    errors, unsure = [], []
    for seed in range(60):
        calibration = fit_calibration(*overlapping(199, seed))
        assert calibration is not None
        labels, scores = overlapping(500, 1000 + seed)
        band = calibration.band(0.1)
        verdicts = np.array([band.verdict(score) for score in scores])
        errors.append([np.mean(verdicts[labels == 0] == "fake"), np.mean(verdicts[labels == 1] == "real")])
        unsure.append(np.mean(verdicts == "unsure"))
    assert np.mean(errors, axis=0) == pytest.approx([0.1, 0.1], abs=0.012)
    assert 0 < np.mean(unsure) < 0.4
    calibration = fit_calibration(*overlapping(199, 0))
    assert calibration is not None
    assert calibration.band(0.02).high > calibration.band(0.2).high
    assert calibration.band(0.1, fpr=0.01).high == calibration.threshold_at(0.01) > calibration.band(0.1).high
    assert calibration.band(0.1, fpr=0.01).low == calibration.band(0.1).low


def test_ends_of_the_band() -> None:
    apart = Calibration(temperature=1, real=tuple(np.linspace(0.1, 0.2, 19)), fake=tuple(np.linspace(0.8, 0.9, 19)))
    band = apart.band(0.05)
    assert band == Band(0.2, 0.8)  # between two classes that do not touch, a picture is like neither
    assert [band.verdict(score) for score in (0.19, 0.2, 0.5, 0.8, 0.81)] == ["real", "unsure", "unsure", "unsure", "fake"]
    few = Calibration(temperature=1, real=(0.1, 0.2), fake=(0.8, 0.9))
    assert few.band(0.05) == Band(0.0, 1.0)
    assert few.band(0.05).verdict(1.0) == few.band(0.05).verdict(0.0) == "unsure"
    for wrong in (0, 0.6, -1):
        with pytest.raises(InputError, match=r"not above 0 and at most 0\.5"):
            few.band(wrong)


def test_brier_score_and_calibration_error_by_hand() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.35, 1.0])
    weights = np.full(4, 0.25)
    assert brier(labels, scores, weights) == pytest.approx((0.01 + 0.09 + 0.65**2 + 0) / 4)
    bins = bins_of(labels, scores, weights)
    assert [part.pictures for part in bins] == [0, 1, 0, 2, 0, 0, 0, 0, 0, 1]
    assert expected_calibration_error(bins) == pytest.approx(0.25 * 0.1 + 0.5 * abs(0.325 - 0.5) + 0)
    assert reliability(Calibration(temperature=1, real=(0.1,), fake=(0.9,)), np.ones(3), np.ones(3)) is None


def test_training_leaves_a_calibration_that_is_loaded_again(splits: DetectionSplits, tiny: NTFConfig, tmp_path: Path) -> None:
    detector = NTFDetector.fit(splits, tiny, tmp_path / "run", device="cpu")
    assert detector.calibration is not None
    assert detector.calibration.digest == splits.validation.digest
    assert len(detector.calibration.real) == int((splits.validation.labels == 0).sum())
    images = [splits.test.dataset[row].image for row in range(6)]
    loaded = NTFDetector.from_pretrained(tmp_path / "run", device="cpu")
    assert loaded.calibration == detector.calibration
    assert loaded(images) == detector(images)
    for row in loaded(images):
        assert row.calibrated == pytest.approx(loaded.calibration.probability(np.array([row.probability]))[0])
        assert row.verdict == loaded.calibration.band(0.05).verdict(row.probability)
    assert load_detector(tmp_path / "run", "cpu").with_error(0.3).error == 0.3
    strict = loaded.at_fpr(0.2)
    assert (strict.threshold, strict.fpr) == (loaded.calibration.threshold_at(0.2), 0.2)
    assert strict(images)[0].is_fake == (strict(images)[0].probability > strict.threshold)
    strict.save_pretrained(tmp_path / "copy")
    assert Calibration.load(tmp_path / "copy") == detector.calibration


def test_a_run_without_a_calibration_gives_its_scores(splits: DetectionSplits, tmp_path: Path) -> None:
    detector = FeatureProbe.fit(splits, FeatureProbe.preset("demo", encoder="small"), tmp_path, device="cpu")
    assert detector.calibration
    (tmp_path / CALIBRATION_FILE).unlink()
    plain = load_detector(tmp_path, "cpu")
    assert plain.calibration is None
    (row,) = plain([splits.test.dataset[0].image])
    assert np.isnan(row.calibrated)
    assert row.verdict == ("fake" if row.probability > plain.threshold else "real")
    with pytest.raises(InputError, match="has no calibration"):
        plain.at_fpr(0.1)
    with pytest.raises(InputError, match="has no calibration"):
        plain.with_error(0.1)
    plain.save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again" / CALIBRATION_FILE).exists()
    resumed = FeatureProbe.fit(splits, FeatureProbe.preset("demo", encoder="small"), tmp_path, device="cpu", resume=True)
    assert resumed.calibration == detector.calibration


@pytest.mark.parametrize(
    "change", [{"temperature": 0}, {"real": [0.3, 0.2]}, {"fake": []}, {"real": [1.5]}, {"temperature": "x"}, {"real": [None]}]
)
def test_a_damaged_calibration_is_one_line(change: dict[str, object], tmp_path: Path) -> None:
    values = {"temperature": 1.0, "real": [0.1, 0.2], "fake": [0.9], "digest": ""}
    (tmp_path / CALIBRATION_FILE).write_text(json.dumps({**values, **change}))
    with pytest.raises(InputError, match=r"calibration\.json is damaged"):
        Calibration.load(tmp_path)
    (tmp_path / CALIBRATION_FILE).write_text("{")
    with pytest.raises(InputError, match=r"calibration\.json is damaged"):
        Calibration.load(tmp_path)
