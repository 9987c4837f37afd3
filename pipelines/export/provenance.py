"""IPTC's fields on AI and the chain, as XMP inside an image file. The pixels stay as they are.

For files that people look at. Not for training: a mark that only fakes have tells the label.
"""

from __future__ import annotations

import json
import struct
import unicodedata
import zlib
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from generators.errors import InputError

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
NAMESPACE = "https://natural-trace-foundry.example/ns/1.0/"
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"


Known = Mapping[str, str | None]  # the source type of each real source, None where nobody knows it


def digital_source_type(row: dict[str, Any], known: Known) -> str | None:
    """The IPTC term for an image: wholly made by a trained model, or made by one out of another picture. A real image has that of its
    source, and None where nobody knows it: not every photograph is a digital capture."""
    if row["label"] == 0 and not row["chain"]:  # a retouched one was made out of another picture
        named = known.get(row["subset"])
        return None if named is None else SOURCE_TYPES + named
    from_reals = any("source" in link or "target" in link for link in row["chain"])
    return SOURCE_TYPES + ("compositeWithTrainedAlgorithmicMedia" if from_reals else "trainedAlgorithmicMedia")


def fields(row: dict[str, Any], known: Known) -> dict[str, str]:
    """The properties of IPTC's photo metadata standard 2025.1 that are known of an image, by name: its source type, the AI systems and
    their checkpoints in the order of the chain, and the prompts."""
    chain = row["chain"]
    checkpoints = [f"{link['checkpoint']} (sha256 {link['identity']['sha256']})" for link in chain]
    prompts = dict.fromkeys(str(prompt) for link in chain for prompt in (link.get("prompt"), link["parameters"].get("prompt")) if prompt)
    named = {
        "DigitalSourceType": digital_source_type(row, known),
        "AISystemUsed": ", ".join(dict.fromkeys(link["generator"] for link in chain)),
        "AISystemVersionUsed": ", ".join(dict.fromkeys(checkpoints)),
        "AIPromptInformation": "\n".join(prompts),
    }
    return {name: value for name, value in named.items() if value}


def xmp(row: dict[str, Any], known: Known) -> bytes:
    """An XMP packet with IPTC's fields, the id and the chain."""
    chain = escape(json.dumps(row["chain"], sort_keys=True))
    iptc = "".join(f"\n<Iptc4xmpExt:{name}>{escape(_printable(text))}</Iptc4xmpExt:{name}>" for name, text in fields(row, known).items())
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:ntf="{NAMESPACE}">{iptc}
<ntf:id>{escape(row["id"])}</ntf:id><ntf:chain>{chain}</ntf:chain>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()


def with_xmp(image: bytes, row: dict[str, Any], known: Known) -> bytes:
    """The encoded image with the packet in it. Raises InputError for WebP, and for a chain that is too long for JPEG."""
    packet = xmp(row, known)
    if image.startswith(_PNG):
        head = len(_PNG) + 25  # behind IHDR, which is always first: 13 bytes and 12 around them
        content = b"iTXt" + b"XML:com.adobe.xmp\0\0\0\0\0" + packet
        chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
        return image[:head] + chunk + image[head:]
    if image.startswith(_JPEG):
        content = _JPEG_XMP + packet
        if len(content) + 2 > 0xFFFF:
            raise InputError(f"the chain of {row['id']} does not fit into a JPEG's header", "Export without --provenance, or build as PNG")
        return image[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + image[2:]
    raise InputError(f"provenance is not written into {row['format']} files", "Build as PNG or JPEG, or export without --provenance")


def _printable(text: str) -> str:
    """`text` without the control characters that XML does not allow."""
    return "".join(letter for letter in text if letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cs"))
