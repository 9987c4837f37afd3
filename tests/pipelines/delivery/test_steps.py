"""Steps of a delivery: what each does to pixels and bytes, and that a seed alone decides it."""

from __future__ import annotations

import io
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from pydantic import TypeAdapter, ValidationError

from foreign.pictures import decode
from generators.errors import InputError
from pipelines.delivery.deliver import deliver
from pipelines.make.past import quality_of
from pipelines.manifest.deliveries import MOST_STEPS, Step, as_data, expanded, read_delivery, recipes


def steps_of(*data: dict[str, Any]) -> tuple[Step, ...]:
    return TypeAdapter(tuple[Step, ...]).validate_python(data)


def picture(height: int = 96, width: int = 128, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    return (np.asarray(small).astype(int) + rng.integers(-8, 8, (height, width, 3))).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", list(recipes()))
def test_the_same_seed_gives_the_same_bytes_in_any_order_and_any_thread(name: str) -> None:
    steps, pictures = expanded((name,)), [picture(seed=seed) for seed in range(6)]
    alone = [deliver(pixels, steps, seed).data for seed, pixels in enumerate(pictures)]
    order = list(range(6))
    random.Random(0).shuffle(order)
    with ThreadPoolExecutor(4) as pool:
        together = dict(zip(order, pool.map(lambda seed: deliver(pictures[seed], steps, seed).data, order), strict=True))
    assert [together[seed] for seed in range(6)] == alone
    if name != "stripped":
        assert len({deliver(pictures[0], steps, seed).data for seed in range(6)}) > 1


def test_every_recipe_that_ships_says_what_it_follows_and_names_no_platform() -> None:
    """In its name and its sentence, that is: the measurements that it follows were made on platforms, and say so."""
    platforms = ("facebook", "instagram", "twitter", "whatsapp", "telegram", "tiktok", "signal", "wechat", "weibo", "reddit", "snapchat")
    assert {"feed", "messenger", "screenshot"} <= recipes().keys()
    for name, recipe in recipes().items():
        assert not any(platform in f"{name} {recipe.about}".lower() for platform in platforms)
        assert all(len(source) > 40 for source in recipe.follows)


def test_longest_makes_large_pictures_smaller_and_leaves_others() -> None:
    steps = steps_of({"resize": {"longest": 64}})
    assert (deliver(picture(), steps, 0).height, deliver(picture(), steps, 0).width) == (48, 64)
    small = picture(40, 60)
    assert np.array_equal(decode(deliver(small, steps, 0).data, "small"), small)


def test_a_factor_is_drawn_between_its_bounds_and_no_side_becomes_too_small() -> None:
    widths = {deliver(picture(), steps_of({"resize": {"factor": [0.5, 1.5]}}), seed).width for seed in range(30)}
    assert 64 <= min(widths) < 90
    assert 160 < max(widths) <= 192
    tiny = deliver(picture(16, 20), steps_of({"resize": {"factor": 0.05}}), 0)
    assert (tiny.height, tiny.width) == (16, 20)


def test_a_crop_cuts_and_does_not_resample() -> None:
    pixels = picture()
    result = deliver(pixels, steps_of({"crop": {"share": [0.5, 0.9]}}), 3)
    left, top, width, height = result.steps[0]["crop"]
    assert np.array_equal(decode(result.data, "cut"), pixels[top : top + height, left : left + width])
    assert 48 <= height <= 87
    assert 64 <= width <= 116


@pytest.mark.parametrize(("chroma", "number"), [("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)])
def test_a_jpeg_has_the_quality_chroma_and_order_that_were_drawn(chroma: str, number: int) -> None:
    from PIL import JpegImagePlugin

    for progressive in (0.0, 1.0):
        asked = {"jpeg": [40, 90], "chroma": chroma, "progressive": progressive}
        qualities = set()
        for seed in range(8):
            result = deliver(picture(), steps_of({"encode": asked}), seed)
            image = Image.open(io.BytesIO(result.data))
            assert isinstance(image, JpegImagePlugin.JpegImageFile)
            quality = quality_of(tuple(image.quantization[0]))
            assert quality == result.steps[0]["jpeg"]
            assert JpegImagePlugin.get_sampling(image) == number
            assert bool(image.info.get("progressive")) == bool(progressive)
            qualities.add(quality)
        assert len(qualities) > 4
        assert min(qualities) >= 40
        assert max(qualities) <= 90


@pytest.mark.parametrize(("kind", "form"), [("webp", "WEBP"), ("avif", "AVIF")])
def test_the_newer_formats(kind: str, form: str) -> None:
    result = deliver(picture(), steps_of({"encode": {kind: [60, 80]}}), 0)
    with Image.open(io.BytesIO(result.data)) as image:
        assert image.format == form
    assert (result.format, result.height, result.width) == (kind, 96, 128)
    assert np.abs(decode(result.data, "x").astype(int) - picture()).mean() < 20


def test_a_second_round_works_on_what_the_first_gave() -> None:
    first, both = steps_of({"encode": {"jpeg": 30}}), steps_of({"encode": {"jpeg": 30}}, {"encode": {"jpeg": 90}})
    once = deliver(picture(), first, 0)
    again = deliver(decode(once.data, "once"), both[1:], 0)
    assert deliver(picture(), both, 0).data == again.data


@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [0.0, 1.0])
def test_a_jpeg_is_that_of_the_library_and_what_follows_works_on_it(chroma: str, progressive: float) -> None:
    """A progressive one is written only where the picture leaves as it is; the pixels that go on are the same."""
    asked = steps_of({"encode": {"jpeg": 70, "chroma": chroma, "progressive": progressive}}, {"crop": {"share": 0.5}}, {"strip": True})
    stream, order = io.BytesIO(), ["4:4:4", "4:2:2", "4:2:0"]
    Image.fromarray(picture()).save(stream, "JPEG", quality=70, subsampling=order.index(chroma), progressive=bool(progressive))
    expected = decode(stream.getvalue(), "by Pillow")
    for steps in (asked[:1], (asked[0], asked[2])):
        result = deliver(picture(), steps, 0)
        assert np.array_equal(decode(result.data, "x"), expected)
        assert bool(Image.open(io.BytesIO(result.data)).info.get("progressive")) == bool(progressive)
    cut = deliver(picture(), asked[:2], 0)
    left, top, width, height = cut.steps[1]["crop"]
    assert np.array_equal(decode(cut.data, "cut"), expected[top : top + height, left : left + width])


def test_a_screenshot_stands_on_a_page() -> None:
    asked = {"scale": 0.5, "margin": [0.2, 0.4], "grey": 24}
    result = deliver(picture(), steps_of({"screenshot": asked}), 1)
    top, bottom, left, right = result.steps[0]["margins"]
    pixels = decode(result.data, "page")
    assert pixels.shape == (48 + top + bottom, 64 + left + right, 3)
    assert 9 <= top <= 20
    assert (pixels[:top] == 24).all()
    assert (pixels[:, :left] == 24).all()
    assert pixels[top:-bottom, left:-right].std() > 5


def test_a_chance_and_one_of_are_drawn() -> None:
    maybe = [len(deliver(picture(), steps_of({"crop": {"share": 0.5}, "chance": 0.3}), seed).steps) for seed in range(60)]
    assert 6 <= sum(maybe) <= 32
    branches = ({"encode": {"jpeg": 80}},), ({"encode": {"webp": 80}},)
    formats = [deliver(picture(16, 16), steps_of({"one_of": branches}), seed).format for seed in range(20)]
    assert set(formats) == {"jpeg", "webp"}


def test_a_later_step_does_not_move_what_an_earlier_one_draws() -> None:
    one, two = steps_of({"crop": {"share": [0.5, 0.9]}}), steps_of({"crop": {"share": [0.5, 0.9]}}, {"encode": {"jpeg": [10, 90]}})
    for seed in range(5):
        assert deliver(picture(), one, seed).steps[0] == deliver(picture(), two, seed).steps[0]


def with_exif(pixels: np.ndarray, orientation: int) -> bytes:
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "a camera"
    Image.fromarray(pixels).save(stream, "JPEG", quality=70, exif=exif, comment=b"hello")
    return stream.getvalue()


def test_stripped_jpegs_keep_their_compressed_data() -> None:
    data = with_exif(picture(), 1)
    result = deliver(data, steps_of({"strip": True}), 0)
    assert (result.format, result.height, result.width) == ("jpeg", 96, 128)
    assert b"a camera" not in result.data
    assert b"hello" not in result.data
    assert data.endswith(result.data[-500:])
    assert np.array_equal(decode(result.data, "bare"), decode(data, "whole"))


def png(pixels: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    pixels.save(stream, "PNG", compress_level=9, **options)
    return stream.getvalue()


def test_stripped_pngs_keep_their_compressed_data_where_these_are_their_pixels() -> None:
    plain, text, exif = Image.fromarray(picture()), PngImagePlugin.PngInfo(), Image.Exif()
    text.add_text("Software", "a camera")
    exif[0x0112], exif[0x010F] = 6, "a camera"
    turned = PngImagePlugin.PngInfo()
    turned.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    assert deliver(png(plain, pnginfo=text), steps_of({"strip": True}), 0).data == png(plain)
    others = {
        "grey": png(plain.convert("L")),
        "transparent": png(plain.convert("RGBA")),
        "one colour transparent": png(plain, transparency=tuple(picture()[0, 0].tolist())),
        "palette": png(plain.quantize(16)),
        "on its side": png(plain, exif=exif),
        "on its side by a text": png(plain, pnginfo=turned),
        "animated": png(plain, save_all=True, append_images=[plain.rotate(180)]),
        "16 bits": cv2.imencode(".png", picture().astype(np.uint16) * 257)[1].tobytes(),
    }
    for name, data in others.items():
        result = deliver(data, steps_of({"strip": True}), 0)
        assert result.format == "png", name
        assert np.array_equal(decode(result.data, name), decode(data, name)), name
        with Image.open(io.BytesIO(result.data)) as image:
            assert (image.mode, getattr(image, "n_frames", 1), dict(image.getexif())) == ("RGB", 1, {}), name
        assert b"a camera" not in result.data


def test_a_picture_on_its_side_is_turned_before_that_is_forgotten() -> None:
    data = with_exif(picture(), 6)
    result = deliver(data, steps_of({"strip": True}), 0)
    assert (result.format, result.height, result.width) == ("png", 128, 96)
    assert np.array_equal(decode(result.data, "upright"), decode(data, "whole"))


def test_no_delivery_passes_metadata_on() -> None:
    for name in recipes():
        result = deliver(with_exif(picture(), 1), expanded((name,)), 0)
        with Image.open(io.BytesIO(result.data)) as image:
            assert not image.getexif()
        assert b"a camera" not in result.data


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"resize": {"longest": 8}}, "whole numbers from 16 to 4096"),
        ({"resize": {"longest": [200, 100]}}, "lower bound comes first"),
        ({"resize": {"longest": [1, 2, 3]}}, r"write \{any"),
        ({"resize": {"longest": 64, "factor": 0.5}}, "either `longest` or `factor`"),
        ({"resize": {"factor": float("nan")}}, "numbers from"),
        ({"resize": {"factor": True}}, "numbers from"),
        ({"resize": {"longest": {"any": "abc"}}}, "whole numbers"),
        ({"encode": {"jpeg": 101}}, "from 1 to 100"),
        ({"encode": {"jpeg": 80, "webp": 80}}, "one of `jpeg`"),
        ({"encode": {"jpeg": 80, "chroma": "4:1:1"}}, "4:2:0"),
        ({"encode": {"jpeg": 80}, "strip": True}, "exactly one of"),
        ({"crop": {"share": None}}, "numbers from"),
        ({"blur": 3}, "Extra inputs"),
        ({"chance": 0.5}, "exactly one of"),
    ],
)
def test_a_step_that_cannot_be_done_is_refused(step: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        steps_of(step)


def test_a_delivery_is_read_from_names_or_a_file(tmp_path: Path) -> None:
    assert as_data(expanded(read_delivery("feed, messenger"))) == as_data(recipes()["feed"].steps + recipes()["messenger"].steps)
    (tmp_path / "own.yaml").write_text("- feed\n- encode: {jpeg: [50, 60]}\n")
    assert len(expanded(read_delivery(str(tmp_path / "own.yaml")))) == len(recipes()["feed"].steps) + 1
    with pytest.raises(InputError, match="no recipe 'fed'; did you mean 'feed'"):
        read_delivery("fed")
    (tmp_path / "wrong.yaml").write_text("- encode: {jpeg: 500}\n")
    with pytest.raises(InputError, match=r"step 1: encode\.jpeg: whole numbers from 1 to 100"):
        read_delivery(str(tmp_path / "wrong.yaml"))
    with pytest.raises(InputError, match=f"1 to {MOST_STEPS} steps"):
        read_delivery(",".join(["feed"] * 40))
    with pytest.raises(InputError):
        read_delivery(str(tmp_path / "none.yaml"))
