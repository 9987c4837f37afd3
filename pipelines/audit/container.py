"""Features of an image file that are not its pixels: what the container says, and who wrote it.

They are read from the file's own structure, nothing is decoded. Features come in families; a value is a number, a word, or None where the
format has no such thing. How large a PNG is, and by which filter each of its rows was written, follows from two things, the settings of its
encoder and its pixels. Only the first is the container's: see `docs/audit.md`.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from generators.errors import InputError
from pipelines.images import FORMATS

Value = float | str | None
Family = dict[str, Value]

DIMENSIONS, FORMAT, QUANTISATION, CHROMA = "dimensions", "format", "quantisation tables", "chroma subsampling"
METADATA, ENCODER, SIZE = "metadata", "encoder", "size beyond the pixels"
FAMILIES = (DIMENSIONS, FORMAT, QUANTISATION, CHROMA, METADATA, ENCODER, SIZE)

# zlib's level and strategy (0 default, 1 filtered, 3 run lengths): what PNG writers use.
DEFLATE_SETTINGS = ((1, 0), (1, 3), (3, 0), (6, 0), (6, 1))
LIBPNG_PIECE = 8192
PNG_METADATA = {b"tEXt": "text", b"zTXt": "text", b"iTXt": "text", b"eXIf": "exif", b"iCCP": "icc", b"tIME": "time", b"pHYs": "density"}
APP_SEGMENTS = {0xE0: "jfif", 0xE1: "exif", 0xE2: "icc", 0xED: "photoshop", 0xEE: "adobe"}
WEBP_METADATA = {b"EXIF": "exif", b"XMP ": "xmp", b"ICCP": "icc"}
KINDS_OF_METADATA = ("jfif", "exif", "xmp", "icc", "photoshop", "adobe", "comment", "text", "time", "density", "other")
# The Huffman tables of JPEG's Annex K.3, which every writer takes that does not optimise: their summed code counts, by class and number.
STANDARD_CODES = {0x00: 12, 0x01: 12, 0x10: 162, 0x11: 162}


@dataclass(frozen=True)
class Container:
    """The features of one file by family. `size` and `pixels` say how large it is; `scanlines` is what a PNG's data inflates to (None for
    other formats), `packed` how many bytes that took, `filters` the filter of each of its rows and `grey` whether it has one channel."""

    families: dict[str, Family]
    size: int  # bytes
    pixels: int
    scanlines: bytes | None = None
    packed: int = 0
    filters: bytes = b""
    grey: bool = False


def read_container(data: bytes, name: str, suffix: str = "") -> Container:
    """The features of an encoded image. `suffix` is the ending of the file's name, if it is a file. InputError if it is no image."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            form, mode, (width, height) = opened.format, opened.mode, opened.size
            compression = str(opened.info.get("compression", "")) if form == "TIFF" else None
        families: dict[str, Family] = {family: {} for family in FAMILIES}
        families[DIMENSIONS] = {"width": width, "height": height, "pixels": width * height, "aspect": width / height}
        families[DIMENSIONS]["whole_blocks"] = float(width % 8 == 0) + 2 * float(height % 8 == 0)
        families[FORMAT] = {"format": form, "mode": mode, "suffix": suffix.lower()}
        if form == "PNG":
            scanlines, packed, filters = _read_png(data, height, families)
            return Container(families, len(data), width * height, scanlines, packed, filters, mode == "L")
        if form == "JPEG":
            _read_jpeg(data, families)
        elif form == "WEBP":
            _read_webp(data, width * height, families)
        else:
            families[ENCODER] = {"compression": compression}
        return Container(families, len(data), width * height)
    except InputError:
        raise
    except Exception as error:  # PIL's decoders raise whatever they like
        raise InputError(f"{name} is not an image that can be read ({error})", f"Use {', '.join(FORMATS)}, or remove it") from None


def deflate_setting(containers: Iterable[Container]) -> tuple[int, int]:
    """The setting of zlib that comes nearest to what some PNG files took, all in all: that of the encoder that most of them share."""
    files = [each for each in containers if each.scanlines is not None]
    errors = [np.mean([abs(_excess(each, setting)) for each in files] or [0.0]) for setting in DEFLATE_SETTINGS]
    return DEFLATE_SETTINGS[int(np.argmin(errors))]


def size_excess(container: Container, setting: tuple[int, int]) -> float | None:
    """How far the size of a PNG's data is from what zlib makes of the same scanlines with `setting`: the logarithm of the ratio.

    It is near 0 whatever the picture shows, as long as the file was written with about that setting. None for other formats.
    """
    return None if container.scanlines is None else _excess(container, setting)


def _excess(container: Container, setting: tuple[int, int]) -> float:
    assert container.scanlines is not None
    level, strategy = setting
    packer = zlib.compressobj(level, zlib.DEFLATED, 15, 8, strategy)
    return float(np.log(max(1, container.packed) / (len(packer.compress(container.scanlines)) + len(packer.flush()))))


def _read_png(data: bytes, height: int, families: dict[str, Family]) -> tuple[bytes, int, bytes]:
    parts: list[tuple[bytes, int]] = []
    packed = bytearray()
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        parts.append((kind, length))
        if kind == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += 12 + length
        if kind == b"IEND":
            break
    found = {PNG_METADATA[kind]: length for kind, length in parts if kind in PNG_METADATA}
    families[METADATA] = _metadata(found, sum(found.values()), max(0, len(data) - at))
    unpacker = zlib.decompressobj()
    scanlines = unpacker.decompress(bytes(packed), 512 * 2**20)
    runs = [kind for number, (kind, _) in enumerate(parts) if kind not in PNG_METADATA and (not number or parts[number - 1][0] != kind)]
    pieces = [length for kind, length in parts if kind == b"IDAT"]
    interlaced = data[28] != 0
    filters = b"" if interlaced else _filters(scanlines, height)
    families[ENCODER] = {
        "layout": " ".join(kind.decode("latin-1") for kind in runs),
        "depth": f"{data[24]} {data[25]}",
        "interlaced": float(interlaced),
        "zlib": packed[:2].hex(),  # window, and how hard the writer says that it tried
        "filter": str(filters[0]) if len(set(filters)) == 1 else "adaptive",
        # How long a piece gets before the next begins: libpng's usual 8192 bytes, or more. Data that fit in that do not tell.
        "piece": None if len(packed) <= LIBPNG_PIECE else str(pieces[0]) if pieces[0] <= LIBPNG_PIECE else "longer",
    }
    return scanlines, len(packed), filters


def _filters(scanlines: bytes, height: int) -> bytes:
    """The filter of each row of a PNG."""
    return scanlines[:: max(1, len(scanlines) // height)][:height]


def _by_pillow(pixels: np.ndarray) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG", compress_level=1)
    return written.getvalue()


def _by_opencv(pixels: np.ndarray) -> bytes:
    ordered = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", ordered, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


WRITERS = {"Pillow": _by_pillow, "OpenCV": _by_opencv}


def writers_of(container: Container, pixels: np.ndarray) -> set[str]:
    """Which of the usual writers take the very filters of a PNG for its `pixels` (`uint8` RGB `[H, W, 3]`), row by row."""
    if not container.filters:
        return set()
    pixels = np.ascontiguousarray(pixels[..., 0]) if container.grey else pixels
    return {name for name, write in WRITERS.items() if _filters_written(write(pixels), len(pixels)) == container.filters}


def settle_filters(families: Sequence[Family], writers: Sequence[set[str]]) -> None:
    """Puts one word in place of the filters of all files that the writer which explains most of them would have written alike.

    A writer chooses filters by the pixels, all rows of a flat picture by one and those of a photograph by several: that is content.
    """
    votes = Counter(name for each in writers for name in sorted(each))
    if votes:
        (usual, _), *_ = votes.most_common(1)
        for family, each in zip(families, writers, strict=True):
            if usual in each:
                family["filter"] = usual


def _filters_written(data: bytes, height: int) -> bytes:
    return _read_png(data, height, {})[2]


def _read_jpeg(data: bytes, families: dict[str, Family]) -> None:
    tables: dict[int, np.ndarray] = {}
    codes: dict[int, int] = {}
    found: dict[str, int] = {}
    order: list[str] = []
    facts: Family = {"progressive": 0.0, "restart": 0.0}
    chroma: Family = {}
    for marker, body in _segments(data):
        if 0xE0 <= marker <= 0xEF or marker == 0xFE:
            kind = "comment" if marker == 0xFE else APP_SEGMENTS.get(marker, "other")
            kind = "xmp" if kind == "exif" and body[:4] == b"http" else kind
            found[kind] = found.get(kind, 0) + len(body)
            continue
        order.append(f"{marker:02x}")
        if marker == 0xDB:
            tables |= _quantisation(body)
        elif marker == 0xC4:
            codes |= _code_counts(body)
        elif marker == 0xDD:
            facts["restart"] = float(struct.unpack(">H", body[:2])[0])
        elif 0xC0 <= marker <= 0xCF:
            facts["progressive"] = float(marker == 0xC2)
            facts["frame"] = f"{marker:02x}"
            chroma["sampling"] = " ".join(f"{body[7 + 3 * each]:02x}" for each in range(body[5]))
    facts["order"] = " ".join(order)
    facts["codes"] = "standard" if all(STANDARD_CODES.get(number) == count for number, count in codes.items()) else "optimised"
    families[METADATA] = _metadata(found, sum(found.values()), len(data) - 2 - data.rfind(b"\xff\xd9"))
    families[ENCODER] = facts
    families[CHROMA] = chroma
    families[QUANTISATION] = {
        "tables": float(len(tables)),
        "luma": float(np.log(tables[0].mean())) if 0 in tables else None,
        "chroma": float(np.log(tables[1].mean())) if 1 in tables else None,
        "luma_slope": float(np.log(tables[0][32:].mean() / tables[0][:8].mean())) if 0 in tables else None,
        "which": hashlib.sha256(b"".join(tables[number].tobytes() for number in sorted(tables))).hexdigest()[:12],
    }


def _segments(data: bytes) -> Iterable[tuple[int, bytes]]:
    """Marker and body of every segment of a JPEG file before its first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:
            return
        if marker == 0xFF or 0xD0 <= marker <= 0xD8 or marker == 0x01:  # filling, and markers without a body
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def _quantisation(body: bytes) -> dict[int, np.ndarray]:
    """The tables of a DQT segment by number, int64 `[64]` in zigzag order."""
    tables = {}
    while len(body) >= 65:
        wide, number = body[0] >> 4, body[0] & 15
        size = 128 if wide else 64
        tables[number] = np.frombuffer(body[1 : 1 + size], ">u2" if wide else "u1").astype(np.int64)
        body = body[1 + size :]
    return tables


def _code_counts(body: bytes) -> dict[int, int]:
    """How many codes each Huffman table of a DHT segment has, by class and number."""
    counts = {}
    while len(body) >= 17:
        counts[body[0]] = sum(body[1:17])
        body = body[17 + counts[body[0]] :]
    return counts


def _read_webp(data: bytes, pixels: int, families: dict[str, Family]) -> None:
    kinds: list[bytes] = []
    found: dict[str, int] = {}
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack("<4sI", data[at : at + 8])
        if kind in WEBP_METADATA:
            found[WEBP_METADATA[kind]] = length
        else:
            kinds.append(kind)
        at += 8 + length + length % 2
    families[METADATA] = _metadata(found, sum(found.values()), max(0, len(data) - at))
    families[ENCODER] = {"chunks": " ".join(kind.decode("latin-1") for kind in kinds)}
    if b"VP8 " in kinds:  # no table says the quality of a lossy WebP, so its size has to
        families[SIZE] = {"bytes_per_pixel": float(np.log(len(data) / pixels))}


def _metadata(found: dict[str, int], size: int, trailing: int) -> Family:
    """Which kinds of metadata a file has, their size, and what stands after the image's end."""
    present: dict[str, Any] = {kind: float(kind in found) for kind in KINDS_OF_METADATA}
    return {**present, "kilobytes": size / 1024, "trailing": float(np.log1p(trailing))}


def joined(families: dict[str, list[Family]]) -> list[Family]:
    """All families of each file as one."""
    return [
        {f"{name}: {key}": value for name, family in zip(families, row, strict=True) for key, value in family.items()}
        for row in zip(*families.values(), strict=True)
    ]
