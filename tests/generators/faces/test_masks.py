from __future__ import annotations

import numpy as np

from generators.faces.masks import crop_mask, face_mask, soft_erosion


def labels_with_square(side: int, shift: int = 0) -> np.ndarray:
    """Skin (1) in a square of background, with a mouth (11) and, beside it, hair (17) that is not face."""
    labels = np.zeros((512, 512), np.uint8)
    low = 256 - side // 2 + shift
    labels[low : low + side, low : low + side] = 1
    labels[low + side // 2 : low + side // 2 + 4, low : low + side] = 11
    labels[:20] = 17
    return labels


def test_face_masks_are_one_inside_zero_outside_and_soft_between() -> None:
    mask = face_mask(labels_with_square(256)[None], 224)[0]
    assert mask.shape == (224, 224)
    assert mask.dtype == np.float32
    assert mask[112, 112] == 1
    assert mask[0].max() == 0, "hair is not face"
    assert mask[112, 57:75].min() > 0
    assert np.all(np.diff(mask[112, 40:112]) >= -1e-6), "it must rise towards the middle"
    assert 0.2 < mask.mean() < 0.25


def test_masks_of_a_batch_are_those_of_each_alone() -> None:
    labels = np.stack([labels_with_square(300), labels_with_square(200, 40), labels_with_square(120, -60)])
    together = face_mask(labels, 128)
    alone = np.concatenate([face_mask(parsed[None], 128) for parsed in labels])
    assert np.abs(together - alone).max() < 1e-6


def test_too_little_face_leaves_the_whole_crop() -> None:
    labels = np.stack([labels_with_square(2), labels_with_square(256)])
    masks = face_mask(labels, 64)
    assert masks[0].min() == 1
    assert masks[1].min() == 0


def test_soft_erosion_shrinks_and_survives_empty_and_full_masks() -> None:
    square = np.zeros((64, 64), np.float32)
    square[16:48, 16:48] = 1
    assert soft_erosion(np.zeros((64, 64), np.float32), 9, 0.9, 2).max() == 0
    assert soft_erosion(np.ones((64, 64), np.float32), 9, 0.9, 2)[32, 32] == 1
    soft = soft_erosion(square, 9, 0.9, 2)
    assert (soft >= 1).sum() < square.sum()
    assert soft[0, 0] == 0


def test_crop_mask_lies_within_the_crop_and_fades() -> None:
    matrix = np.array([[1.0, 0, -60], [0, 1.0, -50]])
    mask = crop_mask(matrix, 200, (300, 320, 3))
    assert mask.shape == (300, 320)
    assert mask[150, 160] > 0.999
    assert mask[:50].max() == 0
    assert mask[:, :60].max() == 0
    assert mask[150, 70] < mask[150, 80] < mask[150, 90]
