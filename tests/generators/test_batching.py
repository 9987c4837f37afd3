"""How batches grow, what is remembered, and that a batch of one shape gives the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators.base import Generator, Output, Request, SampleRequest, SwapRequest
from generators.batching import Growth
from generators.checkpoints import Checkpoint
from generators.loading import load_generator
from generators.memory import OutOfMemory
from tests.support import stylegan2_checkpoint


class Card:
    """A meter of a card that needs `per_image` bytes of `memory`, and makes `fastest` images a second from `flat` images on."""

    def __init__(self, memory: int = 1 << 40, per_image: int = 1, flat: int = 1 << 20):
        self.memory, self.per_image, self.flat, self.images = memory, per_image, flat, 0

    def begin(self) -> None:
        self.images = 0

    def made(self, images: int) -> None:
        self.images = images

    def end(self) -> tuple[float, int]:
        return max(1.0, self.images / self.flat), self.images * self.per_image

    def free(self) -> int:
        return self.memory


class Counted(Generator):
    """Black images; `sizes` are those of its batches. Beyond `fits` images memory runs out."""

    name, title, family, licence, kinds = "counted", "Counted", "GAN", "MIT", ("sample", "swap")
    resolution = 4

    def __init__(self, fits: int = 1 << 20) -> None:
        self.sizes: list[int] = []
        self.fits = fits

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Counted:
        return cls()

    def _sample(self, seeds: list[int], settings: Any) -> Output:
        if len(seeds) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.sizes.append(len(seeds))
        if self.growth is not None:
            self.growth.meter.made(len(seeds))  # type: ignore[attr-defined]
        return (np.array(seeds) % 256).astype(np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2).repeat(3, 3)


def grown(card: Card, fits: int = 1 << 20, remembered: dict[str, int] | None = None, images: int = 4000) -> tuple[Counted, dict[str, int]]:
    generator, remembered = Counted(fits), {} if remembered is None else remembered
    generator.growth = Growth(card, remembered, "card", generator.batch_size)
    generator.run(SampleRequest(range(images)))
    return generator, remembered


@pytest.mark.parametrize(
    ("card", "settled"),
    [
        (Card(), 256),  # the largest that is tried
        (Card(flat=32), 32),  # 64 is no faster
        (Card(memory=1000, per_image=10), 64),  # 128 images would take more than 0.8 of it
        (Card(memory=100, per_image=10), 8),  # the usual size stays
    ],
    ids=["free", "flat", "memory", "small"],
)
def test_a_batch_grows_to_what_fits_and_pays(card: Card, settled: int) -> None:
    generator, remembered = grown(card)
    assert remembered == {"card": settled}
    assert generator.batch_size == settled
    assert set(generator.sizes[:-1]) <= {8, 16, 32, 64, 128, 256}


def test_what_was_found_is_used_from_the_first_batch_of_the_next_build() -> None:
    _, remembered = grown(Card(flat=32))
    generator, after = grown(Card(), remembered=dict(remembered), images=100)
    assert generator.sizes == [32, 32, 32, 4]
    assert after == remembered


def test_out_of_memory_halves_and_is_remembered() -> None:
    generator, remembered = grown(Card(), fits=48)
    assert remembered == {"card": 32}
    assert max(generator.sizes) == 32
    assert sum(generator.sizes) == 4000


def test_an_exact_generator_fills_its_batches_and_does_not_halve_them() -> None:
    generator = Counted()
    generator.exact, generator.batch_size = True, 6
    result = generator.run(SampleRequest(range(8)))
    assert generator.sizes == [6, 6]
    assert result.images[:, 0, 0, 0].tolist() == list(range(8))
    assert result.columns["made_with"] == [{"batch": 6}] * 8
    small = Counted(fits=4)
    small.exact, small.batch_size = True, 6
    with pytest.raises(OutOfMemory, match=r"batches of 6, which `exact` holds it to.*smaller `batch_size`"):
        small.run(SampleRequest(range(8)))


def test_the_usual_batch_on_a_cpu_is_not_written_down_and_another_is() -> None:
    assert Counted().run(SampleRequest(range(9))).columns == {}
    generator = Counted()
    generator.batch_size = 4
    assert generator.run(SampleRequest(range(6))).columns == {"made_with": [{"batch": 4}] * 4 + [{"batch": 2}] * 2}


@pytest.mark.parametrize("request_of_two", [SampleRequest([3, 5]), SwapRequest([3, 5], np.eye(2), np.eye(2))], ids=["sample", "swap"])
def test_a_padded_request_repeats_its_last_image(request_of_two: Request) -> None:
    padded = request_of_two.padded(4)
    assert list(padded.seeds) == [3, 5, 5, 5]
    assert request_of_two.padded(1) is request_of_two
    if isinstance(padded, SwapRequest):
        assert np.array_equal(padded.sources, np.eye(2)[[0, 1, 1, 1]])


def test_options_set_the_batch_and_the_command_goes_before_them_but_not_before_exact(tmp_path: Path) -> None:
    file = stylegan2_checkpoint(tmp_path / "stylegan2.safetensors")

    def batch(given: int | None = None, **options: Any) -> int:
        return load_generator("stylegan2", Checkpoint(file, options), batch_size=given).batch_size

    assert (batch(), batch(3), batch(batch_size=5), batch(3, batch_size=5)) == (8, 3, 5, 3)
    assert (batch(3, batch_size=5, exact=True), batch(3, exact=True)) == (5, 8)


def test_exact_gives_the_same_bytes_whatever_is_made_with_an_image(tmp_path: Path) -> None:
    file = stylegan2_checkpoint(tmp_path / "stylegan2.safetensors")
    generator = load_generator("stylegan2", Checkpoint(file, {"exact": True, "batch_size": 4}))
    together = generator.sample([1, 2, 3, 4, 5, 6])
    for place, seed in enumerate([1, 2, 3, 4, 5, 6]):
        assert np.array_equal(generator.sample([seed])[0], together[place])


def test_a_size_that_nobody_fills_is_given_up_and_the_device_is_not_waited_for_any_more() -> None:
    """Faces come in chunks of 16 and 32. Their batch would stay unsettled, and each one would be timed."""
    card, remembered = Card(), dict[str, int]()
    generator = Counted()
    generator.growth = Growth(card, remembered, "card", generator.batch_size)
    for chunk in range(12):
        generator.run(SampleRequest(range(16 * chunk, 16 * chunk + 16)))
    assert remembered == {"card": 16} and generator.growth.settled
    assert set(generator.sizes) == {8, 16} and generator.sizes[-1] == 16


def test_a_few_images_at_first_settle_nothing() -> None:
    generator, remembered = Counted(), dict[str, int]()
    generator.growth = Growth(Card(), remembered, "card", generator.batch_size)
    for seed in range(10):
        generator.run(SampleRequest([seed]))
    assert remembered == {} and not generator.growth.settled
