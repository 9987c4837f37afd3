"""The one decoder: a picture of a stranger to `uint8` RGB. Reals, imports, training, detection, audit and report all read through it.

Formats are a fixed list, and no other reader of Pillow's is asked (an EPS under the name of a PNG would start Ghostscript). Bytes and
pixels have bounds, of an animation only the first frame is read, and metadata decide nothing but the orientation and the colour space.
`docs/pictures.md` has the rules for people.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foreign.colours import deep_to_8_bits, on_white, to_srgb
from foreign.containers import webp_size, without_metadata
from foreign.errors import InputError
from foreign.files import read_plain
from foreign.text import reason, visible

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM")
FORMAT_NAMES = "PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, JPEG 2000 or PPM"
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif"}
    | {".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm"}
)
USE = f"Use {FORMAT_NAMES}, or remove it"
MAX_PIXELS = 64 * 2**20  # 8192 x 8192: some 600 MB while it is decoded
MAX_BYTES = 256 * 2**20
LARGE = 8 * 2**20  # pictures of more pixels are decoded one at a time, whatever the number of threads
DEEP_MODES = frozenset({"I", "F"})
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

warnings.filterwarnings("ignore", module=r"PIL\.")  # it warns of damaged metadata, on the user's terminal, in lines of Python


@dataclass(frozen=True)
class Decoded:
    """`pixels`, `uint8` RGB `[H, W, 3]`, and in words what was changed to make them of the picture ("16-bit grey scaled to 8 bits")."""

    pixels: np.ndarray
    changes: tuple[str, ...] = ()


def decode(data: bytes, name: str) -> np.ndarray:
    """Encoded bytes to `uint8` RGB `[H, W, 3]`, turned upright by EXIF. `decode_fully` tells more. Raises InputError that names `name`."""
    return decode_fully(data, name).pixels


def read_image(path: Path) -> np.ndarray:
    """A plain file as `uint8` RGB `[H, W, 3]`; see `decode`."""
    return decode(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """The encoded bytes of a picture's file, at most `MAX_BYTES`. Raises InputError if it is no plain file, longer, or cannot be read."""
    return read_plain(path, MAX_BYTES)


def decode_fully(data: bytes, name: str) -> Decoded:
    """Encoded bytes to pixels, with the changes that this took.

    8-bit pictures keep their values. More bits are scaled to 8 (`deep_to_8_bits`), what is transparent is laid on white, and colours of
    another ICC profile than sRGB are converted. Metadata that are damaged or too large are left out. Raises InputError, one line that
    names `name`, for what is of no format in `FORMATS`, damaged, or has more than `MAX_PIXELS` pixels or `MAX_BYTES` bytes.
    """
    with decoded(data, name) as picture:
        return picture


@contextmanager
def decoded(data: bytes, name: str) -> Iterator[Decoded]:
    """The same for a block that works on the pixels: threads with large pictures wait for each other until its end, not only until they
    are decoded."""
    with ExitStack() as held:
        try:
            picture = _decode(data, name, held)
        except InputError as error:
            bare = without_metadata(data)
            if bare is None:
                raise
            try:
                plain = _decode(bare, name, held)
            except InputError:
                raise error from None
            picture = Decoded(plain.pixels, (*plain.changes, "metadata that could not be read left out"))
        yield picture


def decode_pil(picture: Image.Image, name: str) -> np.ndarray:
    """A picture that Pillow has opened already, by the same rules. Raises InputError that names `name`."""
    with _one_line(name):
        _require_size(*picture.size, name)
        return _pixels(picture, name).pixels


@contextmanager
def opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """The picture as Pillow opens it, of the same formats and with the same bounds, for its header; no pixel is decoded yet.

    Whatever the block raises becomes an InputError that names `name`.
    """
    try:
        picture = _open(data, name)
    except InputError:
        bare = without_metadata(data)
        if bare is None:
            raise
        picture = _open(bare, name)
    with _one_line(name), picture:
        yield picture


def _open(data: bytes, name: str) -> Image.Image:
    if len(data) > MAX_BYTES:
        raise InputError(f"{visible(name)} has {len(data):,} bytes", f"At most {MAX_BYTES:,} are read")
    with _one_line(name):
        _require_size(*webp_size(data), name)  # Pillow's reader of WebP takes its memory on opening
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        _require_size(*picture.size, name)
    return picture


_large = threading.RLock()


def room_for(pixels: int) -> AbstractContextManager[Any]:
    """For a block that holds a picture of so many pixels: threads with large ones wait for each other, so that memory has a bound."""
    return _large if pixels > LARGE else nullcontext()


def _decode(data: bytes, name: str, held: ExitStack) -> Decoded:
    with _open(data, name) as picture, _one_line(name):
        held.enter_context(room_for(picture.width * picture.height))
        return _pixels(picture, name)


def _pixels(picture: Image.Image, name: str) -> Decoded:
    picture.load()
    orientation = orientation_of(picture)
    changes: list[str] = []
    if picture.mode in DEEP_MODES or picture.mode.startswith("I;"):
        grey, change = deep_to_8_bits(picture, name)
        coloured = Image.fromarray(grey).convert("RGB")
        changes.append(change)
    else:
        converted, change = to_srgb(picture)
        coloured, flattened = on_white(converted)
        changes += [text for text in (change, flattened) if text]
    if orientation in UPRIGHT:
        coloured = coloured.transpose(UPRIGHT[orientation])
    return Decoded(np.asarray(coloured), tuple(changes))


def orientation_of(picture: Image.Image) -> int:
    """1 to 8, as EXIF has it: 1 is upright, and from 5 on the picture lies on its side. 1 too if the EXIF cannot be read."""
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF, of which Pillow's parser raises whatever it meets
        return 1


def _require_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(f"{visible(name)} is {width} x {height} px", f"At most {MAX_PIXELS:,} pixels are decoded")


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turns what Pillow, its codecs and NumPy raise into one line. Codecs raise whatever they like; MemoryError and recursion too."""
    try:
        yield
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(
            f"{visible(name)} declares far more pixels than are decoded ({MAX_PIXELS:,})", "Scale it down, or leave it out"
        ) from None
    except Image.UnidentifiedImageError:
        raise InputError(
            f"{visible(name)} is not an image that can be read (no known format)", f"Use {FORMAT_NAMES}, or remove it"
        ) from None
    except Exception as error:
        raise InputError(f"{visible(name)} is not an image that can be read ({reason(error)})", USE) from None
