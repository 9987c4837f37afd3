"""What detectors take for a picture: the same picture in every form, or a refusal."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ntf_model.data.data import single_split
from ntf_model.data.pictures import as_picture, as_pictures
from ntf_model.errors import InputError
from tests.ntf_model.judging.test_evaluate import Roughness

RGB = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
GREY = RGB[..., 0]
ALPHA = np.full((6, 5, 1), 200, np.uint8)


def encoded(picture: Image.Image, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize(
    "value",
    [
        RGB,
        RGB[::-1][::-1],
        np.dstack([RGB, np.full_like(ALPHA, 255)]),
        RGB.astype(np.uint16) * 257,
        RGB / 255,
        (RGB / 255).astype(np.float32),
        Image.fromarray(RGB),
        Image.fromarray(np.dstack([RGB, np.full_like(ALPHA, 255)])),
        encoded(Image.fromarray(RGB)),
        bytearray(encoded(Image.fromarray(RGB), "BMP")),
    ],
)
def test_the_same_picture_in_every_form(value: Any) -> None:
    picture = as_picture(value)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, RGB)


@pytest.mark.parametrize("channels", [RGB, GREY[..., None]], ids=["RGB", "grey"])
def test_what_is_transparent_shows_white_in_an_array_as_in_a_file(channels: np.ndarray) -> None:
    hidden, half = np.zeros_like(ALPHA), np.full_like(ALPHA, 128)
    assert (as_picture(np.dstack([channels, hidden])) == 255).all()
    for array in (np.dstack([channels, ALPHA]), np.dstack([channels, half])):
        expected = as_picture(Image.fromarray(array))
        assert abs(expected.astype(int) - channels).max() > 9
        for value in (array, array.astype(np.uint16) * 257, array / 255, encoded(Image.fromarray(array))):
            assert np.array_equal(as_picture(value), expected)


@pytest.mark.parametrize(
    "value",
    [
        GREY,
        GREY[..., None],
        np.stack([GREY, np.full_like(GREY, 255)], axis=2),
        GREY.astype(np.uint16) << 8,
        GREY / 255,
        Image.fromarray(GREY),
        Image.fromarray(GREY.astype(np.uint16) * 257),
        encoded(Image.fromarray(GREY.astype(np.uint16) * 257)),
    ],
)
def test_grey_of_eight_and_sixteen_bits(value: Any) -> None:
    """det/10: 16 bits were clipped to white."""
    assert np.array_equal(as_picture(value), np.repeat(GREY[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (RGB.astype(float), r"floats that are not all in \[0, 1\]"),
        (RGB / 255 - 0.1, "not all in"),
        (np.full((4, 4, 3), np.nan), "not all in"),
        (RGB.astype(np.int64), "is an array of int64"),
        (RGB > 9, "is an array of bool"),
        (RGB.transpose(2, 0, 1)[:, :, :], r"is an array of shape \[3, 6, 5\]"),
        (RGB[None], r"is an array of shape \[1, 6, 5, 3\]"),
        (RGB[:0], r"is an array of shape \[0, 5, 3\]"),
        (3, "is no picture but int"),
        (None, "is no picture but NoneType"),
        (b"no picture", "p "),
        (Path("/nowhere/x.png"), r"x\.png"),
    ],
)
def test_what_is_no_picture_for_certain_is_refused(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_picture(value, "p")


@pytest.mark.parametrize("value", [RGB, GREY, Image.fromarray(RGB), "photo.png", Path("photo.png"), b"x", 7])
def test_a_single_picture_is_not_taken_for_a_list(value: Any) -> None:
    with pytest.raises(InputError, match="a detector takes a list of pictures"):
        as_pictures(value)


def test_a_detector_takes_all_forms_in_all_methods(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(RGB).save(file)
    values = [RGB, RGB / 255, Image.fromarray(RGB), file, str(file), np.dstack([RGB, np.full_like(ALPHA, 255)])]
    detector = Roughness()
    assert len(set(detector.score(values).tolist())) == 1
    assert [detection.probability for detection in detector(values)] == detector.score([RGB]).tolist() * 6
    assert detector.score(np.stack([RGB, RGB])).tolist() == detector.score([RGB, RGB]).tolist()
    with pytest.raises(InputError, match=r"picture 1 is an array of floats that are not all in \[0, 1\]"):
        detector.score([RGB, RGB.astype(float)])


def test_sixteen_bits_in_a_folder_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    """det/10, in training and detection."""
    for kind, shade in (("real", 0), ("fake", 64)):
        (tmp_path / kind).mkdir()
        grey = (GREY // 2 + shade).astype(np.uint16) * 257
        Image.fromarray(grey).save(tmp_path / kind / "a.png")
        Image.fromarray(grey).save(tmp_path / kind / "b.tiff")
    data = single_split(tmp_path)
    for row in range(len(data)):
        item = data.dataset[row]
        assert np.array_equal(item.image[..., 0], GREY // 2 + 64 * item.label)
