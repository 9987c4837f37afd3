"""A PNG's structure tells its writer and its packing, whatever its pixels are."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pipelines.audit.formats.png import WRITERS, deflate_setting, read_png, settle_filters, size_excess, writers_of

NOISE = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
SLOPE = np.repeat(np.add.outer(np.arange(40), np.arange(48)).astype(np.uint8)[..., None], 3, -1)


def packed(pixels: np.ndarray, level: int, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=level, **options)
    return stream.getvalue()


@pytest.mark.parametrize("writer", sorted(WRITERS))
@pytest.mark.parametrize("pixels", [NOISE, SLOPE], ids=["noise", "slope"])
def test_the_writer_of_a_file_is_known_by_its_filters(writer: str, pixels: np.ndarray) -> None:
    png = read_png(WRITERS[writer](pixels), len(pixels))
    assert len(png.filters) == len(pixels)
    assert writer in writers_of(png, pixels)
    assert writers_of(replace(png, filters=bytes([3]) * len(pixels)), pixels) == set()
    assert writers_of(replace(png, filters=b""), pixels) == set(), "an interlaced file"


def test_grey_files_are_written_again_as_grey() -> None:
    png = read_png(WRITERS["Pillow"](NOISE[..., 0]), len(NOISE))
    assert png.is_grey
    assert "Pillow" in writers_of(png, np.repeat(NOISE[..., :1], 3, -1))


def test_the_setting_is_found_and_other_settings_show_as_excess() -> None:
    files = [read_png(packed(pixels, 6), len(pixels)) for pixels in (SLOPE, SLOPE[:, ::-1], NOISE)]
    setting = deflate_setting(files)
    assert setting[0] == 6
    assert size_excess(files[0], setting) == pytest.approx(0, abs=0.02)
    assert size_excess(read_png(packed(SLOPE, 0), len(SLOPE)), setting) > 1


def test_metadata_is_counted_by_kind() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a camera")
    png = read_png(packed(SLOPE, 6, pnginfo=text) + b"behind the end", len(SLOPE))
    assert (png.metadata["text"], png.metadata["exif"]) == (1.0, 0.0)
    assert png.metadata["trailing"] == pytest.approx(np.log1p(14))
    assert read_png(packed(SLOPE, 6), len(SLOPE)).metadata["text"] == 0.0


def test_filters_of_the_commonest_writer_become_one_word() -> None:
    encoders = [{"filter": "1"}, {"filter": "adaptive"}, {"filter": "4"}]
    settled = settle_filters(encoders, [{"Pillow"}, {"Pillow", "OpenCV"}, set()])
    assert settled == [{"filter": "Pillow"}, {"filter": "Pillow"}, {"filter": "4"}]
    assert encoders[0] == {"filter": "1"}, "what the caller passed stays"
    assert settle_filters(encoders, [set(), set(), set()]) == encoders
