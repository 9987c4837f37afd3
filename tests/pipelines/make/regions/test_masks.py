"""Masks drawn by seed, and read beside real images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from generators.errors import InputError
from pipelines.images import decode, fit
from pipelines.make.regions import masks
from pipelines.manifest.masks import MaskSpec
from pipelines.plan.reals import RealImage


@pytest.mark.parametrize("shape", ["box", "ellipse", "brush"])
def test_a_seed_draws_the_same_mask_of_the_asked_area(shape: Any) -> None:
    spec = MaskSpec(shape=shape, area=(0.1, 0.3))
    drawn = [masks.draw(spec, seed, 64) for seed in range(40)]
    assert all(np.array_equal(mask, masks.draw(spec, seed, 64)) for seed, mask in enumerate(drawn))
    assert len({mask.tobytes() for mask in drawn}) == 40
    shares = np.array([mask.mean() for mask in drawn])
    assert shares.min() >= 0.07
    assert shares.max() <= 0.4
    assert shares.max() - shares.min() > 0.1


def test_a_resized_mask_covers_all_that_it_covered() -> None:
    mask = np.zeros((64, 64), bool)
    mask[3, 60] = True
    small = masks.resized(mask, 16)
    assert small.sum() == 1
    assert small[0, 15]
    assert masks.resized(small, 64)[3, 60]
    wide = np.zeros((10, 30), bool)
    wide[:, 10:20] = True
    assert masks.resized(wide, 10).all()
    assert np.array_equal(decode(masks.encode_mask(mask), "mask")[..., 1], mask * np.uint8(255))


def test_a_mask_lies_beside_its_real_image(tmp_path: Path) -> None:
    reals, folder = tmp_path / "reals", tmp_path / "masks"
    image = RealImage("real/r/0", "0", "g", None, "train", partial(np.zeros, (8, 8, 3), np.uint8), reals / "a" / "one.jpg")
    with pytest.raises(InputError, match=r"no mask for a/one\.jpg.*one\.png"):
        masks.read(folder, image, reals, np.asarray)
    (folder / "a").mkdir(parents=True)
    pixels = np.zeros((16, 16, 3), np.uint8)
    cv2.imwrite(str(folder / "a" / "one.png"), pixels)
    with pytest.raises(InputError, match="black"):
        masks.read(folder, image, reals, np.asarray)
    pixels[:, :8] = 255
    cv2.imwrite(str(folder / "a" / "one.png"), pixels)
    mask = masks.read(folder, image, reals, lambda picture: fit(picture, 8))
    assert mask[:, :4].all()
    assert not mask[:, 5:].any()


def test_the_manifest_says_one_kind_of_mask() -> None:
    assert MaskSpec.model_validate("box").shape == "box"
    assert MaskSpec.model_validate({"face": "hair"}).face == ("hair",)
    for wrong in ({}, {"shape": "box", "face": "hair"}, {"shape": "star"}, {"shape": "box", "area": [0.5, 0.1]}, {"face": []}):
        with pytest.raises(ValidationError):
            MaskSpec.model_validate(wrong)
