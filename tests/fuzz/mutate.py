"""Changes to the bytes of a small valid file. The same seed gives the same change."""

from __future__ import annotations

import random
import zlib

EDGES = [0, 1, 2, 127, 128, 255, 256, 32767, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**62, 2**63 - 1, 2**64 - 1]
HOSTILE = [
    b"\x1b[2J",
    b"\0",
    b"\xff\xfe",
    b"[/]",
    b"{" * 40,
    b"[" * 3000,
    b"9" * 5000,
    b"=1",
    b"../",
    b"\xe2\x80\xae",
    b"!!python/object:os.system ",
]


def mutated(data: bytes, seed: int) -> bytes:
    """`data` with one to eight changes: numbers set to edge values, bytes changed, cut out, repeated, moved, the end cut off."""
    rng, out = random.Random(seed), bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        place, other = (rng.randrange(len(out) or 1) for _ in range(2))
        kind, size = rng.randrange(8), rng.choice((1, 2, 4, 8))
        if kind < 2:
            out[place : place + size] = (rng.choice(EDGES) % 256**size).to_bytes(size, rng.choice(("little", "big")))
        elif kind == 2:
            out[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 3:
            del out[place : place + rng.choice((1, 4, 16, 300))]
        elif kind == 4:
            out[place:place] = out[place : place + rng.choice((1, 8, 64))] * rng.choice((1, 2, 50))
        elif kind == 5:
            out[place : place + 16] = out[other : other + 16]
        elif kind == 6:
            out[place:place] = rng.choice(HOSTILE)
        else:
            del out[place:]
    return bytes(out)


def repaired(data: bytes, rng: random.Random) -> bytes:
    """Half of the changed PNG and tar files with right checksums again, so that more than the first check sees the change."""
    if rng.random() < 0.5:
        return data
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png_sums(data)
    return _tar_sums(data) if b"ustar" in data[257:263] else data


def _png_sums(data: bytes) -> bytes:
    out, place = bytearray(data), 8
    while place + 12 <= len(out):
        end = place + 8 + int.from_bytes(out[place : place + 4], "big")
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(out)


def _tar_sums(data: bytes) -> bytes:
    out = bytearray(data)
    for place in range(0, len(out) - 511, 512):
        if out[place + 257 : place + 262] == b"ustar":
            total = sum(out[place : place + 148]) + 256 + sum(out[place + 156 : place + 512])
            out[place + 148 : place + 156] = b"%06o\0 " % total
    return bytes(out)
