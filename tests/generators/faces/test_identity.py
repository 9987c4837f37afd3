from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from generators.base import Crop
from generators.checkpoints import Checkpoint
from generators.errors import InputError
from generators.faces.align import align
from generators.faces.detect import load_detector
from generators.faces.identity import ArcFaceIdentity, OnnxIdentity, similarity
from generators.networks.faces.arcface import ArcFace
from tests.generators.faces.onnx_graphs import save_recognition

pytest.importorskip("insightface")


@pytest.mark.parametrize("batch", ["batch", 1])
def test_onnx_identity_of_any_dimension_and_batch(tmp_path: Path, batch: int | str) -> None:
    network = OnnxIdentity(save_recognition(tmp_path / "w600k_tiny.onnx", values=20, batch=batch))
    assert network.crop == Crop("arcface", 112)
    images = np.random.default_rng(0).integers(0, 256, (5, 112, 112, 3), dtype=np.uint8)
    vectors = network.embed(images, batch_size=2)
    assert vectors.shape == (5, 20)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    grid = (images.astype(np.float32) - 127.5) / 127.5  # RGB, as insightface feeds it
    means = grid.reshape(5, 4, 28, 4, 28, 3).mean((2, 4)).transpose(0, 3, 1, 2).reshape(5, 48)
    want = means @ np.random.default_rng(0).normal(size=(48, 20)).astype(np.float32)
    assert np.allclose(similarity(vectors, want), 1, atol=1e-5)


def test_a_pack_folder_gives_its_recognition_model(tmp_path: Path) -> None:
    (tmp_path / "det_10g.onnx").write_bytes(b"broken")
    save_recognition(tmp_path / "w600k_tiny.onnx", values=8)
    assert OnnxIdentity(tmp_path).embed(np.zeros((1, 112, 112, 3), np.uint8)).shape == (1, 8)


def test_a_folder_without_recognition_is_refused(tmp_path: Path) -> None:
    (tmp_path / "det_10g.onnx").write_bytes(b"broken")
    (tmp_path / "2d106det.onnx").write_bytes(b"broken")
    with pytest.raises(InputError, match="no recognition model"):
        OnnxIdentity(tmp_path)


def test_simswaps_arcface_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(ArcFace((1, 1, 1, 1), True, (16, 16, 32, 32), 40).state_dict(), tmp_path / "arcface.pth")
    network = ArcFaceIdentity(Checkpoint(tmp_path / "arcface.pth"))
    images = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    vectors = network.embed(images)
    assert vectors.shape == (3, 40)
    assert np.allclose(network.embed(images, batch_size=1), vectors, atol=1e-5)
    assert np.allclose(network.embed(images[:, ::2, ::2]), vectors, atol=1e-5), "224 px go to 112 by every other pixel"


def test_the_same_person_scores_above_another(assets: Path, portraits: list[np.ndarray], portrait_faces: list[list]) -> None:
    """The portraits have no names, so the second picture of a person is the first mirrored, turned, blurred and darkened. Two people are
    among them twice, which makes four of the 3,080 different pairs the same person."""
    network = OnnxIdentity(assets / "identity" / "vface_mobilefacenet.onnx")
    detector = load_detector(assets / "detector" / "scrfd_500m_kps_2d.onnx")
    first, second = [], []
    turn = cv2.getRotationMatrix2D((512, 512), 7, 0.9)
    for image, faces in zip(portraits, portrait_faces, strict=True):
        changed = cv2.warpAffine(cv2.GaussianBlur(np.ascontiguousarray(image[:, ::-1]), (0, 0), 2), turn, (1024, 1024))
        changed = np.clip(changed * 0.85 + 12, 0, 255).astype(np.uint8)
        first.append(align(image, faces[0].landmarks, "arcface", 112)[0])
        second.append(align(changed, detector.detect(changed)[0].landmarks, "arcface", 112)[0])
    table = network.embed(np.stack(first)) @ network.embed(np.stack(second)).T
    same, different = np.diag(table), table[~np.eye(len(table), dtype=bool)]
    assert same.min() > np.sort(different)[-5]
    assert same.mean() > different.mean() + 0.5
