"""Decoding is bounded and upright, fitting is the same for all, and the same pixels give the same bytes."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from generators.errors import InputError
from pipelines.images import decode, encode, fit, perceptual_hash
from pipelines.manifest.schema import Codec

RNG = np.random.default_rng(0)


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("codec", [Codec(format="png"), Codec(format="webp")])
def test_lossless_codecs_give_the_same_pixels_back(codec: Codec) -> None:
    image = picture()
    assert np.array_equal(decode(encode(image, codec), "x"), image)


def test_jpeg_keeps_colour_at_full_resolution() -> None:
    data = encode(np.full((32, 32, 3), (200, 30, 60), np.uint8), Codec(format="jpeg", quality=95))
    with Image.open(io.BytesIO(data)) as opened:
        assert [component[1:3] for component in opened.layer] == [(1, 1)] * 3
    assert np.abs(decode(data, "x").astype(int) - (200, 30, 60)).max() <= 3


def test_encoding_is_deterministic_and_without_metadata() -> None:
    image = picture()
    first = encode(image, Codec())
    assert first == encode(image.copy(), Codec())
    with Image.open(io.BytesIO(first)) as opened:
        assert not opened.info.get("exif")
        assert not opened.text


def test_exif_orientation_is_obeyed_and_dropped() -> None:
    image = picture(20, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", exif=exif)
    assert np.array_equal(decode(buffer.getvalue(), "x"), np.rot90(image, -1))


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\x00" * 100)) + chunk(b"IEND", b"")
    with pytest.raises(InputError, match=r"bomb\.png"):
        decode(bomb, "bomb.png")


@pytest.mark.parametrize("data", [b"", b"GIF89a" + b"\x00" * 20, b"\x89PNG\r\n\x1a\n", b"<svg/>"])
def test_other_files_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(InputError, match="thing"):
        decode(data, "thing")


def test_fit_takes_the_centre_square_and_leaves_the_right_size_alone() -> None:
    image = picture(40, 60)
    image[:, :10] = image[:, -10:] = 0
    assert fit(image, 20).shape == (20, 20, 3)
    square = picture(32, 32)
    assert fit(square, 32) is square
    flat = np.zeros((50, 90, 3), np.uint8)
    flat[:, 20:70] = 255  # the centre square is white
    assert fit(flat, 25).min() > 250


def test_near_duplicates_have_near_hashes() -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    image = np.stack([np.add.outer(ramp // 2, ramp // 2)] * 3, -1).astype(np.uint8)
    image[10:30, 20:50] = 20
    close = decode(encode(image, Codec(format="jpeg", quality=80)), "x")
    distance = (int(perceptual_hash(image), 16) ^ int(perceptual_hash(close), 16)).bit_count()
    other = (int(perceptual_hash(image), 16) ^ int(perceptual_hash(picture(64, 64)), 16)).bit_count()
    assert distance <= 6 < other
