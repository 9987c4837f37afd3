"""Every format has all families of features, and what is no image is refused by name."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from generators.errors import InputError
from pipelines.audit.container import read_container
from pipelines.audit.families import CHROMA, DIMENSIONS, ENCODER, FILE_FAMILIES, FORMAT, METADATA, QUANTISATION, SIZE, TOGETHER, joined

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)


def encoded(form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_every_format_has_all_families(form: str) -> None:
    data = encoded(form)
    container = read_container(data, "picture", ".XYZ")
    assert tuple(container.families) == FILE_FAMILIES
    assert container.families[DIMENSIONS] == {"width": 48, "height": 40, "pixels": 1920, "aspect": 1.2, "whole_blocks": 3.0}
    assert container.families[FORMAT] == {"format": form, "mode": "RGB", "suffix": ".xyz"}
    assert (container.size, container.pixels, container.png is not None) == (len(data), 1920, form == "PNG")


def test_a_jpeg_tells_its_tables_its_chroma_and_its_codes() -> None:
    fine, coarse = (read_container(encoded("JPEG", quality=quality), "x").families for quality in (95, 50))
    assert float(fine[QUANTISATION]["luma"] or 0) < float(coarse[QUANTISATION]["luma"] or 0)
    assert fine[QUANTISATION]["which"] != coarse[QUANTISATION]["which"]
    assert fine[CHROMA]["sampling"] == "22 11 11"
    assert read_container(encoded("JPEG", subsampling=0), "x").families[CHROMA]["sampling"] == "11 11 11"
    assert fine[ENCODER]["codes"] == "standard"
    assert read_container(encoded("JPEG", optimize=True), "x").families[ENCODER]["codes"] == "optimised"
    assert read_container(encoded("JPEG", progressive=True), "x").families[ENCODER]["progressive"] == 1.0
    assert read_container(encoded("JPEG", comment=b"by hand"), "x").families[METADATA]["comment"] == 1.0


def test_only_a_lossy_webp_has_a_size() -> None:
    assert "bytes_per_pixel" in read_container(encoded("WEBP", quality=80), "x").families[SIZE]
    assert read_container(encoded("WEBP", lossless=True), "x").families[SIZE] == {}


@pytest.mark.parametrize("data", [b"", b"<svg/>", b"\x89PNG\r\n\x1a\n", encoded("PNG")[:40]])
def test_what_is_no_image_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(InputError, match="thing is not an image"):
        read_container(data, "thing")


def test_joined_families_keep_their_names() -> None:
    assert joined({"a": [{"x": 1.0}, {}], "b": [{"x": 2.0}, {"y": "z"}]}) == [{"a: x": 1.0, "b: x": 2.0}, {"b: y": "z"}]
    assert TOGETHER not in FILE_FAMILIES
