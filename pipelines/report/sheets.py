"""Pictures as data URIs, and several of them as one sheet with names."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipelines.images import fit

GAP = 2
FONT, LINE = 13, 18  # pixels: a letter's height, and a line's
LEAST_WIDTH = 240  # pixels of a sheet, so that a name has room
SMALL, GOOD = 64, 85  # pictures up to this side are kept lossless; larger ones have this quality
TILE = 96  # the largest side of a picture on a sheet; smaller images keep their own pixels
LOSSLESS = 101  # as OpenCV says it


def labelled_sheet(rows: Sequence[tuple[str, Sequence[np.ndarray]]], last: str = "") -> bytes:
    """Rows of `uint8` RGB images, each row under its name, as one picture (WebP).

    An image has sides of at most `TILE` px; small ones are shown with whole pixels several times as large. A name that is wider than the
    sheet goes on in the next line. `last` is a line below.
    """
    shown = max((max(image.shape[:2]) for _, images in rows for image in images), default=TILE)
    times = max(1, TILE // shown)
    side, columns = min(TILE, times * shown), max((len(images) for _, images in rows), default=1)
    font = ImageFont.load_default(FONT)
    width = max(LEAST_WIDTH, columns * (side + GAP) - GAP)
    named = [(_broken(name, font, width), images) for name, images in rows]
    ends = _broken(last, font, width) if last else []
    height = sum(len(lines) * LINE + side + LINE // 2 for lines, _ in named) + len(ends) * LINE
    sheet = Image.new("RGB", (width, max(1, height)), "white")
    draw = ImageDraw.Draw(sheet)
    top = 0
    for lines, images in [*named, (ends, ())]:
        for line in lines:
            draw.text((0, top), line, "black", font)
            top += LINE
        for place, image in enumerate(images):
            sheet.paste(Image.fromarray(fit(image.repeat(times, 0).repeat(times, 1), side)), (place * (side + GAP), top))
        top += side + LINE // 2
    return _webp(np.asarray(sheet), LOSSLESS if shown <= SMALL else GOOD)


def _broken(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """`text` in lines that are at most `width` pixels wide, broken at any letter."""
    lines = [""]
    for letter in text:
        if lines[-1] and font.getlength(lines[-1] + letter) > width:
            lines.append("")
        lines[-1] += letter
    return lines


def difference(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The absolute difference of two pictures, in grey and four times as strong."""
    side = min(len(image), len(target))
    change = np.abs(fit(image, side).astype(np.int16) - fit(target, side)).mean(-1)
    return np.repeat(np.clip(change * 4, 0, 255).astype(np.uint8)[..., None], 3, -1)


def data_uri(image: np.ndarray, quality: int = LOSSLESS) -> str:
    """A `uint8` RGB image as a WebP data URI, lossless or at a `quality` of 1 to 100."""
    return as_uri(_webp(image, quality))


def as_uri(picture: bytes) -> str:
    """An encoded WebP picture as a data URI."""
    return "data:image/webp;base64," + base64.b64encode(picture).decode()


def _webp(image: np.ndarray, quality: int) -> bytes:
    _, data = cv2.imencode(".webp", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    return data.tobytes()
