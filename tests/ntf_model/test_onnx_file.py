"""A detector as an ONNX file says the same as the detector, whatever the size of the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from ntf_model.calibration import Calibration
from ntf_model.data.images import corner_crops
from ntf_model.detector import Detector, best_device
from ntf_model.encoders.build import build_encoder
from ntf_model.ensemble import Ensemble, EnsembleConfig
from ntf_model.errors import InputError
from ntf_model.ntf.config import preset
from ntf_model.ntf.network import DetectionNetwork
from ntf_model.ntf.ntf import NTFDetector
from ntf_model.onnx_file import TOLERANCE, Middle, difference, sample_pictures, to_onnx
from ntf_model.recipes.transforms import center_crop
from ntf_model.registry import get_detector

CALIBRATION = Calibration(temperature=2.5, real=(0.1, 0.3), fake=(0.6, 0.9))


def ntf(crops: int = 5, frozen: bool = False, trace: int | None = 3, encoder: str = "small") -> NTFDetector:
    torch.manual_seed(0)
    config = preset("demo", encoder=encoder, test_crops=crops, projection_dim=16, image_size=32)
    built = build_encoder(encoder)
    built.crop = 32
    network = DetectionNetwork(built, 16, frozen)
    with torch.no_grad():
        network.standardise.running_mean.normal_()
        network.standardise.running_var.uniform_(0.5, 2)
    traces = None if trace is None else torch.nn.functional.normalize(torch.randn(trace, 16), dim=1)
    detector = NTFDetector(network, traces, config, 0.4, best_device("cpu"))
    detector.calibration = CALIBRATION
    return detector


@pytest.mark.parametrize("options", [{}, {"crops": 1, "frozen": True}, {"trace": None}])
def test_ntf_agrees_with_its_file(options: dict[str, Any]) -> None:
    detector = ntf(**options)
    data = to_onnx(detector)
    assert difference(data, detector) < TOLERANCE
    facts = {entry.key: entry.value for entry in onnx.load_from_string(data).metadata_props}
    assert facts["ntf.detector"] == "ntf"
    assert json.loads(facts["ntf.threshold"]) == 0.4
    assert json.loads(facts["ntf.temperature"]) == 2.5
    names = [output.name for output in onnx.load_from_string(data).graph.output]
    assert names == ["probability", "calibrated"] + (["distance"] if options.get("trace", 3) else [])


def test_a_file_of_another_detector_is_noticed() -> None:
    detector = ntf(crops=1)
    data = to_onnx(detector)
    with torch.no_grad():
        detector.network.classifier.bias += 0.01
    assert difference(data, detector) > TOLERANCE
    with torch.no_grad():
        detector.network.classifier.bias -= 0.01
    detector.calibration = CALIBRATION.model_copy(update={"temperature": 2.6})
    assert difference(data, detector) > TOLERANCE


@pytest.mark.parametrize(
    ("name", "changes"), [("probe", {"encoder": "small"}), ("attentive_probe", {"encoder": "small"}), ("wang2020", {})]
)
def test_other_detectors_that_crop(name: str, changes: dict[str, Any]) -> None:
    detector = built(name, **changes)
    assert difference(to_onnx(detector), detector, sample_pictures()[1:5]) < TOLERANCE


def built(name: str, **changes: Any) -> Detector:
    kind: Any = get_detector(name)
    config = kind.preset("demo", **changes)
    torch.manual_seed(1)
    return kind(config, kind.build(config), "cpu")


def test_an_ensemble_is_one_file() -> None:
    detector = Ensemble(EnsembleConfig(), [ntf(crops=1), built("probe", encoder="small")], 0.5)
    assert difference(to_onnx(detector), detector) < TOLERANCE


@pytest.mark.parametrize("kind", ["dinov2", "clip", "convnext"])
def test_encoders_of_transformers(kind: str, tmp_path: Path) -> None:
    from tests.ntf_model.encoders.test_encoders import tiny_model

    tiny_model(kind).save_pretrained(tmp_path)
    detector = ntf(crops=2, encoder=str(tmp_path))
    assert difference(to_onnx(detector), detector) < TOLERANCE


def test_what_resizes_by_pillow_is_refused() -> None:
    with pytest.raises(InputError, match="sbi resizes pictures by a library"):
        to_onnx(built("sbi"))


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (16, 16), (33, 17), (64, 51)])
def test_crops_are_those_of_the_detectors(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    reflected = Middle(16, 5, None)(torch.from_numpy(image)) * 255
    assert (reflected.permute(0, 2, 3, 1).numpy().round() == np.stack(corner_crops(image, 16, 5))).all()
    black = Middle(16, 1, None, black=True)(torch.from_numpy(image)) * 255
    assert (black[0].permute(1, 2, 0).numpy().round() == center_crop(image, 16)).all()
