"""Half precision: what it makes of an image that is too large for it, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators import half, registry
from generators.base import Generator, Output, SampleRequest
from generators.checkpoints import Checkpoint
from generators.images import to_uint8
from generators.loading import load_generator, precision_on
from generators.numerics import numerics, state_numerics
from tests.support import stylegan2_checkpoint


class Large(Generator):
    """A layer whose weight is 300: of the seed 300 it makes 90,000, which float16 does not hold."""

    name, title, family, licence, kinds = "large", "Large", "GAN", "MIT", ("sample",)
    resolution = 2
    batch_size = 3

    def __init__(self, dtype: torch.dtype):
        self.network = torch.nn.Linear(1, 1, bias=False).requires_grad_(False).to(dtype)
        self.network.weight.fill_(300.0)
        self.dtype = dtype

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Large:
        return cls(dtype)

    def _sample(self, seeds: list[int], settings: Any) -> Output:
        out = self.network(torch.tensor(seeds, dtype=self.dtype)[:, None])
        return to_uint8((out / 100_000)[:, :, None, None].expand(-1, 3, 2, 2), 0.0, 1.0)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_an_image_that_is_not_finite_is_made_again_in_float32_and_the_others_are_not(precision: str) -> None:
    generator, wide = Large(getattr(torch, precision)), Large(torch.float32)
    generator.precision = precision
    seeds = [1, 300, 100, 7, 250]
    weight = generator.network.weight.data_ptr()
    result = generator.run(SampleRequest(seeds))
    assert result.images[1, 0, 0, 0] == wide.sample(seeds)[1, 0, 0, 0] == 230
    assert np.abs(result.images.astype(int) - wide.sample(seeds)).max() <= 1
    again = [False, precision == "float16", False, False, precision == "float16"]  # bfloat16 has the range of float32
    sizes = [3, 3, 3, 2, 2]
    assert result.columns["made_with"] == [
        {"batch": size, "precision": "float32" if wrong else precision} for size, wrong in zip(sizes, again, strict=True)
    ]
    assert generator.network.weight.data_ptr() == weight and generator.dtype == getattr(torch, precision)


def test_nobody_watches_in_float32() -> None:
    with half.watching() as seen:
        to_uint8(torch.full((2, 3, 4, 4), float("nan")))
    assert [flags.array().tolist() for flags in seen] == [[True, True]]
    assert to_uint8(torch.full((2, 3, 4, 4), float("nan"))).max() == 0  # as before


@pytest.mark.parametrize(
    ("flags", "images", "places"),
    [
        ([], 3, []),
        ([[False, True], [False]], 3, [1]),  # decoded in parts
        ([[False, False, True, False]], 2, [1]),  # two candidates of each image
        ([[True, False, False]], 2, [0, 1]),  # they cannot be told apart
    ],
)
def test_places_of_what_is_not_finite(flags: list[list[bool]], images: int, places: list[int]) -> None:
    assert half.not_finite([np.array(part) for part in flags], images) == places


def test_weights_in_pipelines_are_widened_and_come_back() -> None:
    class Pipeline:
        def __init__(self) -> None:
            self.components = {"unet": torch.nn.Linear(2, 2).half(), "scheduler": object()}

    class Owner:
        def __init__(self) -> None:
            self.pipeline = Pipeline()

    owner = Owner()
    unet: Any = owner.pipeline.components["unet"]
    before = unet.weight.data.clone()
    with half.in_float32(owner):
        assert unet.weight.dtype == unet.bias.dtype == torch.float32
    assert unet.weight.dtype == torch.float16 and torch.equal(unet.weight, before)


def test_released_is_the_authors_precision_on_a_gpu_and_float32_on_a_cpu(tmp_path: Path) -> None:
    released = {
        name: precision_on("cuda:0", "released", registry.get(name)) for name in ("stylegan2", "stable_diffusion", "diffface", "ddpm")
    }
    assert released == {"stylegan2": "float16", "stable_diffusion": "float16", "diffface": "float16", "ddpm": "float32"}
    assert precision_on("cpu", "released", registry.get("stylegan2")) == "float32"
    assert precision_on("cuda:0", "bfloat16", registry.get("stylegan2")) == "bfloat16"
    file = stylegan2_checkpoint(tmp_path / "stylegan2.safetensors")
    plain, asked = (load_generator("stylegan2", Checkpoint(file, options)) for options in ({}, {"precision": "released"}))
    assert asked.precision == "float32"
    assert np.array_equal(plain.sample([1, 2]), asked.sample([1, 2]))


def test_how_a_gpu_rounds_is_stated_and_can_be_recorded() -> None:
    before = numerics()
    try:
        state_numerics(exact=True)
        exact = numerics()
        state_numerics()
        assert (exact["tf32_matmul"], exact["tf32_convolutions"], exact["cudnn_deterministic"]) == (False, False, True)
        assert {name for name, value in numerics().items() if value != exact[name]} == {"tf32_convolutions", "cudnn_deterministic"}
        assert not numerics()["cudnn_benchmark"]
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before["tf32_matmul"]
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = before["tf32_convolutions"], before["cudnn_deterministic"]


def test_images_that_are_made_in_another_order_are_noted_at_their_own_places() -> None:
    with half.watching() as seen:
        with half.reordered([2, 0, 1]):
            half.note(torch.tensor([[1.0], [torch.nan]]))  # images 2 and 0
            half.note(torch.tensor([[1.0]]))  # image 1
        with half.watching(False):
            half.note(torch.tensor([[torch.nan]]))
    assert [flags.array().tolist() for flags in seen] == [[True, False, False]]
    with half.watching(False) as seen, half.reordered([1, 0]):
        half.note(torch.full((2, 1), torch.nan))
    assert seen == []


def test_a_batch_is_made_under_the_settings_of_its_own_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the process's, and two generators of a chain stay loaded: one is exact, the other not."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    before = numerics()
    seen: list[tuple[bool, bool]] = []

    class Looks(Large):
        def _sample(self, seeds: list[int], settings: Any) -> Output:
            seen.append((numerics()["tf32_convolutions"], numerics()["cudnn_deterministic"]))
            return super()._sample(seeds, settings)

    exact, plain = Looks(torch.float32), Looks(torch.float32)
    exact.exact = True
    try:
        for generator in (exact, plain, exact):
            generator.sample([1])
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before["tf32_matmul"]
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = before["tf32_convolutions"], before["cudnn_deterministic"]
    assert seen == [(False, True), (True, False), (False, True)]
