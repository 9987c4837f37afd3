from __future__ import annotations

import cv2
import numpy as np
import pytest

from generators.errors import InputError
from generators.faces.align import TEMPLATES, align, estimate_transform, invert, template_points, transform_points, unwarp
from generators.faces.masks import crop_mask

TURN = np.array([[1.3, -0.4, 20.0], [0.4, 1.3, -7.0]])  # a similarity


@pytest.mark.parametrize("template", list(TEMPLATES))
def test_a_moved_template_is_brought_back_exactly(template: str) -> None:
    for points in template_points(template, 224):
        matrix = estimate_transform(transform_points(points, TURN), template, 224)
        assert np.allclose(matrix, invert(TURN), atol=1e-9)


def test_the_similarity_is_scikit_images() -> None:
    from skimage.transform import SimilarityTransform

    rng = np.random.default_rng(0)
    for _ in range(20):
        landmarks = template_points("arcface", 112)[0] * 3 + rng.normal(0, 8, (5, 2))
        want = SimilarityTransform.from_estimate(landmarks, template_points("arcface", 112)[0]).params[:2]
        assert np.allclose(estimate_transform(landmarks, "arcface", 112), want, atol=1e-9)


def test_a_mirrored_face_is_never_mirrored_back() -> None:
    landmarks = template_points("arcface", 112)[0] * [-1, 1] + [112, 0]
    matrix = estimate_transform(landmarks, "arcface", 112)
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize("size", [112, 128, 224, 256])
def test_arcface_crops_are_insightfaces(size: int) -> None:
    face_align = pytest.importorskip("insightface.utils.face_align")
    landmarks = np.float32([[110, 122], [172, 117], [141, 154], [119, 190], [166, 184]])
    assert np.allclose(estimate_transform(landmarks, "arcface", size), face_align.estimate_norm(landmarks, size), atol=1e-4)


def test_of_several_templates_the_one_that_fits_is_used() -> None:
    profile = template_points("simswap", 112)[0]
    matrix = estimate_transform(profile * 2, "simswap", 112)
    assert np.allclose(matrix, [[0.5, 0, 0], [0, 0.5, 0]], atol=1e-9)


@pytest.mark.parametrize("landmarks", [np.zeros((5, 2)), np.full((5, 2), np.nan), np.zeros((4, 2))])
def test_landmarks_that_cannot_be_a_face_are_refused(landmarks: np.ndarray) -> None:
    with pytest.raises(InputError, match="five finite landmarks"):
        estimate_transform(landmarks, "ffhq", 512)


def test_an_unknown_template_and_missing_landmarks_are_named() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(InputError, match=r"no face template 'mtcnn'.*arcface"):
        align(image, np.eye(5, 2), "mtcnn", 112)
    with pytest.raises(InputError, match="needs landmarks"):
        align(image, None, "ffhq", 112)


@pytest.mark.parametrize(("template", "size"), [("arcface", 112), ("simswap", 224), ("ffhq", 512)])
def test_there_and_back_is_within_two_grey_levels_inside_the_mask(template: str, size: int) -> None:
    """On a picture without detail finer than the crop's pixels, so that only the geometry can go wrong."""
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.normal(size=(480, 480, 3)), (0, 0), 12)
    smooth = cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).round().astype(np.uint8)
    landmarks = np.float32([[190, 202], [252, 197], [221, 234], [199, 270], [246, 264]])  # the crops lie inside the picture
    crop, matrix = align(smooth, landmarks, template, size)
    back = unwarp(crop, matrix, smooth.shape).astype(int)
    inside = crop_mask(matrix, size, smooth.shape) > 0.99
    assert inside.sum() > 1000
    assert np.abs(back - smooth)[inside].max() <= 2


def test_an_aligned_image_is_only_brought_to_size() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    crop, matrix = align(image, None, "aligned", 64)
    assert np.array_equal(crop, image)
    assert np.array_equal(matrix, [[1, 0, 0], [0, 1, 0]])
    crop, matrix = align(image, None, "aligned", 32)
    assert np.allclose(crop, image.reshape(32, 2, 32, 2, 3).mean((1, 3)), atol=0.51)
    assert np.allclose(transform_points(np.array([[0.5, 0.5]]), matrix), 0)  # the first four pixels' middle is the first pixel's
    with pytest.raises(InputError, match="square"):
        align(image[:32], None, "aligned", 32)
