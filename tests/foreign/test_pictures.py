"""The one decoder: ordinary pictures keep their values, deep ones are scaled, and whatever is wrong is one line with the file's name."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

import foreign.pictures
from foreign.errors import InputError
from foreign.pictures import Decoded, decode, decode_fully, decode_pil, opened, read_image

RAMP = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (8, 1))
COLOURS = np.random.default_rng(1).integers(0, 256, (20, 31, 3), dtype=np.uint8)


def encoded(picture: Image.Image | np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(stream, form, **options)
    return stream.getvalue()


def with_chunk(png: bytes, kind: bytes, body: bytes, at: int = 33) -> bytes:
    return png[:at] + struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) + png[at:]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM"])
def test_an_ordinary_picture_of_every_format_has_pillows_own_values(form: str) -> None:
    data = encoded(COLOURS, form)
    with Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(picture.convert("RGB"))
    answer = decode_fully(data, "x")
    assert answer.changes == () and answer.pixels.dtype == np.uint8
    assert np.array_equal(answer.pixels, expected)


@pytest.mark.parametrize(("mode", "form"), [("1", "PNG"), ("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("CMYK", "TIFF")])
def test_other_modes_of_8_bits_have_pillows_own_values(mode: str, form: str) -> None:
    data = encoded(Image.fromarray(COLOURS).convert(mode), form)
    with Image.open(io.BytesIO(data)) as picture:
        assert np.array_equal(decode(data, "x"), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize(
    "data",
    [
        encoded(RAMP),
        encoded(RAMP, "TIFF"),
        encoded(RAMP.astype(">u2"), "TIFF"),
        encoded(RAMP.astype(np.int32), "TIFF"),
        encoded(RAMP.astype(np.int32), "PPM"),
        encoded(RAMP, "JPEG2000"),
        encoded(Image.frombytes("I;16B", (64, 8), RAMP.astype(">u2").tobytes()), "TIFF"),
        encoded(RAMP.astype(np.float32) / 65535, "TIFF"),
        encoded(RAMP.astype(np.float32), "TIFF"),
        encoded(RAMP.astype(np.float32) / 257, "TIFF"),
    ],
)
def test_deep_grey_is_scaled_and_not_clipped(data: bytes) -> None:
    answer = decode_fully(data, "x")
    assert np.abs(answer.pixels[..., 0].astype(int) - (RAMP >> 8)).max() <= 1
    assert "scaled to 8 bits" in answer.changes[0]


def test_16_bit_grey_is_what_opencv_makes_of_it() -> None:
    data = encoded(RAMP)
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decode(data, "x"), theirs)


def test_32_bit_integers_with_8_bit_values_keep_them() -> None:
    grey = COLOURS[..., 0].astype(np.int32)
    assert np.array_equal(decode(encoded(grey, "TIFF"), "x")[..., 1], grey)


@pytest.mark.parametrize("value", [-1.0, 1e9, np.nan, np.inf])
def test_values_without_a_rule_are_refused_by_name(value: float) -> None:
    grey = np.full((4, 4), 0.5, np.float32)
    grey[1, 1] = value
    with pytest.raises(InputError, match=r"odd\.tif has values"):
        decode(encoded(grey, "TIFF"), "odd.tif")


def test_metadata_of_any_size_are_left_out() -> None:
    plain = encoded(COLOURS)
    noise = np.random.default_rng(0).bytes(1_200_000)
    bodies = {b"iCCP": b"icc\0\0" + zlib.compress(noise), b"zTXt": b"a\0\0" + zlib.compress(bytes(10**8)), b"tEXt": b"a\0" + noise}
    for kind, body in bodies.items():
        data = with_chunk(plain, kind, body)
        assert np.array_equal(decode(data, "x"), COLOURS), kind
        with opened(data, "x") as picture:
            assert picture.size == (31, 20)


def test_damaged_metadata_are_left_out() -> None:
    plain = encoded(COLOURS)
    end = len(plain) - 12
    assert np.array_equal(decode(with_chunk(plain, b"iCCP", b"icc\0\0" + b"no zlib", end), "x"), COLOURS)
    assert np.array_equal(decode(with_chunk(plain, b"iTXt", b"\xff\0\1\7"), "x"), COLOURS)
    assert np.array_equal(decode(with_chunk(plain, b"eXIf", b"II*\0\xff\xff\xff\x7f"), "x"), COLOURS)
    jpeg = encoded(COLOURS, "JPEG")
    damaged = jpeg[:2] + b"\xff\xe1\x00\x10Exif\0\0II*\0\x08\0\0" + jpeg[2:]
    assert np.array_equal(decode(damaged, "x"), decode(jpeg, "x"))


def test_all_eight_orientations_are_turned_upright() -> None:
    for number in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = number
        data = encoded(COLOURS, exif=exif)
        with Image.open(io.BytesIO(data)) as picture:
            assert np.array_equal(decode(data, "x"), np.asarray(ImageOps.exif_transpose(picture))), number


def test_transparency_shows_white_and_not_the_hidden_colour() -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., 0], pixels[:2, :, 3] = 200, 255
    answer = decode_fully(encoded(pixels), "x")
    assert answer.changes == ("transparency laid on white",)
    assert np.array_equal(np.unique(answer.pixels.reshape(-1, 3), axis=0), [[200, 0, 0], [255, 255, 255]])


def test_a_colour_that_is_transparent_by_name_is_white_too() -> None:
    palette = Image.fromarray(COLOURS).convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert decode(encoded(palette), "x")[0, 0].tolist() == [255, 255, 255]


def test_srgb_profiles_change_nothing_and_others_are_converted() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    answer = decode_fully(encoded(COLOURS, icc_profile=srgb), "x")
    assert answer.changes == () and np.array_equal(answer.pixels, COLOURS)
    wide = srgb.replace(b"rXYZ", b"tmpX").replace(b"gXYZ", b"rXYZ").replace(b"tmpX", b"gXYZ")  # red and green change places
    answer = decode_fully(encoded(COLOURS, icc_profile=wide), "x")
    assert answer.changes == ("colours converted from their ICC profile to sRGB",)
    assert np.abs(answer.pixels.astype(int) - COLOURS[..., [1, 0, 2]]).max() <= 2


@pytest.mark.parametrize("profile", [b"no profile", b"\0" * 200, os.urandom(5000)])
def test_a_profile_that_cannot_be_used_is_left_out_and_said(profile: bytes) -> None:
    answer = decode_fully(encoded(COLOURS, icc_profile=profile), "x")
    assert answer == Decoded(answer.pixels, ("ICC profile that could not be used left out",))
    assert np.array_equal(answer.pixels, COLOURS)


def test_an_eps_starts_no_other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("a program was started")

    for name in ("Popen", "check_call", "run", "call"):
        monkeypatch.setattr(subprocess, name, started)
    (tmp_path / "a.png").write_bytes(encoded(COLOURS, "EPS"))
    with pytest.raises(InputError, match=r"a\.png is not an image that can be read"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("form", ["ICO", "PCX", "TGA", "DDS", "SGI", "QOI", "ICNS"])
def test_formats_that_are_not_listed_are_refused(form: str) -> None:
    with pytest.raises(InputError, match="known format"):
        decode(encoded(np.zeros((32, 32, 3), np.uint8), form), "x")


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000"])
def test_too_many_pixels_are_refused_by_the_header(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign.pictures, "MAX_PIXELS", 20 * 31 - 1)
    with pytest.raises(InputError, match=r"x is 31 x 20 px"):
        decode(encoded(COLOURS, form), "x")


def test_a_webp_of_16383_px_a_side_takes_no_memory() -> None:
    data = bytearray(encoded(Image.fromarray(COLOURS).convert("RGBA"), "WEBP", icc_profile=b"p" * 8))
    assert data[12:16] == b"VP8X"
    data[24:30] = b"\xfe\x3f\0\xfe\x3f\0"
    with pytest.raises(InputError, match="16383 x 16383"):
        decode(bytes(data), "x")


@pytest.mark.parametrize("kind", ["FIFO", "folder", "device"])
def test_what_is_no_plain_file_is_refused_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "a.png"
    if kind == "FIFO":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place = Path("/dev/zero")
    with pytest.raises(InputError, match=f"is a {kind}, not a file"):
        read_image(place)


def test_names_of_any_kind_are_one_line() -> None:
    for name in ("a\nb.png", "a\x1b[2Jb.png", "n" * 5000, "a\0b"):
        for reading in (lambda name=name: decode(b"", name), lambda name=name: read_image(Path(name))):
            with pytest.raises(InputError) as caught:
                reading()
            assert str(caught.value).isprintable() and len(str(caught.value)) < 600


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM", "BMP"])
def test_a_cut_or_changed_picture_is_a_picture_or_one_line(form: str) -> None:
    data, rng = encoded(COLOURS, form), np.random.default_rng(2)
    for number in range(120):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            changed[place] = rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))])
        try:
            answer = decode(bytes(changed[: int(rng.integers(len(data)))] if number % 3 == 0 else changed), "x.bin")
            assert answer.dtype == np.uint8 and answer.ndim == 3 and answer.shape[2] == 3
        except InputError as error:
            assert "x.bin" in str(error) and str(error).isprintable()


def test_what_pillow_has_opened_goes_by_the_same_rules() -> None:
    assert np.array_equal(decode_pil(Image.fromarray(RAMP), "x")[..., 0], RAMP >> 8)
    assert np.array_equal(decode_pil(Image.fromarray(COLOURS), "x"), COLOURS)
