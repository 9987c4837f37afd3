"""Decoding is bounded and upright, fitting is the same for all, and the same pixels give the same bytes."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from generators.errors import InputError
from pipelines import images
from pipelines.images import decode, decode_stored, encode, encode_uncompressed, fit, perceptual_hash
from pipelines.manifest.schema import Codec

RNG = np.random.default_rng(0)


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


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


@pytest.mark.parametrize("sides", [(1, 1), (40, 60), (131, 67)])
def test_a_stored_png_is_decoded_without_the_decoder_of_strangers_and_to_the_same_pixels(
    sides: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(*sides)
    stored = [encode(image, Codec()), encode_uncompressed(image)]
    by_the_rules = [decode(data, "x") for data in stored]
    monkeypatch.setattr(images, "decode", lambda data, name: pytest.fail("asked the decoder of strangers"))
    for data, expected in zip(stored, by_the_rules, strict=True):
        pixels = decode_stored(data, "x")
        assert np.array_equal(pixels, expected)
        assert np.array_equal(pixels, image)
        assert pixels.flags.writeable
        assert pixels.flags.c_contiguous


def test_what_is_no_plain_png_is_decoded_as_a_strangers_picture() -> None:
    image = picture()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, grey, paletted, see_through = (io.BytesIO() for _ in range(4))
    Image.fromarray(image).save(turned, "PNG", exif=exif)
    Image.fromarray(image[..., 0]).save(grey, "PNG")
    Image.fromarray(image).quantize(16).save(paletted, "PNG")
    Image.fromarray(np.dstack([image, image[..., :1]])).save(see_through, "PNG")
    for stream in (turned, grey, paletted, see_through):
        pixels = decode_stored(stream.getvalue(), "x")
        assert np.array_equal(pixels, decode(stream.getvalue(), "x"))
        assert pixels.flags.writeable
    for codec in (Codec(format="jpeg", quality=90), Codec(format="webp")):
        data = encode(image, codec)
        assert np.array_equal(decode_stored(data, "x"), decode(data, "x"))


def test_damage_in_a_stored_png_is_told_as_in_any_other(capfd: pytest.CaptureFixture[str]) -> None:
    whole = encode(picture(), Codec())
    rotten, header = bytearray(whole), whole[16:29]
    rotten[1000] ^= 255
    cut = zlib.compress(b"\0" * 40 * 181)[:-20]
    wrong_filter = zlib.compress(b"\x09" * 40 * 181)
    damaged = [
        bytes(rotten),
        whole[:2000],
        *(whole[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", d) + whole[-12:] for d in (cut, wrong_filter)),
    ]
    for data in damaged:
        with pytest.raises(InputError, match="the picture is not an image that can be read"):
            decode_stored(data, "the picture")
    for data in damaged[:2]:  # these never reach libpng, which would print what it thinks of them
        capfd.readouterr()
        with pytest.raises(InputError):
            decode_stored(data, "x")
        assert capfd.readouterr().err == ""
