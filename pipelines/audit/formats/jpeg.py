"""The structure of a JPEG file: its segments before the first scan, with their tables."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

import numpy as np

from pipelines.audit.families import CHROMA, ENCODER, METADATA, QUANTISATION, Family
from pipelines.audit.metadata import metadata

APP_SEGMENTS = {0xE0: "jfif", 0xE1: "exif", 0xE2: "icc", 0xED: "photoshop", 0xEE: "adobe"}
# The Huffman tables of JPEG's Annex K.3, which every writer takes that does not optimise: their summed code counts, by class and number.
STANDARD_CODES = {0x00: 12, 0x01: 12, 0x10: 162, 0x11: 162}


def read_jpeg(data: bytes) -> dict[str, Family]:
    """The metadata, encoder, chroma and quantisation families of an encoded JPEG."""
    tables: dict[int, np.ndarray] = {}
    codes: dict[int, int] = {}
    described: dict[str, int] = {}
    order: list[str] = []
    encoder: Family = {"progressive": 0.0, "restart": 0.0}
    chroma: Family = {}
    for marker, body in _segments(data):
        if 0xE0 <= marker <= 0xEF or marker == 0xFE:
            kind = "comment" if marker == 0xFE else APP_SEGMENTS.get(marker, "other")
            kind = "xmp" if kind == "exif" and body[:4] == b"http" else kind
            described[kind] = described.get(kind, 0) + len(body)
            continue
        order.append(f"{marker:02x}")
        if marker == 0xDB:
            tables |= _quantisation(body)
        elif marker == 0xC4:
            codes |= _code_counts(body)
        elif marker == 0xDD:
            encoder["restart"] = float(struct.unpack(">H", body[:2])[0])
        elif 0xC0 <= marker <= 0xCF:
            encoder["progressive"] = float(marker == 0xC2)
            encoder["frame"] = f"{marker:02x}"
            chroma["sampling"] = " ".join(f"{body[7 + 3 * component]:02x}" for component in range(body[5]))
    encoder["order"] = " ".join(order)
    encoder["codes"] = "standard" if all(STANDARD_CODES.get(number) == count for number, count in codes.items()) else "optimised"
    quantisation: Family = {
        "tables": float(len(tables)),
        "luma": float(np.log(tables[0].mean())) if 0 in tables else None,
        "chroma": float(np.log(tables[1].mean())) if 1 in tables else None,
        "luma_slope": float(np.log(tables[0][32:].mean() / tables[0][:8].mean())) if 0 in tables else None,
        "which": hashlib.sha256(b"".join(tables[number].tobytes() for number in sorted(tables))).hexdigest()[:12],
    }
    trailing = len(data) - 2 - data.rfind(b"\xff\xd9")
    return {METADATA: metadata(described, trailing), ENCODER: encoder, CHROMA: chroma, QUANTISATION: quantisation}


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
