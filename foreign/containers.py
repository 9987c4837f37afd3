"""What is read of a picture's file before a decoder sees it: the size of a WebP, and PNG and JPEG without their metadata."""

from __future__ import annotations

import struct

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
PNG_KEPT = frozenset({b"tRNS", b"acTL"})  # of the chunks that a decoder may leave out, those that decide pixels
MAX_EXIF = 2**16
START_OF_SCAN, STAND_ALONE = 0xDA, frozenset({0x01, *range(0xD0, 0xD9)})
ADOBE, JFIF = 0xEE, 0xE0  # the segments of applications that say how colours are coded
DROPPED = frozenset({*range(0xE0, 0xF0), 0xFE}) - {ADOBE, JFIF}


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height that the header of a WebP declares; (0, 0) for what is none."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return 0, 0
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF


def without_metadata(data: bytes) -> bytes | None:
    """A PNG or JPEG without what decides no pixel: texts, profiles, thumbnails, comments. None for other formats, and if there are none.

    Small EXIF in a PNG stays, because it has the orientation. What is damaged beyond the metadata is passed on as it is.
    """
    bare = _png_without(data) if data.startswith(PNG) else _jpeg_without(data) if data.startswith(JPEG) else data
    return None if len(bare) == len(data) else bare


def _png_without(data: bytes) -> bytes:
    kept, at = [PNG], len(PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        end = at + 12 + length
        is_critical = not kind[0] & 0x20
        if is_critical or kind in PNG_KEPT or (kind == b"eXIf" and length <= MAX_EXIF):
            kept.append(data[at:end])
        at = end
        if kind == b"IEND":
            break
    else:
        kept.append(data[at:])
    return b"".join(kept)


def _jpeg_without(data: bytes) -> bytes:
    kept, at = [JPEG], len(JPEG)
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind in STAND_ALONE or kind == 0xFF:
            kept.append(data[at : at + (1 if kind == 0xFF else 2)])
            at += 1 if kind == 0xFF else 2
            continue
        if kind == START_OF_SCAN:
            break
        end = at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
        if kind not in DROPPED:
            kept.append(data[at:end])
        at = end
    kept.append(data[at:])
    return b"".join(kept)
