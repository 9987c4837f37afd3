"""The rules that bring a picture to 8-bit RGB: deep grey, transparency, ICC profiles."""

from __future__ import annotations

import io
import threading
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from foreign.errors import InputError
from foreign.text import visible

BITS_PER_SAMPLE, SAMPLE_FORMAT, UNSIGNED = 258, 339, 1  # tags of TIFF
MAX_PROFILE = 4 * 2**20  # bytes; profiles for RGB have hundreds or thousands, for print up to 2 MB
SAME_SPACE = 3  # grey levels: a profile that changes no colour by more counts as sRGB, and the pixels stay as they are
PROFILE_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
_lock = threading.Lock()  # littleCMS reads a profile from one thread at a time


def deep_to_8_bits(picture: Image.Image, name: str) -> tuple[np.ndarray, str]:
    """Grey of 16 or 32 bits, or of floats, to `uint8` `[H, W]`, and what was done in words.

    16 bits keep their high byte, as libpng and OpenCV do; a TIFF of 12 bits keeps its upper 8. Integers of 32 bits and floats do not say
    what is white. White is then the least of 1 (for floats), 255, 65535 and the largest number of the type that no value is above.
    Raises InputError that names `name` for values below zero, values that are not finite, and floats above 65535.
    """
    values = np.asarray(picture)
    tags = getattr(picture, "tag_v2", {})
    if picture.mode.startswith("I;"):
        bits = int(np.ravel(tags.get(BITS_PER_SAMPLE, 16))[0])
        return (values >> (max(8, bits) - 8)).astype(np.uint8), f"{bits}-bit grey scaled to 8 bits"
    if picture.mode == "F":
        return _floats_to_8_bits(values, name)
    if int(np.ravel(tags.get(SAMPLE_FORMAT, 0))[0]) == UNSIGNED and int(np.ravel(tags.get(BITS_PER_SAMPLE, 0))[0]) == 32:
        values = values.view(np.uint32)  # Pillow has no unsigned mode of 32 bits
    low, high = int(values.min()), int(values.max())
    if low < 0:
        raise InputError(f"{visible(name)} has values from {low} to {high}", "Scale them to 0..65535")
    if picture.format == "PPM":
        return (values >> 8).astype(np.uint8), "16-bit grey scaled to 8 bits"  # Pillow has scaled them to 16 bits already
    white, shift = next((white, shift) for white, shift in ((255, 0), (65535, 8), (2**31 - 1, 23), (2**32 - 1, 24)) if high <= white)
    return (values >> shift).astype(np.uint8), f"32-bit grey scaled to 8 bits with white at {white}"


def _floats_to_8_bits(values: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):  # of a not-a-number among the values, both are not a number
        raise InputError(f"{visible(name)} has values that are not finite", "Replace them, and scale all to 0..1")
    if low < 0 or high > 65535:
        raise InputError(f"{visible(name)} has values from {low:g} to {high:g}", "Scale them to 0..1")
    white = next(white for white in (1, 255, 65535) if high <= white)
    return np.rint(values * np.float32(255 / white)).astype(np.uint8), f"float grey scaled to 8 bits with white at {white}"


def on_white(picture: Image.Image) -> tuple[Image.Image, str]:
    """An 8-bit picture as RGB. Where it is transparent, white shows through, and not the hidden colour. The second says if so."""
    if not picture.has_transparency_data:
        return picture.convert("RGB"), ""
    with_alpha = picture.convert("RGBA")
    alpha = with_alpha.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return picture.convert("RGB"), ""
    background = Image.new("RGB", picture.size, (255, 255, 255))
    background.paste(with_alpha.convert("RGB"), mask=alpha)
    return background, "transparency laid on white"


def to_srgb(picture: Image.Image) -> tuple[Image.Image, str]:
    """An 8-bit picture with its colours in sRGB, if its ICC profile says that they are not. The second says what was done.

    A profile that is damaged, of another kind than the picture, or over 4 MB is left out.
    """
    profile = picture.info.get("icc_profile")
    if not profile:
        return picture, ""
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    alpha = picture.getchannel("A") if picture.mode in ("RGBA", "LA") else None
    mode = {"RGBA": "RGB", "RGBX": "RGB", "LA": "L"}.get(picture.mode, picture.mode)
    if mode not in PROFILE_SPACES:
        return picture, ""
    transform = _transform(profile, mode) if isinstance(profile, bytes) and len(profile) <= MAX_PROFILE else None
    if transform is None:
        return picture, "ICC profile that could not be used left out"
    if transform is SAME:
        return picture, ""
    coloured = transform.apply(picture.convert(mode))
    if alpha is not None:
        coloured.putalpha(alpha)
    elif "transparency" in picture.info:  # one colour that is transparent, named in the picture's own space
        coloured.putalpha(picture.convert("RGBA").getchannel("A"))
    return coloured, "colours converted from their ICC profile to sRGB"


class _Same:
    """The transform of a profile that is sRGB in effect."""

    def apply(self, picture: Image.Image) -> Image.Image:
        return picture


SAME = _Same()


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | _Same | None:
    """The transform of `mode` from a profile to sRGB; SAME if it changes no colour by more than `SAME_SPACE`; None if there is none."""
    try:
        with _lock:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if source.profile.xcolor_space.strip() != PROFILE_SPACES[mode]:
                return None
            intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
            transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", intent, flags)
            if mode == "CMYK":
                return transform
            probe = _lattice(mode)
            moved = np.abs(np.asarray(transform.apply(probe)).astype(int) - np.asarray(probe.convert("RGB")).astype(int))
            return SAME if moved.max() <= SAME_SPACE else transform
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, MemoryError):
        return None


def _lattice(mode: str) -> Image.Image:
    """Colours from all over the space, as a picture: every grey, or 17 levels of each of the three colours."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 17).round().astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(17, -1, 3))
