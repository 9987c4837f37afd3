"""Restored faces are pasted in windows: the same bytes as when every step works on the whole picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from generators.faces import restoring
from generators.faces.align import template_points
from generators.faces.restoring import CODEFORMER, EDGE_SHARE, FACEXLIB, PasteStyle, face_matrix, paste_faces
from generators.faces.unwarping import Window, window_around
from generators.networks.faces.parsenet import FACE_LABELS

SIZE = 96  # of the faces


def plainly(
    picture: np.ndarray,
    faces: Sequence[np.ndarray],
    matrices: Sequence[np.ndarray],
    *,
    upscale: int,
    labels: Sequence[np.ndarray] | None,
    style: PasteStyle,
) -> tuple[np.ndarray, np.ndarray]:
    """`paste_faces` on the whole picture, with OpenCV's own warp."""
    height, width = (side * upscale for side in picture.shape[:2])
    canvas = cv2.resize(picture, (width, height), interpolation=style.interpolation).astype(np.float64)
    whole = np.zeros((height, width), np.float32)
    for index, (face, matrix) in enumerate(zip(faces, matrices, strict=True)):
        outward = cv2.invertAffineTransform(matrix) * upscale
        outward[:, 2] += 0.5 * upscale if upscale > 1 else 0.0
        layer = cv2.warpAffine(face, outward, (width, height)).astype(np.float64)
        white = cv2.warpAffine(np.ones(face.shape[:2], np.float32), outward, (width, height))
        eroded = cv2.erode(white, np.ones((2 * upscale, 2 * upscale), np.uint8))
        edge = int(np.sqrt(eroded.sum())) // EDGE_SHARE
        square = eroded
        if edge:
            square = cv2.GaussianBlur(cv2.erode(eroded, np.ones((2 * edge, 2 * edge), np.uint8)), (2 * edge + 1,) * 2, 0)
        mask = square
        if labels is not None:
            seen = np.where(np.isin(labels[index], FACE_LABELS), np.float32(255), np.float32(0))
            for _ in range(2):
                seen = cv2.GaussianBlur(seen, (101, 101), 11)
            seen[:10], seen[-10:], seen[:, :10], seen[:, -10:] = 0, 0, 0, 0
            mask = cv2.warpAffine(cv2.resize(seen / 255, face.shape[:2]), outward, (width, height))
            mask = np.minimum(mask, square) if style.square else mask
        if labels is None or style.square:
            layer *= eroded[..., None]
        canvas = mask[..., None] * layer + (1 - mask[..., None]) * canvas
        whole = mask + (1 - mask) * whole
    return np.clip(canvas, 0, 255).astype(np.uint8), whole


def scene(seed: int, count: int) -> dict[str, Any]:
    """A picture, restored faces, their labels, and matrices of faces that are turned, of all sizes, and partly outside."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(150, 420, 2))
    points = []
    for _ in range(count):
        angle, side = rng.uniform(-1.5, 1.5), rng.uniform(25, 260)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = rng.uniform(-0.1, 1.1, 2) * (width, height)
        points.append((template_points("ffhq", 512)[0] / 512 - 0.5) @ turn.T * side + middle)
    labels = [np.where(np.hypot(*np.mgrid[-1:1:128j, -1:1:128j]) < rng.uniform(0.5, 1.2), 1, 0).astype(np.uint8) for _ in range(count)]
    return {
        "picture": rng.integers(0, 256, (height, width, 3), np.uint8),
        "faces": [rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8) for _ in range(count)],
        "matrices": [face_matrix(landmarks.astype(np.float32), SIZE) for landmarks in points],
        "labels": labels,
    }


@pytest.mark.parametrize("style", [FACEXLIB, CODEFORMER], ids=["facexlib", "codeformer"])
@pytest.mark.parametrize("upscale", [1, 2])
@pytest.mark.parametrize("parsed", [True, False], ids=["parsed", "square"])
def test_windows_give_the_bytes_of_the_whole_picture(style: PasteStyle, upscale: int, parsed: bool) -> None:
    covered = []
    for seed in range(8):
        asked = scene(seed, count=1 + seed % 3) | {"upscale": upscale, "style": style}
        asked["labels"] = asked["labels"] if parsed else None
        (pasted, mask), (wanted, wanted_mask) = paste_faces(**asked), plainly(**asked)
        assert np.array_equal(pasted, wanted), seed
        assert np.array_equal(mask, wanted_mask), seed
        covered.append(mask.any())
    assert sum(covered) >= 6


def test_a_picture_without_faces_is_enlarged_and_nothing_else() -> None:
    picture = scene(1, 0)["picture"]
    pasted, mask = paste_faces(picture, [], [], upscale=2)
    assert np.array_equal(pasted, cv2.resize(picture, None, fx=2, fy=2, interpolation=FACEXLIB.interpolation)) and not mask.any()


def test_a_small_face_in_a_large_picture_is_warped_into_its_window_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pixels that are warped are few, whatever the size of the picture."""
    warped: list[int] = []
    plain = restoring.warp_window

    def counting(crop: np.ndarray, outward: np.ndarray, window: Window, shape: tuple[int, ...]) -> np.ndarray:
        warped.append(window.shape[0] * window.shape[1])
        return plain(crop, outward, window, shape)

    monkeypatch.setattr(restoring, "warp_window", counting)
    matrix = face_matrix((template_points("ffhq", 512)[0] / 512 * 80 + 900).astype(np.float32), SIZE)
    picture = np.zeros((2000, 2000, 3), np.uint8)
    pasted, mask = paste_faces(picture, [np.full((SIZE, SIZE, 3), 200, np.uint8)], [matrix])
    assert max(warped) < 0.03 * 2000 * 2000
    assert pasted.any() and mask.max() == 1
    assert not picture.any(), "the picture that was given stays as it was"


def test_the_window_is_that_of_the_transform_out_of_the_crop() -> None:
    outward = np.array([[2.0, 0.0, 10.0], [0.0, 2.0, 20.0]])
    assert window_around(outward, 10, (100, 100)) == Window(18, 8, 41, 31)
    assert window_around(outward, 10, (100, 100), margin=50) == Window(0, 0, 91, 81)
