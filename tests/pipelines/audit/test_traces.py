"""Compression and resampling leave marks in the pixels that the features show."""

from __future__ import annotations

import io

import numpy as np
import skimage.data
from PIL import Image

from pipelines.audit.families import BLOCKINESS, HISTORY, PHASE, RESAMPLING, TRACE_FAMILIES
from pipelines.audit.traces import read_traces

PHOTOGRAPH = np.asarray(Image.fromarray(skimage.data.astronaut()).resize((256, 256), Image.Resampling.LANCZOS))


def compressed(pixels: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).convert("RGB"))


def value(pixels: np.ndarray, family: str, name: str) -> float:
    return float(read_traces(np.ascontiguousarray(pixels))[family][name] or 0)


def test_harder_compression_shows_as_blocks_and_combs() -> None:
    hard = compressed(PHOTOGRAPH, 40)
    assert value(hard, BLOCKINESS, "peak") > 2 * value(PHOTOGRAPH, BLOCKINESS, "peak")
    assert value(hard, HISTORY, "comb01") > 2 * value(PHOTOGRAPH, HISTORY, "comb01")


def test_a_cut_moves_the_grid() -> None:
    hard = compressed(PHOTOGRAPH, 40)
    places = [max(range(8), key=lambda place: value(pixels, PHASE, f"x{place}")) for pixels in (hard, hard[5:, 3:])]
    assert (places[0] - places[1]) % 8 == 3


def test_enlarging_shows_as_a_peak() -> None:
    large = np.asarray(Image.fromarray(PHOTOGRAPH[:192, :192]).resize((256, 256), Image.Resampling.BILINEAR))
    assert value(large, RESAMPLING, "peak") > 1.3 * value(PHOTOGRAPH, RESAMPLING, "peak")


def test_a_tiny_picture_has_no_traces() -> None:
    assert read_traces(PHOTOGRAPH[:12, :40]) == {family: {} for family in TRACE_FAMILIES}
