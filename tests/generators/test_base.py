from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from generators.base import EditRequest, Generator, Output, PromptRequest, Request, Result, SampleRequest, SwapRequest
from generators.checkpoints import Checkpoint
from generators.errors import InputError

IMAGES = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2).repeat(3, 3)


class Shift(Generator):
    """Adds the seed to a target, and says of each image whether gradients could be had while it was made."""

    name = "shift"
    title = "Shift"
    family = "GAN"
    licence = "MIT"
    kinds = ("sample", "edit")
    batch_size = 2

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Shift:
        return cls()

    @property
    def resolution(self) -> int:
        return 4

    def _sample(self, seeds: list[int], settings: Any) -> Output:
        return self._edit(np.zeros((len(seeds), 4, 4, 3), np.uint8), seeds, settings)

    def _edit(self, images: np.ndarray, seeds: list[int], settings: Any) -> Output:
        shifted = images + np.array(seeds, np.uint8)[:, None, None, None]
        return Result(shifted, {0: "the first of its batch"}, {"inference": [torch.is_inference_mode_enabled()] * len(seeds)})


@pytest.mark.parametrize(
    "request_of_five",
    [
        SampleRequest(range(5)),
        PromptRequest(range(5), list("abcde")),
        SwapRequest(range(5), IMAGES, IMAGES[::-1]),
        EditRequest(range(5), IMAGES),
    ],
    ids=lambda request: request.kind,
)
def test_a_part_of_a_request_holds_the_rows_of_every_field(request_of_five: Request) -> None:
    part = request_of_five.part(slice(1, 3))
    assert type(part) is type(request_of_five)
    for name, values in vars(request_of_five).items():
        assert np.array_equal(list(getattr(part, name)), list(values[1:3]))


def test_a_request_whose_fields_differ_in_length_is_refused() -> None:
    with pytest.raises(InputError, match=r"prompt: seeds and prompts differ in number \(2 and 1\)") as error:
        PromptRequest([1, 2], ["a face"])
    assert "Give as many prompts as seeds" in str(error.value)
    with pytest.raises(InputError, match=r"swap: seeds and sources differ in number \(5 and 4\)"):
        SwapRequest(range(5), IMAGES[:4], IMAGES)


def test_a_request_is_made_batch_by_batch_and_its_results_keep_their_places() -> None:
    result = Shift().run(EditRequest([10, 20, 30, 40, 50], IMAGES))
    assert result.images[:, 0, 0, 0].tolist() == [10, 21, 32, 43, 54]
    assert sorted(result.rejected) == [0, 2, 4]
    assert result.columns == {"inference": [True] * 5}


def test_only_a_generator_that_needs_gradients_works_outside_inference_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shift, "needs_gradients", True)
    assert Shift().run(SampleRequest([1])).columns == {"inference": [False]}


def test_a_kind_that_a_generator_cannot_do_is_refused() -> None:
    with pytest.raises(InputError, match="shift cannot swap") as error:
        Shift().swap(IMAGES, IMAGES, range(5))
    assert "It can sample or edit" in str(error.value)
