"""What files say of where they come from, in every container that is looked into, and what damaged ones do."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from foreign.provenance import C2PA_BOX, MOST_TEXT, Provenance, provenance_of

TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r xmp:CreatorTool="A tool" Iptc4xmpExt:DigitalSourceType="{TYPE}"/></x:xmpmeta>'.encode()


def plain(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(stream, kind)
    return stream.getvalue()


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    data = plain("PNG")
    inside = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)) for kind, content in chunks
    )
    return data[:33] + inside + data[33:]


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    data = plain("JPEG")
    inside = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content for marker, content in segments)
    return data[:2] + inside + data[2:]


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    data = plain("WEBP")
    body = data[12:] + b"".join(kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) for kind, content in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


MANIFEST = b"JP\0\1\0\0\0\1\0\0\0\x20jumb\0\0\0\x14jumdc2pa" + TYPE.encode()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (plain("JPEG"), Provenance("JPEG")),
        (plain("PNG"), Provenance("PNG")),
        (plain("BMP"), Provenance("")),
        (jpeg((0xEB, MANIFEST)), Provenance("JPEG", c2pa=True, source_types=("trainedAlgorithmicMedia",))),
        (jpeg((0xEB, b"JP\0\1\0\0\0\1jumbother")), Provenance("JPEG")),
        (
            jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)),
            Provenance("JPEG", source_types=("trainedAlgorithmicMedia",), tools=("A tool",)),
        ),
        (jpeg((0xED, b"Photoshop 3.0\0008BIM\x04\x04\0\0\0\0\0\0")), Provenance("JPEG", iptc=True)),
        (png((b"caBX", MANIFEST)), Provenance("PNG", c2pa=True, source_types=("trainedAlgorithmicMedia",))),
        (
            png((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
            Provenance("PNG", source_types=("trainedAlgorithmicMedia",), tools=("A tool",)),
        ),
        (
            png((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))),
            Provenance("PNG", source_types=("trainedAlgorithmicMedia",), tools=("A tool",)),
        ),
        (png((b"tEXt", b"parameters\0a cat, steps: 20")), Provenance("PNG", notes=("parameters",))),
        (webp((b"C2PA", b"x"), (b"XMP ", XMP)), Provenance("WebP", True, False, ("trainedAlgorithmicMedia",), (), ("A tool",))),
        (b"\0\0\0\x0cftypavif" + struct.pack(">I", 24) + b"uuid" + C2PA_BOX, Provenance("ISO media", c2pa=True)),
        (b"\0\0\0\x0cftypavif\0\0\0\0mdat" + XMP, Provenance("ISO media", False, False, ("trainedAlgorithmicMedia",), (), ("A tool",))),
    ],
)
def test_what_a_file_says(data: bytes, expected: Provenance) -> None:
    assert provenance_of(data) == expected
    assert all("\n" not in sentence for sentence in expected.sentences())


def test_sentences() -> None:
    assert Provenance("").sentences() == ["files of this format are not looked into for C2PA or IPTC"]
    assert Provenance("PNG").sentences() == ["C2PA: none", "IPTC: none"]
    assert "signature is not checked" in Provenance("PNG", c2pa=True).sentences()[0]
    assert Provenance("PNG", iptc=True).sentences()[1] == "IPTC: a block without a digital source type"
    assert Provenance("PNG", notes=("prompt",), tools=("x",)).sentences()[2:] == ["a generator's notes: prompt", "made with: x"]


def test_damaged_files_say_what_can_be_read() -> None:
    """Every cut and many single changed bytes: no error, no endless loop."""
    rng = np.random.default_rng(0)
    for data in (
        jpeg((0xEB, MANIFEST)),
        png((b"caBX", MANIFEST), (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + b"junk")),
        webp((b"C2PA", b"x")),
    ):
        for end in range(0, len(data), 7):
            provenance_of(data[:end])
        for _ in range(300):
            changed = bytearray(data)
            changed[int(rng.integers(len(data)))] = int(rng.integers(256))
            provenance_of(bytes(changed))


def test_a_bomb_in_a_text_stays_packed() -> None:
    bomb = zlib.compress(b"a" * (50 * MOST_TEXT) + XMP)
    assert provenance_of(png((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb))) == Provenance("PNG")


def test_a_tool_of_a_hostile_name_is_one_line() -> None:
    evil = XMP.replace(b"A tool", b"\x1b[2J\xe2\x80\xae")
    (tool,) = provenance_of(webp((b"XMP ", evil))).tools
    assert "\x1b" not in tool
    assert "\u202e" not in tool
