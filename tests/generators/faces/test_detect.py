from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from generators.errors import InputError
from generators.faces.align import align, invert, transform_points
from generators.faces.detect import CascadeDetector, InsightFaceDetector, YuNetDetector, load_detector
from generators.faces.onnx_models import CPU, CUDA, level_of, providers, resized, where_it_runs
from tests.generators.faces.conftest import ASTRONAUT_LANDMARKS


@pytest.fixture(scope="module")
def cascade() -> CascadeDetector:
    return CascadeDetector()


def test_the_cascade_finds_a_face_without_any_file(cascade: CascadeDetector, astronaut: np.ndarray) -> None:
    (face,) = cascade.detect(astronaut)
    left, top, right, bottom = face.box
    low, high = ASTRONAUT_LANDMARKS.min(0), ASTRONAUT_LANDMARKS.max(0)
    assert left < low[0] and high[0] < right
    assert top < low[1] and high[1] < bottom
    assert face.estimated
    eyes_apart = np.linalg.norm(ASTRONAUT_LANDMARKS[0] - ASTRONAUT_LANDMARKS[1])
    assert np.linalg.norm(face.landmarks - ASTRONAUT_LANDMARKS, axis=1).max() < 0.35 * eyes_apart


def test_a_tight_crop_is_found_where_it_is(cascade: CascadeDetector, astronaut: np.ndarray) -> None:
    """The face of the picture alone: the box must come back in the crop's own pixels, whatever margin was put around it."""
    tight = astronaut[60:170, 170:275]
    (face,) = cascade.detect(tight)
    assert np.linalg.norm(face.landmarks.mean(0) - (ASTRONAUT_LANDMARKS.mean(0) - [170, 60])) < 12


def test_no_face_is_an_empty_list(cascade: CascadeDetector) -> None:
    assert cascade.detect(np.full((128, 96, 3), 127, np.uint8)) == []
    assert cascade.detect(np.zeros((8, 8, 3), np.uint8)) == []


def test_what_is_no_rgb_image_is_refused(cascade: CascadeDetector) -> None:
    with pytest.raises(InputError, match="uint8 RGB"):
        cascade.detect(np.zeros((64, 64), np.uint8))
    with pytest.raises(InputError, match="float64"):
        cascade.detect(np.zeros((64, 64, 3)))


def test_missing_empty_and_broken_models_say_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no detection model .*nowhere.*insightface pack"):
        load_detector(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no \.onnx file.*det_10g\.onnx"):
        load_detector(tmp_path)
    broken = tmp_path / "det_10g.onnx"
    broken.write_bytes(b"\x08\x07not a graph")
    with pytest.raises(InputError, match=r"det_10g\.onnx.*Fetch it again"):
        load_detector(broken)
    with pytest.raises(InputError, match=r"det_10g\.onnx.*Fetch it again"):
        InsightFaceDetector(broken)
    with pytest.raises(InputError, match="YuNet"):
        YuNetDetector(broken)


def test_a_model_of_another_kind_is_refused(assets: Path) -> None:
    with pytest.raises(InputError, match="no detection model that insightface knows"):
        InsightFaceDetector(assets / "identity" / "vface_mobilefacenet.onnx")


def test_scrfd_finds_the_portraits(portrait_faces: list[list]) -> None:
    assert sum(len(faces) > 0 for faces in portrait_faces) >= 54
    assert all(faces[0].score >= faces[-1].score for faces in portrait_faces if faces)


@pytest.mark.parametrize("name", ["face_detection_yunet_2026may.onnx", "scrfd_2.5g_kps_2d.onnx", None])
def test_detectors_agree_on_where_a_face_is(
    assets: Path, portraits: list[np.ndarray], portrait_faces: list[list], name: str | None
) -> None:
    """Within a fifth of the distance between the eyes on average; the cascade only guesses its landmarks."""
    detector = load_detector(assets / "detector" / name if name else None)
    assert isinstance(detector, CascadeDetector if name is None else YuNetDetector if "yunet" in name else InsightFaceDetector)
    for image, want in zip(portraits[::14], portrait_faces[::14], strict=True):
        faces = detector.detect(image)
        assert len(faces) == 1
        eyes_apart = np.linalg.norm(want[0].landmarks[0] - want[0].landmarks[1])
        off = np.linalg.norm(faces[0].landmarks - want[0].landmarks, axis=1).mean()
        assert off < 0.2 * eyes_apart


def test_without_padding_most_portraits_would_be_missed(assets: Path, portraits: list[np.ndarray]) -> None:
    detector = load_detector(assets / "detector" / "scrfd_500m_kps_2d.onnx")
    sample = portraits[::7]
    missed = sum(not detector._find(image) for image in sample)
    assert missed >= len(sample) // 4
    assert all(detector.detect(image) for image in sample)


@pytest.mark.parametrize("name", ["scrfd_2.5g_kps_2d.onnx", "scrfd_500m_kps_2d.onnx"])
def test_landmarks_on_an_aligned_crop_are_those_of_the_picture(
    assets: Path, portraits: list[np.ndarray], portrait_faces: list[list], name: str
) -> None:
    """The small network is another size of the same file. What it sees in a crop lies within 6 % of the distance between the eyes of what
    the large one sees in the picture, on average over five points; shown the crop with a margin, the large one is no nearer."""
    detector = load_detector(assets / "detector" / name)
    assert isinstance(detector, InsightFaceDetector)
    assert detector.small is not detector.model and detector.small.static_input_size == (320, 320)
    far = []
    for image in portraits[::12]:
        face = detector.detect(image)[0]
        crop, matrix = align(image, face.landmarks, "simswap", 224)
        back = transform_points(detector.detect_aligned(crop)[0].landmarks, invert(matrix))
        far.append(np.linalg.norm(back - face.landmarks, axis=1).mean() / np.linalg.norm(face.landmarks[1] - face.landmarks[0]))
    assert np.mean(far) < 0.06


def test_a_file_that_takes_one_size_only_is_used_as_it_is(assets: Path) -> None:
    detector = InsightFaceDetector(assets / "detector" / "scrfd_500m_kps_2d.onnx")
    detector.model.model_file = "gone.onnx"
    assert resized(detector.model, 320) is detector.model


def test_a_line_says_where_a_model_runs() -> None:
    assert "CPU, beside a GPU" in where_it_runs(False, "det_10g.onnx", "cuda:0") and "onnxruntime-gpu" in where_it_runs(False, "d", "cuda")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
        assert "could not load CUDA" in where_it_runs(False, "d", "cuda:0"), "the package is there already"
    assert level_of(False, "cuda:0") == logging.WARNING
    assert where_it_runs(True, "det_10g.onnx", "cuda:0") == "det_10g.onnx runs on the GPU (onnxruntime's CUDAExecutionProvider)"
    assert where_it_runs(False, "det_10g.onnx", "cpu") == "det_10g.onnx runs on the CPU (onnxruntime)"
    assert level_of(True, "cuda:0") == level_of(False, "cpu") == logging.INFO


def test_onnxruntime_works_on_the_same_gpu_as_torch(monkeypatch: pytest.MonkeyPatch, assets: Path) -> None:
    assert providers("cuda:1") == providers("cpu") == [CPU], "this installation has no CUDA"
    detector = InsightFaceDetector(assets / "detector" / "scrfd_500m_kps_2d.onnx")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider", CUDA, CPU])
    assert providers("cuda:1") == [(CUDA, {"device_id": 1}), CPU]
    assert providers("cuda") == [(CUDA, {"device_id": 0}), CPU]
    assert providers("cpu") == [CPU]
    asked: list[Any] = []

    class Session:
        def __init__(self, model: bytes, providers: Any):
            asked.extend(providers)
            raise RuntimeError("no such card")

    monkeypatch.setattr(detector.model.session, "get_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(detector.model.session, "get_provider_options", lambda: {CUDA: {"device_id": "1"}, CPU: {}})
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    assert resized(detector.model, 320) is detector.model
    assert asked == [(CUDA, {"device_id": "1"}), (CPU, {})], "the smaller network for crops too"


def test_several_threads_see_what_one_sees(assets: Path, portraits: list[np.ndarray]) -> None:
    """YuNet keeps the size of its last image, so that two threads would disturb each other without its lock."""
    detector = load_detector(assets / "detector" / "face_detection_yunet_2026may.onnx")
    pictures = [image[: 700 + 40 * place, : 1000 - 30 * place] for place, image in enumerate(portraits[::9])]
    alone = [detector.detect(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.detect, pictures))
    assert [[face.box for face in faces] for faces in alone] == [[face.box for face in faces] for faces in together]
