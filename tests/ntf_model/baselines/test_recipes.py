"""Pseudo-fakes, landmarks, augmentation and schedules."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ntf_model.baselines._caddm import facial_swap
from ntf_model.baselines._sbi_sam import SAM
from ntf_model.baselines.caddm import degrade, jitter
from ntf_model.data.data import Item
from ntf_model.errors import InputError
from ntf_model.recipes import blending, transforms
from ntf_model.recipes.faces import five_points, template_landmarks
from ntf_model.recipes.landmarks import Landmarks
from ntf_model.training.batch_norm import measure_batch_norm


@pytest.fixture
def face() -> np.ndarray:
    """A smooth picture, 128 px."""
    coarse = np.random.default_rng(0).integers(40, 220, (8, 8, 3), dtype=np.uint8)
    return transforms.resize(coarse, (128, 128), "bicubic")


def test_the_same_draw_gives_the_same_pseudo_fake(face: np.ndarray) -> None:
    points = template_landmarks(128, 128)
    pairs = [blending.self_blend(face, points, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(pairs[0][1], pairs[1][1])
    assert not np.array_equal(pairs[0][1], pairs[2][1])


@pytest.mark.parametrize("seed", range(6))
def test_a_pseudo_fake_differs_from_its_real_face_only_near_the_face(face: np.ndarray, seed: int) -> None:
    real, fake = blending.self_blend(face, template_landmarks(128, 128), np.random.default_rng(seed))
    assert real.dtype == fake.dtype == np.uint8
    assert real.shape == fake.shape == face.shape
    difference = np.abs(real.astype(int) - fake.astype(int)).max(-1)
    assert difference[48:96, 48:80].max() > 0
    assert difference[:20].max() == 0


def test_a_soft_mask_is_between_0_and_1_and_survives_an_empty_hull() -> None:
    draw = blending.draw_blend(np.random.default_rng(0))
    mask = blending.hull_mask(template_landmarks(200, 160), (200, 160, 3))
    soft = blending.soft_mask(mask, draw)
    assert soft.shape == (200, 160)
    assert soft.min() >= 0
    assert soft.max() == pytest.approx(1, abs=0.05)
    assert np.all(blending.soft_mask(np.zeros_like(mask), draw) == 0)


def test_an_eroded_float_mask_is_smaller_than_the_rounded_one() -> None:
    draw = blending.BlendDraw(220, 220, 17, 17, 5, 1.0)
    mask = blending.hull_mask(template_landmarks(220, 220), (220, 220, 3))
    assert blending.soft_mask(mask.astype(np.float32), draw).sum() < 0.8 * blending.soft_mask(mask, draw).sum()


def test_template_landmarks_lie_in_the_picture_in_order() -> None:
    points = template_landmarks(300, 200)
    assert points.shape == (68, 2)
    assert np.all((points > 0) & (points < [200, 300]))
    left_eye, right_eye, nose, left_mouth, right_mouth = five_points(points)
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_eye[1] < nose[1] < left_mouth[1]
    assert left_mouth[0] < right_mouth[0]
    assert points[8, 1] > left_mouth[1]  # the chin


def test_landmarks_come_from_a_file_by_id(tmp_path: Path) -> None:
    file = tmp_path / "landmarks.json"
    known = template_landmarks(64, 64) + 1
    file.write_text(json.dumps({"a.png": known.tolist()}))
    image = np.zeros((64, 64, 3), np.uint8)
    landmarks = Landmarks(str(file))
    assert np.allclose(landmarks.of(Item(image, 0, "real", "a.png")), known)
    assert np.allclose(landmarks.of(Item(image, 0, "real", "b.png")), known - 1)
    file.write_text(json.dumps({"a.png": [[1, 2, 3]]}))
    with pytest.raises(InputError, match=r"a\.png has landmarks of the shape \[1, 3\]"):
        Landmarks(str(file))
    file.write_text("[")
    with pytest.raises(InputError, match="holds no landmarks"):
        Landmarks(str(file))
    with pytest.raises(InputError, match="cannot read the landmarks"):
        Landmarks(str(tmp_path / "none.json"))


def test_a_swap_changes_the_window_it_names(face: np.ndarray) -> None:
    other = 255 - face
    points = template_landmarks(128, 128)
    for seed in range(4):
        out, boxes = facial_swap.swap(other, face, points, np.random.default_rng(seed), window=(80, 120))
        assert boxes.shape == (2, 4)
        assert boxes[0].tolist() == [0, 0, 128, 128]
        left, top, right, bottom = boxes[1].astype(int)
        changed = np.abs(out.astype(int) - face.astype(int)).max(-1) > 8
        assert changed[top:bottom, left:right].mean() > 0.5
        assert changed.sum() - changed[max(0, top - 3) : bottom + 3, max(0, left - 3) : right + 3].sum() == 0


def test_a_swap_of_equal_pictures_is_no_fake(face: np.ndarray) -> None:
    assert facial_swap.swap(face, face, template_landmarks(128, 128), np.random.default_rng(0), window=(80, 120)) is None


def test_the_densest_window_is_found_and_fits() -> None:
    difference = np.zeros((100, 100, 3))
    difference[60:90, 20:50] = 1
    assert facial_swap.densest_window(difference, 30, 30) == (20, 60, 50, 90)
    assert facial_swap.densest_window(difference, 500, 500) == (0, 0, 100, 100)


def test_boxes_move_with_the_picture() -> None:
    image = np.zeros((224, 224, 3), np.uint8)
    image[80:120, 90:150] = 255
    for seed in range(5):
        moved, boxes = jitter(image, np.array([[90, 80, 150, 120]], np.float32), np.random.default_rng(seed))
        rows, columns = np.nonzero(moved[..., 0] > 128)
        assert np.abs(boxes[0] - [columns.min(), rows.min(), columns.max(), rows.max()]).max() < 4
    assert jitter(image, None, np.random.default_rng(0))[1] is None


def test_degrading_keeps_the_form(face: np.ndarray) -> None:
    for seed in range(20):
        out = degrade(face, np.random.default_rng(seed))
        assert out.shape == face.shape
        assert out.dtype == np.uint8


def test_blur_darkens_by_about_a_level_and_leaves_its_input(face: np.ndarray) -> None:
    before = face.copy()
    out = transforms.blur(face, 1.5)
    assert np.array_equal(face, before)
    assert -1.5 < (out.astype(float) - face).mean() < -0.4
    assert np.array_equal(transforms.blur(face, 0.0), face)


def test_crops_of_small_pictures_are_padded_with_black() -> None:
    image = np.full((20, 31, 3), 200, np.uint8)
    for crop in (transforms.center_crop(image, 32), transforms.random_crop(image, 32, np.random.default_rng(0))):
        assert crop.shape == (32, 32, 3)
        assert (crop == 200).all(-1).sum() == 20 * 31
    assert np.array_equal(transforms.center_crop(image, 20), image[:, round(5.5) : round(5.5) + 20])


def test_equal_preprocessing_is_equal() -> None:
    a, b = transforms.Preprocess(crop=32, stats=transforms.IMAGENET), transforms.Preprocess(crop=32, stats=transforms.IMAGENET)
    assert a == b
    assert hash(a) == hash(b)
    assert a != transforms.Preprocess(crop=32, stats=transforms.CLIP)


def test_batch_norm_is_measured_at_the_present_weights() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4, momentum=0.01), torch.nn.AdaptiveAvgPool2d(1))
    batches = [torch.randn(8, 3, 16, 16) + number for number in range(2)]
    measure_batch_norm(network, iter(batches))
    with torch.no_grad():
        mean = torch.stack([network[0](batch).mean((0, 2, 3)) for batch in batches]).mean(0)
    assert torch.allclose(network[1].running_mean, mean, atol=1e-5)
    assert network[1].num_batches_tracked == 2
    assert network[1].momentum == 0.01  # as it was, for the training that goes on


def test_sam_moves_the_weights_from_where_they_were() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = SAM([weight], lr=0.1, momentum=0.0, rho=0.5)

    def backward() -> torch.Tensor:
        loss = (weight**2).sum()
        loss.backward()
        return loss

    first, second = optimizer.step(backward)
    worst = torch.tensor([1.0, 2.0]) * (1 + 0.5 / np.sqrt(5))
    assert first == pytest.approx(5.0)
    assert second == pytest.approx(float((worst**2).sum()))
    assert torch.allclose(weight.detach(), torch.tensor([1.0, 2.0]) - 0.1 * 2 * worst)
