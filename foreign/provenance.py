"""What a picture's file says of where it comes from: a C2PA manifest, the IPTC digital source type, a generator's notes.

Files are walked part by part within their own length, and nothing in them is executed or believed: whoever has a file can remove all of
this, or write it. No signature is checked.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from foreign.text import visible

MOST_PARTS = 20_000
MOST_TEXT = 2**20  # bytes of one packet that are looked at
C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")  # the uuid box of ISO media files
SOURCE_TYPE = re.compile(rb"digitalsourcetype/([A-Za-z]{3,60})", re.IGNORECASE)
TOOL = re.compile(rb"CreatorTool(?:>|=\")([^<\"]{1,200})")
NOTES = {b"parameters", b"prompt", b"workflow", b"invokeai_metadata", b"sd-metadata", b"dream"}  # where programs write what they were asked
XMP_PNG, XMP_JPEG = b"XML:com.adobe.xmp", b"http://ns.adobe.com/xap/1.0/\0"


class Provenance(NamedTuple):
    """`kind` is the container ("JPEG", "PNG", "WebP", "ISO media"), empty for one that is not looked into. `c2pa` says whether a C2PA
    manifest is embedded; `source_types` are IPTC's terms ("trainedAlgorithmicMedia"), from XMP or the manifest; `iptc` whether there is an
    IPTC block; `notes` the names of fields in which generators write prompts; `tools` what XMP calls the creator's tool."""

    kind: str
    c2pa: bool = False
    iptc: bool = False
    source_types: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """What is there and what is not, each as one line that a terminal can be shown."""
        if not self.kind:
            return ["files of this format are not looked into for C2PA or IPTC"]
        said = [
            "C2PA: a manifest is embedded (its signature is not checked)" if self.c2pa else "C2PA: none",
            "IPTC: digital source type " + ", ".join(self.source_types)
            if self.source_types
            else "IPTC: a block without a digital source type"
            if self.iptc
            else "IPTC: none",
        ]
        said += [f"a generator's notes: {', '.join(self.notes)}"] if self.notes else []
        return said + ([f"made with: {', '.join(self.tools)}"] if self.tools else [])


def provenance_of(data: bytes) -> Provenance:
    """What the encoded picture `data` says; a file that is damaged says what could be read of it."""
    if data.startswith(b"\xff\xd8"):
        return _collected("JPEG", _jpeg(data))
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _collected("PNG", _png(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _collected("WebP", _webp(data))
    if data[4:8] == b"ftyp":
        return _collected("ISO media", _boxes(data))
    return Provenance("")


def _collected(kind: str, parts: Iterator[tuple[str, bytes]]) -> Provenance:
    """`parts` are (what it is, its bytes): "c2pa", "iptc", "xmp", or "note" with the field's name."""
    c2pa = iptc = False
    types: dict[str, None] = {}
    notes: dict[str, None] = {}
    tools: dict[str, None] = {}
    for count, (what, content) in enumerate(parts):
        if count >= MOST_PARTS:
            break
        c2pa, iptc = c2pa or what == "c2pa", iptc or what == "iptc"
        if what == "note":
            notes[content.decode("latin-1")] = None
        if what in ("c2pa", "xmp"):
            types |= dict.fromkeys(match.decode() for match in SOURCE_TYPE.findall(content[:MOST_TEXT]))
        if what == "xmp":
            tools |= dict.fromkeys(visible(match.decode("utf-8", "replace"), 100) for match in TOOL.findall(content[:MOST_TEXT]))
    return Provenance(kind, c2pa, iptc, tuple(types), tuple(notes), tuple(tools))


def _jpeg(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Segments up to the first scan."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], struct.unpack_from(">H", data, place + 2)[0]
        if marker == 0xDA or length < 2:
            return
        content = data[place + 4 : place + 2 + length]
        if marker == 0xEB and content[:2] == b"JP":  # JUMBF; the manifest's box is labelled c2pa in its first segment
            if b"c2pa" in content[:MOST_TEXT]:
                yield "c2pa", content
        elif marker == 0xE1 and content.startswith(XMP_JPEG):
            yield "xmp", content
        elif marker == 0xED and content.startswith(b"Photoshop 3.0\0") and b"8BIM\x04\x04" in content:
            yield "iptc", content
        place += 2 + length


def _png(data: bytes) -> Iterator[tuple[str, bytes]]:
    place = 8
    while place + 8 <= len(data):
        length = struct.unpack_from(">I", data, place)[0]
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        if kind == b"caBX":
            yield "c2pa", content
        elif kind in (b"iTXt", b"tEXt", b"zTXt"):
            name, _, rest = content.partition(b"\0")
            if name == XMP_PNG:
                yield "xmp", _itxt(rest)
            elif name.lower() in NOTES:
                yield "note", name
            elif name == b"Raw profile type iptc":
                yield "iptc", rest
        place += 12 + length


def _itxt(rest: bytes) -> bytes:
    """The text of an iTXt chunk after its name; packed by zlib or not."""
    is_packed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    if not is_packed:
        return text
    try:
        return zlib.decompressobj().decompress(text, MOST_TEXT)
    except zlib.error:
        return b""


def _webp(data: bytes) -> Iterator[tuple[str, bytes]]:
    place = 12
    while place + 8 <= len(data):
        kind, length = data[place : place + 4], struct.unpack_from("<I", data, place + 4)[0]
        content = data[place + 8 : place + 8 + length]
        if kind == b"C2PA":
            yield "c2pa", content
        elif kind == b"XMP ":
            yield "xmp", content
        place += 8 + length + length % 2


def _boxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The boxes of an AVIF or HEIF file at its top level. XMP lies as plain text in `mdat`."""
    place = 0
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I", data, place)[0], data[place + 4 : place + 8]
        content = data[place + 8 : place + length] if length >= 8 else data[place + 8 :]
        if kind == b"uuid" and content.startswith(C2PA_BOX):
            yield "c2pa", content
        elif kind == b"mdat" and (start := content.find(b"<x:xmpmeta")) >= 0:
            yield "xmp", content[start : start + MOST_TEXT]
        if length < 8:
            return
        place += length
