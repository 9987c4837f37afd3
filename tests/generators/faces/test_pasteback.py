from __future__ import annotations

import cv2
import numpy as np
import pytest

from generators.faces.align import align, unwarp
from generators.faces.masks import crop_mask
from generators.faces.pasteback import blend_crop, paste_back, paste_window
from tests.generators.faces.conftest import ASTRONAUT_LANDMARKS


@pytest.fixture
def face(astronaut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return align(astronaut, ASTRONAUT_LANDMARKS, "simswap", 224)


def test_pixels_outside_the_mask_stay(astronaut: np.ndarray, face: tuple[np.ndarray, np.ndarray]) -> None:
    crop, matrix = face
    out = paste_back(astronaut, 255 - crop, matrix)
    mask = crop_mask(matrix, 224, astronaut.shape)
    assert np.array_equal(out[mask == 0], astronaut[mask == 0])
    assert np.abs(out.astype(int) - astronaut)[mask > 0.99].mean() > 40


def test_bytes_and_floats_are_the_same_crop(astronaut: np.ndarray, face: tuple[np.ndarray, np.ndarray]) -> None:
    crop, matrix = face
    as_float = paste_back(astronaut, crop.astype(np.float32) / 255, matrix).astype(int)
    assert np.abs(paste_back(astronaut, crop, matrix) - as_float).max() == 0


def test_a_swap_that_changed_nothing_gives_the_picture_when_the_target_is_told(
    astronaut: np.ndarray, face: tuple[np.ndarray, np.ndarray]
) -> None:
    crop, matrix = face
    assert np.array_equal(paste_back(astronaut, crop, matrix, target=crop), astronaut)
    brighter = paste_back(astronaut, np.clip(crop.astype(np.float32) / 255 + 0.1, 0, 1), matrix, target=crop)
    inside = crop_mask(matrix, 224, astronaut.shape) > 0.999
    assert np.median(brighter[inside].astype(int) - astronaut[inside]) == pytest.approx(25.5, abs=1)


def test_blend_keeps_the_target_where_the_mask_is_zero() -> None:
    swapped, target = np.full((2, 4, 4, 3), 0.8, np.float32), np.full((2, 4, 4, 3), 0.2, np.float32)
    mask = np.zeros((2, 4, 4), np.float32)
    mask[:, :2] = 1
    mask[:, 2] = 0.5
    out = blend_crop(swapped, target, mask)
    assert np.allclose(out[:, [0, 2, 3], 0, 0], [0.8, 0.5, 0.2])


def test_real_faces_come_back(portraits: list[np.ndarray], portrait_faces: list[list]) -> None:
    """Crop and inverse warp on real 1024 px portraits. The picture is got back to two grey levels inside the mask if only what the
    swap changed is pasted; the plain inverse warp loses what the crop's pixels cannot hold."""
    for image, faces in zip(portraits[::8], portrait_faces[::8], strict=True):
        crop, matrix = align(image, faces[0].landmarks, "ffhq", 512)
        inside = crop_mask(matrix, 512, image.shape) > 0.99
        kept = paste_back(image, crop, matrix, target=crop).astype(int) - image
        plain = paste_back(image, crop, matrix).astype(int) - image
        assert np.abs(kept)[inside].max() <= 2
        assert np.abs(plain)[inside].mean() <= 6


@pytest.mark.parametrize("at", [(256, 250), (40, 60), (500, 300), (-400, -400)])
def test_the_faces_window_alone_is_worked_on_and_the_pixels_are_the_same(astronaut: np.ndarray, at: tuple[int, int]) -> None:
    """Against OpenCV's warp of the whole picture, mask and layer; the width is a multiple of 16, see `unwarping`."""
    turned = cv2.getRotationMatrix2D(at, 12, 1.3)
    matrix = np.column_stack([turned[:, :2], turned[:, 2] + np.array([112, 112]) - at])
    crop = np.random.default_rng(3).integers(0, 256, (224, 224, 3), np.uint8)
    for erode, blur in ((9, 9), (40, 41)):
        white = unwarp(np.full((224, 224), 255.0), matrix, astronaut.shape)
        white[white > 20] = 255
        mask = cv2.GaussianBlur(cv2.erode(white, np.ones((erode, erode), np.uint8)), (blur, blur), 0) / 255
        layer = unwarp(crop / np.float32(255), matrix, astronaut.shape).astype(np.float64) * 255
        expected = np.clip(mask[..., None] * layer + (1 - mask[..., None]) * astronaut, 0, 255).astype(np.uint8)
        picture, window, weight = paste_window(astronaut, crop, matrix, erode=erode, blur=blur)
        assert np.array_equal(picture, expected)
        assert np.abs(window.within(astronaut.shape, weight) - mask).max() < 1e-12
        assert np.array_equal(window.within(astronaut.shape, weight) > 0, mask > 0)
        inside = np.ones(astronaut.shape[:2], bool)
        window.of(inside)[:] = False
        assert np.array_equal(picture[inside], astronaut[inside])
    if at[0] == 40:
        assert window.shape[0] < 330 and window.shape[1] < 330 and window.left == 0
