"""The structure of a PNG file: its chunks, how hard it was packed, and by which filter each row was written.

How large a PNG is, and the filter of each row, follow from two things: the settings of its encoder, and its pixels. Only the first is a
property of the file. `docs/audit.md` says how the two are told apart.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from pipelines.audit.families import Family
from pipelines.audit.metadata import metadata

# zlib's level and strategy (0 default, 1 filtered, 3 run lengths): what PNG writers use.
DEFLATE_SETTINGS = ((1, 0), (1, 3), (3, 0), (6, 0), (6, 1))
LIBPNG_PIECE = 8192
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of the colour types
METADATA_CHUNKS = {b"tEXt": "text", b"zTXt": "text", b"iTXt": "text", b"eXIf": "exif", b"iCCP": "icc", b"tIME": "time", b"pHYs": "density"}


@dataclass(frozen=True)
class Png:
    """A PNG file. `scanlines` is what its data inflates to, `packed` how many bytes that took, `filters` the filter of each of its rows
    (empty if it is interlaced), and `is_grey` whether it has one channel of up to 8 bits."""

    metadata: Family
    encoder: Family
    scanlines: bytes
    packed: int
    filters: bytes
    is_grey: bool


def read_png(data: bytes, height: int) -> Png:
    """The structure of an encoded PNG of `height` rows. One that is damaged raises struct.error, IndexError or zlib.error."""
    chunks: list[tuple[bytes, int]] = []
    packed = bytearray()
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunks.append((kind, length))
        if kind == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += 12 + length
        if kind == b"IEND":
            break
    # One length for each kind: of two texts, the last.
    described = {METADATA_CHUNKS[kind]: length for kind, length in chunks if kind in METADATA_CHUNKS}
    scanlines = zlib.decompressobj().decompress(bytes(packed), _most_scanlines(data))
    layout = [
        kind for number, (kind, _) in enumerate(chunks) if kind not in METADATA_CHUNKS and (not number or chunks[number - 1][0] != kind)
    ]
    pieces = [length for kind, length in chunks if kind == b"IDAT"]
    is_interlaced = data[28] != 0
    filters = b"" if is_interlaced else scanlines[:: max(1, len(scanlines) // height)][:height]
    encoder: Family = {
        "layout": " ".join(kind.decode("latin-1") for kind in layout),
        "depth": f"{data[24]} {data[25]}",
        "interlaced": float(is_interlaced),
        "zlib": packed[:2].hex(),  # window, and how hard the writer says that it tried
        "filter": str(filters[0]) if len(set(filters)) == 1 else "adaptive",
        # How long a piece gets before the next begins: libpng's usual 8192 bytes, or more. Data that fit in that do not tell.
        "piece": None if len(packed) <= LIBPNG_PIECE else str(pieces[0]) if pieces[0] <= LIBPNG_PIECE else "longer",
    }
    return Png(
        metadata(described, max(0, len(data) - at)), encoder, scanlines, len(packed), filters, data[25] == 0 and data[24] in (2, 4, 8)
    )


def _most_scanlines(data: bytes) -> int:
    """The bytes that a PNG of these pixels can inflate to: what its header says and no more, whatever is packed in it."""
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    whole = height * (1 + (width * depth * CHANNELS[colour] + 7) // 8)
    # Each of the seven passes of an interlaced picture has rows of its own, with a filter and a last byte that is not full.
    return max(1, whole + 7 * 2 * height)


def deflate_setting(files: Iterable[Png]) -> tuple[int, int]:
    """The setting of zlib that comes nearest to what some files took, all in all: that of the encoder that most of them share."""
    files = list(files)
    errors = [np.mean([abs(size_excess(png, setting)) for png in files] or [0.0]) for setting in DEFLATE_SETTINGS]
    return DEFLATE_SETTINGS[int(np.argmin(errors))]


def size_excess(png: Png, setting: tuple[int, int]) -> float:
    """How far the size of a file's data is from what zlib makes of the same scanlines with `setting`: the logarithm of the ratio.

    It is near 0 whatever the picture shows, as long as the file was written with about that setting.
    """
    level, strategy = setting
    packer = zlib.compressobj(level, zlib.DEFLATED, 15, 8, strategy)
    return float(np.log(max(1, png.packed) / (len(packer.compress(png.scanlines)) + len(packer.flush()))))


def _by_pillow(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _by_opencv(pixels: np.ndarray) -> bytes:
    ordered = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", ordered, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


WRITERS = {"Pillow": _by_pillow, "OpenCV": _by_opencv}


def writers_of(png: Png, pixels: np.ndarray) -> set[str]:
    """Which of the usual writers take the very filters of a file for its `pixels` (`uint8` RGB `[H, W, 3]`), row by row."""
    if not png.filters:
        return set()
    pixels = np.ascontiguousarray(pixels[..., 0]) if png.is_grey else pixels
    return {name for name, write in WRITERS.items() if read_png(write(pixels), len(pixels)).filters == png.filters}


def settle_filters(encoders: Sequence[Family], writers: Sequence[set[str]]) -> list[Family]:
    """The encoder families with one word in place of the filters of all files that the commonest writer would have written alike.

    A writer chooses filters by the pixels, all rows of a flat picture by one and those of a photograph by several: that is content.
    `writers` are those of each file.
    """
    votes = Counter(name for names in writers for name in sorted(names))
    if not votes:
        return list(encoders)
    (usual, _), *_ = votes.most_common(1)
    return [{**family, "filter": usual} if usual in names else family for family, names in zip(encoders, writers, strict=True)]
