"""A trained detector in use: files and folders, degraded pictures, explanations."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ntf_model.data.data import DetectionSplits
from ntf_model.detect import detect
from ntf_model.encoders.build import last_feature_map
from ntf_model.errors import InputError
from ntf_model.judging.robustness import Robustness, add_noise, robustness, robustness_figure, robustness_table, scale
from ntf_model.ntf import cam
from ntf_model.ntf.config import NTFConfig, merge
from ntf_model.ntf.explain import (
    embedding_map,
    evaluate_distance,
    explain,
    explain_subsets,
    explanation_sheet,
    save_embeddings,
    save_explanations,
)
from ntf_model.ntf.ntf import NTFDetector


@pytest.fixture(scope="module")
def detector(splits: DetectionSplits, tiny: NTFConfig) -> NTFDetector:
    return NTFDetector.fit(splits, merge(tiny, {"stage1": {"epochs": 1}}), device="cpu")


def test_files_and_folders_are_looked_at_and_unreadable_ones_listed(detector: NTFDetector, folders: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture either")
    Image.new("L", (300, 9)).save(tmp_path / "grey.png")
    Image.new("RGBA", (9, 40)).save(tmp_path / "alpha.webp")
    seen = []
    given = [folders / "smooth" / "fake", tmp_path, tmp_path / "grey.png", tmp_path / "grey.png"]
    detections = detect(given, detector, batch_size=7, on_progress=lambda *progress: seen.append(progress))
    assert [row.file.name for row in detections.rows[24:]] == ["alpha.webp", "broken.png", "grey.png", "grey.png", "grey.png"]
    assert [row.file.name for row in detections.unreadable] == ["broken.png"]
    assert detections.notes == [f"{tmp_path}: 1 file is left out (1 .txt)"]
    assert seen[-1][:2] == (29, 29)
    for row in detections.rows:
        if row.error:
            assert (row.probability, row.distance, row.is_fake) == (None, None, None)
            continue
        assert 0 <= row.probability <= 1
        assert 0 <= row.distance <= 1
        assert row.is_fake == (row.probability > detector.threshold)


def test_errors_stand_in_their_places(detector: NTFDetector, folders: Path, tmp_path: Path) -> None:
    picture = next((folders / "smooth" / "fake").iterdir())
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    bad = [tmp_path / name for name in ("notes.txt", "empty", "pipe.png", "absent.png")]
    rows = detect([picture, *bad, picture], detector).rows
    assert [bool(row.error) for row in rows] == [False, True, True, True, True, False]
    for row, said in zip(
        rows[1:5], ("notes.txt", "there is no picture in", "is a pipe or a device", "there is no file or folder"), strict=True
    ):
        assert said in row.error
    assert rows[0] == rows[5]
    with pytest.raises(InputError, match="there is no picture to look at"):
        detect([], detector)


def test_the_detector_takes_pictures_in_every_form(detector: NTFDetector, folders: Path) -> None:
    file = next((folders / "smooth" / "fake").iterdir())
    pixels = np.asarray(Image.open(file))
    forms = [pixels, pixels / 255, Image.fromarray(pixels), file]
    for method in (detector.score, detector.distance):
        assert np.ptp(method(forms)) < 1e-6
    assert detector.embed(forms).shape == (4, detector.config.projection_dim)
    with pytest.raises(InputError, match="floats that are not all in"):
        detector([pixels.astype(float)])


def test_degradations_repeat_themselves_and_do_what_they_say() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    assert np.array_equal(add_noise(image, 10), add_noise(image, 10))
    middle = np.full((40, 30, 3), 128, np.uint8)
    assert (add_noise(middle, 10).astype(float) - 128).std() == pytest.approx(10, rel=0.1)
    assert scale(image, 0.2).shape == (8, 8, 3)
    assert scale(image, 0.5).shape == (20, 15, 3)


def test_robustness_keeps_one_threshold(detector: NTFDetector, splits: DetectionSplits, tmp_path: Path) -> None:
    strengths = {"blur": (2.0,), "jpeg": (30,), "scaling": (0.5, 0.2)}
    measured = robustness(detector, splits.test, splits.validation, strengths=strengths, bootstrap=20)
    assert [(point.operation, point.strength) for point in measured.points][:3] == [("none", 0), ("blur", 2.0), ("jpeg", 30)]
    assert len(measured.curve("scaling")) == 2
    assert Robustness.model_validate_json(measured.model_dump_json()) == measured
    assert len(robustness_table(measured).rows) == 5
    robustness_figure([measured, measured], tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").width > 500


def test_heat_maps_are_where_the_score_comes_from() -> None:
    """A network that sums one quarter of a picture is explained by that quarter."""

    class Quarter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Identity()

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.features(pixels)[:, :, :8, :8].sum((1, 2, 3))

    network = Quarter()
    pixels = torch.rand(2, 3, 16, 16) * torch.tensor(np.kron([[1, 0], [0, 1]], np.ones((8, 8))), dtype=torch.float32)
    heat = cam.grad_cam(network, [network.features], pixels)
    assert heat.shape == (2, 16, 16)
    assert heat.min() >= 0
    assert heat.max() <= 1
    activation = cam.watch(network, [network.features], pixels)[0]
    assert activation.gradients[:, :, :8, :8].eq(1).all()
    assert activation.gradients[:, :, 8:].eq(0).all()


def test_explanations_of_the_detector(detector: NTFDetector, splits: DetectionSplits, tmp_path: Path) -> None:
    images = [splits.test.dataset[row].image for row in range(3)]
    crops, heat = explain(detector, images)
    assert crops.shape == (3, 16, 16, 3)
    assert heat.shape == (3, 16, 16)
    assert np.isfinite(heat).all()
    assert np.allclose(explain(detector, images[1:2])[1][0], heat[1], atol=1e-4)
    rows = explain_subsets(detector, splits.test, count=2)
    first = [item.image for item in splits.test.dataset if item.id in rows[0].ids]
    raw = explain(detector, first, scaled=False)[1]
    assert rows[0].full > 0 and {row.full for row in rows} == {rows[0].full}
    assert np.allclose(sorted(rows[0].heats.max((1, 2))), sorted(np.minimum(raw / rows[0].full, 1).max((1, 2))), atol=1e-4)
    assert max(row.heats.max() for row in rows) == 1
    assert explanation_sheet(rows, shown=32).shape == (4 * 50, 150 + 2 * 72, 3)
    save_explanations(rows, tmp_path)
    record = json.loads((tmp_path / "gradcam.json").read_text())
    assert [(row["name"], row["label"]) for row in record["rows"]] == [(row.name, row.label) for row in rows]
    assert Image.open(tmp_path / record["rows"][0]["strip"]).size == (2 * 2 * record["side"], record["side"])
    assert record["full"] == pytest.approx(rows[0].full)
    assert {picture["id"] for row in record["rows"] for picture in row["pictures"]} <= {
        splits.test.dataset[row].id for row in range(len(splits.test))
    }
    assert last_feature_map(detector.network.encoder) is detector.network.encoder.stages[-1]


def test_the_distance_is_a_score_of_its_own(detector: NTFDetector, splits: DetectionSplits) -> None:
    evaluation = evaluate_distance(detector, splits.test, splits.validation, bootstrap=20)
    assert evaluation.detector == "ntf-distance"
    images = [splits.test.dataset[row].image for row in range(len(splits.test))]
    assert np.allclose(evaluation.scores.score, detector.distance(images), atol=1e-6)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_the_map_of_embeddings(detector: NTFDetector, splits: DetectionSplits, tmp_path: Path, method: str) -> None:
    embeddings = embedding_map(detector, splits.train, method=method, limit=5)
    assert embeddings.points.shape == (20, 2)
    assert sorted(set(embeddings.subsets)) == ["blocky", "blocky/real", "smooth", "smooth/real"]
    save_embeddings(embeddings, tmp_path)
    assert Image.open(tmp_path / "embeddings.png").width > 300
    assert len(json.loads((tmp_path / "embeddings.json").read_text())["points"]) == 20
