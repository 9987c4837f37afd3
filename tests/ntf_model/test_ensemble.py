"""The ensemble: the mean of logits, whole in its own folder, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ntf_model.baselines.probe import FeatureProbe
from ntf_model.data.data import DetectionSplits
from ntf_model.detector import Detector
from ntf_model.ensemble import Ensemble, EnsembleConfig
from ntf_model.errors import InputError
from ntf_model.registry import detector_names, get_detector, load_detector


class Fixed(Detector):
    """Says the same of every picture."""

    title = "Fixed"

    def __init__(self, value: float):
        self.value = value

    def score(self, images):
        return np.full(len(images), self.value)

    train = save_pretrained = from_pretrained = None


def test_logits_are_averaged_and_not_probabilities() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    ensemble = Ensemble(EnsembleConfig(), [Fixed(0.9), Fixed(0.5)])
    assert ensemble.score([image])[0] == pytest.approx(0.75)  # sigmoid(ln 9 / 2)
    assert 0 < Ensemble(EnsembleConfig(), [Fixed(1.0), Fixed(0.0)]).score([image])[0] < 1


def test_its_folder_is_whole(splits: DetectionSplits, tmp_path: Path) -> None:
    runs = []
    for crops in (1, 3):
        config = FeatureProbe.preset("demo", encoder="small", test_crops=crops, image_size=16)
        FeatureProbe.fit(splits, config, tmp_path / str(crops), device="cpu")
        runs.append(str(tmp_path / str(crops)))
    detector = get_detector("ensemble").fit(splits, EnsembleConfig(runs=runs), tmp_path / "both", device="cpu")
    images = [splits.test.dataset[row].image for row in range(4)]
    scores = [load_detector(run, "cpu").score(images) for run in runs]
    logits = np.mean([np.log(score / (1 - score)) for score in scores], axis=0)
    assert detector.score(images) == pytest.approx(1 / (1 + np.exp(-logits)))
    for run in runs:
        shutil.rmtree(run)
    again = load_detector(tmp_path / "both", "cpu")
    assert np.array_equal(again.score(images), detector.score(images))
    assert again.threshold == detector.threshold
    values = json.loads((tmp_path / "both" / "config.json").read_text())
    (tmp_path / "both" / "config.json").write_text(json.dumps({**values, "members": "all"}))
    with pytest.raises(InputError, match="does not describe an ensemble"):
        load_detector(tmp_path / "both")


def test_what_cannot_be_an_ensemble_is_named(splits: DetectionSplits, tmp_path: Path) -> None:
    assert "ensemble" not in detector_names()
    with pytest.raises(InputError, match=r"needs trained detectors.*runs="):
        Ensemble.fit(splits)
    with pytest.raises(InputError, match="has a run twice"):
        Ensemble.fit(splits, EnsembleConfig(runs=["a", "./a"]))
    with pytest.raises(InputError, match="holds no trained detector"):
        Ensemble.fit(splits, EnsembleConfig(runs=[str(tmp_path)]))
