"""The steps of a delivery on one picture. Every draw comes from the seed that a step is given, so order and threads decide nothing.

Pillow resamples: its resampling is whole-number arithmetic, the same on every machine, where OpenCV's may differ with the processor, but
for the bilinear one that it calls exact: that one is `display`. OpenCV writes JPEG, and reads the one that was made here a moment ago: the
same library as Pillow's and the same bytes, with fewer copies.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from foreign.containers import JPEG, PNG, without_metadata
from foreign.pictures import decode, opened, orientation_of
from generators.seeding import numpy_rng
from pipelines.images import encode_uncompressed
from pipelines.manifest.deliveries import AnyOf, Crop, Encode, Resize, Screenshot, Step

SMALLEST, LARGEST = 16, 4096  # px a side: no step leaves this
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
DISPLAY = "display"  # bilinear without smoothing first, as graphics processors draw a picture at another size
SAMPLING = {
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
}
AVIF_SPEED = 9
# Chunks, and names of texts, by which the pixels of a PNG may not be those of its compressed data: transparency, frames, turns, colours.
PNG_CHANGED = (b"tRNS", b"acTL", b"eXIf", b"iCCP", b"Raw profile type", b"adobe.xmp")
Fact = dict[str, Any]


@dataclass(frozen=True)
class Jpeg:
    """A JPEG that is yet to be written: of `pixels`, `uint8` RGB `[H, W, 3]`. A progressive one takes four times as long and decodes to the
    same pixels as a plain one. So it is written only where the picture leaves as it is."""

    pixels: np.ndarray
    quality: int
    chroma: str
    progressive: bool

    def decoded(self) -> np.ndarray:
        data = np.frombuffer(self._encoded(False), np.uint8)
        pixels: Any = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
        return pixels

    def encoded(self) -> bytes:
        return self._encoded(self.progressive)

    def _encoded(self, progressive: bool) -> bytes:
        options = [cv2.IMWRITE_JPEG_QUALITY, self.quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLING[self.chroma]]
        options += [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
        done, data = cv2.imencode(".jpg", cv2.cvtColor(self.pixels, cv2.COLOR_RGB2BGR), options)
        if not done:
            raise RuntimeError(f"OpenCV could not encode a {self.pixels.shape} image as JPEG")
        return data.tobytes()


@dataclass(frozen=True)
class Carried:
    """A picture on its way: `data` as it is encoded, if it is (with its `format`), or `jpeg`, and `pixels`, `uint8` RGB `[H, W, 3]`, if
    they are known. `size` is its height and width, where it is encoded and has no pixels yet."""

    data: bytes | None = None
    format: str = ""
    pixels: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    jpeg: Jpeg | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.size if self.pixels is None else (self.pixels.shape[0], self.pixels.shape[1])

    def decoded(self) -> np.ndarray:
        if self.pixels is not None:
            return self.pixels
        if self.jpeg is not None:
            return self.jpeg.decoded()
        assert self.data is not None
        return decode(self.data, "a picture on its way")

    def encoded(self) -> tuple[bytes, str]:
        """Its bytes and their format; PNG, whose pixels are stored as they are, where nothing has compressed it."""
        if self.jpeg is not None:
            return self.jpeg.encoded(), "jpeg"
        if self.data is None:
            return encode_uncompressed(self.decoded()), "png"
        return self.data, self.format


def run(steps: tuple[Step, ...], picture: Carried, seed: int, path: str = "") -> tuple[Carried, list[Fact]]:
    """The picture after all steps, and what was drawn for each that was done. A step's draws depend on `seed` and on its place alone."""
    facts: list[Fact] = []
    for place, step in enumerate(steps):
        at = f"{path}{place}"
        rng = numpy_rng(seed, f"delivery {at}")
        if rng.random() >= step.chance:
            continue
        if step.one_of is not None:
            branch = int(rng.integers(len(step.one_of)))
            picture, taken = run(step.one_of[branch], picture, seed, f"{at}.{branch}.")
            facts += taken
            continue
        picture, fact = _do(step, picture, rng)
        facts.append(fact)
    return picture, facts


def _do(step: Step, picture: Carried, rng: np.random.Generator) -> tuple[Carried, Fact]:
    if step.resize is not None:
        return _resize(step.resize, picture, rng)
    if step.crop is not None:
        return _crop(step.crop, picture, rng)
    if step.encode is not None:
        return _encode(step.encode, picture, rng)
    if step.screenshot is not None:
        return _screenshot(step.screenshot, picture, rng)
    return _strip(picture), {"strip": True}


def _resize(asked: Resize, picture: Carried, rng: np.random.Generator) -> tuple[Carried, Fact]:
    kind, (height, width) = str(_drawn(asked.filter, rng)), picture.shape
    factor = min(1.0, _drawn(asked.longest, rng) / max(height, width)) if asked.longest is not None else _drawn(asked.factor, rng)
    size = _scaled((height, width), factor)
    if size == (height, width):
        return picture, {"resize": [width, height]}
    return Carried(pixels=_resampled(picture.decoded(), size, kind)), {"resize": [size[1], size[0]], "filter": kind}


def _crop(asked: Crop, picture: Carried, rng: np.random.Generator) -> tuple[Carried, Fact]:
    pixels = picture.decoded()
    lengths = [max(min(side, SMALLEST), round(side * _drawn(asked.share, rng))) for side in pixels.shape[:2]]
    top, left = (int(rng.integers(side - length + 1)) for side, length in zip(pixels.shape[:2], lengths, strict=True))
    part = np.ascontiguousarray(pixels[top : top + lengths[0], left : left + lengths[1]])
    return Carried(pixels=part), {"crop": [left, top, lengths[1], lengths[0]]}


def _screenshot(asked: Screenshot, picture: Carried, rng: np.random.Generator) -> tuple[Carried, Fact]:
    pixels, kind = picture.decoded(), str(_drawn(asked.filter, rng))
    scale = float(_drawn(asked.scale, rng))
    height, width = _scaled(pixels.shape[:2], scale)
    margins = [round(side * _drawn(asked.margin, rng)) for side in (height, height, width, width)]
    margins = [min(margin, (LARGEST - side) // 2) for margin, side in zip(margins, (height, height, width, width), strict=True)]
    top, bottom, left, right = margins
    page = np.full((top + height + bottom, left + width + right, 3), int(_drawn(asked.grey, rng)), np.uint8)
    page[top : top + height, left : left + width] = _resampled(pixels, (height, width), kind)
    return Carried(pixels=page), {"screenshot": round(scale, 4), "filter": kind, "margins": margins}


def _encode(asked: Encode, picture: Carried, rng: np.random.Generator) -> tuple[Carried, Fact]:
    pixels = picture.decoded()
    size = (pixels.shape[0], pixels.shape[1])
    chroma, progressive = str(_drawn(asked.chroma, rng)), bool(rng.random() < asked.progressive)
    if asked.jpeg is not None:
        quality = int(_drawn(asked.jpeg, rng))
        jpeg = Jpeg(pixels, quality, chroma, progressive)
        return Carried(None, "jpeg", size=size, jpeg=jpeg), {"jpeg": quality, "chroma": chroma, "progressive": progressive}
    image, stream = Image.fromarray(pixels), io.BytesIO()
    if asked.webp is not None:
        quality = int(_drawn(asked.webp, rng))
        image.save(stream, "WEBP", quality=quality, method=asked.effort)
        return Carried(stream.getvalue(), "webp", size=size), {"webp": quality}
    quality = int(_drawn(asked.avif, rng))
    image.save(stream, "AVIF", quality=quality, speed=AVIF_SPEED, max_threads=1, subsampling="4:2:0")
    return Carried(stream.getvalue(), "avif", size=size), {"avif": quality}


def _strip(picture: Carried) -> Carried:
    """Without metadata. A JPEG, or a PNG of 8-bit RGB, that lies upright and has no colour profile keeps its compressed data; another
    picture keeps its pixels."""
    if picture.data is None:
        return picture
    form = "jpeg" if _is_plain_jpeg(picture.data) else "png" if _is_plain_png(picture.data) else ""
    if form:
        return Carried(without_metadata(picture.data) or picture.data, form, picture.pixels, picture.size)
    return Carried(pixels=picture.decoded())


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether a file is a JPEG that lies upright and has no colour profile."""
    if not data.startswith(JPEG):
        return False
    with opened(data, "a picture on its way") as image:
        return orientation_of(image) == 1 and "icc_profile" not in image.info


def _is_plain_png(data: bytes) -> bool:
    """Whether a file is a PNG of 8-bit RGB without orientation or colour profile, so that its compressed data are its pixels."""
    return data.startswith(PNG) and data[24:26] == b"\x08\x02" and not any(kind in data for kind in PNG_CHANGED)


def _drawn(asked: Any, rng: np.random.Generator) -> Any:
    """A value as a step asks for it: itself, evenly between two bounds (both included), or one of several."""
    if isinstance(asked, AnyOf):
        return asked.any[int(rng.integers(len(asked.any)))]
    if isinstance(asked, tuple):
        low, high = asked
        return int(rng.integers(low, high + 1)) if isinstance(low, int) and isinstance(high, int) else float(rng.uniform(low, high))
    return asked


def _scaled(shape: tuple[int, ...], factor: float) -> tuple[int, int]:
    """Height and width times `factor`, within what a picture may have; proportions stay. A smaller picture is not enlarged to fit."""
    height, width = shape[:2]
    least = min(1.0, SMALLEST / min(height, width))
    factor = max(least, min(factor, LARGEST / max(height, width)))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _resampled(pixels: np.ndarray, size: tuple[int, int], kind: str) -> np.ndarray:
    if pixels.shape[:2] == size:
        return pixels
    if kind == DISPLAY:
        return cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_LINEAR_EXACT)
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), FILTERS[kind]))
