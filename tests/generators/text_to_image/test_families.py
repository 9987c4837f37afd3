"""Every family on its own: sizes as asked, a seed alone as in a batch, for prompts, edits and inpainting."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError, InputError
from generators.images import to_float, to_uint8
from generators.methods.text_to_image import TextToImage
from generators.text_to_image.batches import Companions
from tests.generators.text_to_image import tiny_families as tiny
from tests.generators.text_to_image.test_text_to_image import check_family
from tests.generators.text_to_image.tiny_further import ALL, FAMILIES
from tests.generators.text_to_image.tiny_released import FAMILIES as RELEASED

SIZE = 64


def load(name: str, folder: Path) -> TextToImage:
    return TextToImage.load(Checkpoint(tiny.save(name, folder, ALL), {"size": SIZE}))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RELEASED, *FAMILIES])
def test_a_family_needs_no_code(tmp_path: Path, name: str) -> None:
    check_family(load(name, tmp_path), SIZE)


def test_prompts_of_other_lengths_change_nothing_where_padding_is_not_masked(tmp_path: Path) -> None:
    """CogView4 pads to the longest text of a batch. Its images are made with those of texts as long as theirs."""
    model = load("cogview4", tmp_path)
    prompts = ["a cat", "a red dog that sits beside a cat on the wall of a garden", "a dog"]
    together = model.prompt(prompts, [1, 2, 3], steps=2).astype(int)
    alone = np.concatenate([model.prompt([prompt], [seed], steps=2) for prompt, seed in zip(prompts, [1, 2, 3], strict=True)])
    assert np.abs(together - alone).max() <= 1
    assert model._companions.groups(prompts, lambda *_: together) == [[0, 2], [1]]


def test_what_depends_on_companions_is_tried_once_and_refusals_are_taken_for_a_yes() -> None:
    pipeline = SimpleNamespace(components={"tokenizer": None})
    calls: list[list[str]] = []

    def make(prompts: list[str], seeds: list[int]) -> np.ndarray:
        calls.append(prompts)
        return np.zeros((2, 4, 4, 3), np.uint8)

    def refuse(prompts: list[str], seeds: list[int]) -> np.ndarray:
        raise InputError("2 steps are too few", "Give more")

    free = Companions(pipeline)
    assert free.groups(["a", "a"], make) == [[0, 1]] and not calls
    assert free.groups(["a", "b", "a"], make) == free.groups(["c", "d", "e"], make) == [[0, 1, 2]]
    assert len(calls) == 2
    assert Companions(pipeline).groups(["a", "b", "a"], refuse) == [[0, 2], [1]]


@pytest.mark.slow  # two loops of a whole transformer: half of the file's time
def test_a_class_of_diffusers_that_cannot_work_is_done_without(tmp_path: Path) -> None:
    """Chroma's inpainting looks for a setting that its transformer does not have."""
    model = load("chroma", tmp_path)
    assert model._painter is not None
    images = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    masks = np.zeros((1, SIZE, SIZE), bool)
    masks[:, 16:48, 16:48] = True
    painted = model.inpaint(images, masks, [1], steps=2, strength=1.0)
    assert painted.shape == images.shape and model._painter is None
    assert np.array_equal(painted, model.inpaint(images, masks, [1], steps=2, strength=1.0))


def test_a_family_that_cannot_is_refused_in_one_line(tmp_path: Path) -> None:
    model = load("sana-sprint", tmp_path)
    assert model.kinds == ("prompt", "edit")
    images, masks = np.zeros((1, SIZE, SIZE, 3), np.uint8), np.ones((1, SIZE, SIZE), bool)
    with pytest.raises(InputError, match=r"cannot inpaint.*no such class for SanaSprintPipeline") as refusal:
        model.inpaint(images, masks, [1])
    assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match=r"refuses the call \(Intermediate timesteps.*under `call`"):
        model.prompt(["a cat"], [1], steps=3, call={"intermediate_timesteps": 1.3})


def test_a_default_of_the_call_that_contradicts_the_steps_is_left_out(tmp_path: Path) -> None:
    """Sana-Sprint's timestep between its steps is for two of them."""
    model = load("sana-sprint", tmp_path)
    three = model.prompt(["a cat"], [1], steps=3)
    assert np.array_equal(three, model.prompt(["a cat"], [1], steps=3, call={"intermediate_timesteps": None}))
    two = model.prompt(["a cat"], [1], steps=2)
    assert np.array_equal(two, model.prompt(["a cat"], [1], steps=2, call={"intermediate_timesteps": 1.3}))
    assert not np.array_equal(two, model.prompt(["a cat"], [1], steps=2, call={"intermediate_timesteps": None}))


def test_denoising_begins_midway_with_any_autoencoder(tmp_path: Path) -> None:
    """Kandinsky 3 has its autoencoder as `movq`, and does not scale its latents. Where nothing is to change, they come back decoded."""
    model = load("kandinsky3", tmp_path)
    assert model.kinds == ("prompt", "edit", "inpaint")
    images, movq = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8), model.pipeline.movq
    kept = model.inpaint(images, np.zeros((1, SIZE, SIZE), bool), [1], steps=2, strength=1.0)
    with torch.no_grad():
        latents = movq.encode(to_float(images)).latents
        wanted = to_uint8(movq.decode(latents, force_not_quantize=True).sample)
    assert np.abs(kept.astype(int) - wanted).max() <= 1
    painted = model.inpaint(images, np.ones((1, SIZE, SIZE), bool), [1], steps=2, strength=1.0)
    assert np.abs(painted.astype(int) - wanted).max() > 1


def test_a_package_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.save("lumina2", tmp_path, ALL)
    model = TextToImage.load(Checkpoint(folder, {"size": SIZE}))
    monkeypatch.setattr(type(model.pipeline), "encode_prompt", lambda *_, **__: ftfy.fix_text("a"))  # type: ignore[name-defined]  # noqa: F821
    with pytest.raises(InputError, match=r"Lumina2Pipeline needs a package that is not here \(ftfy\)"):
        model.prompt(["a cat"], [1], steps=2)

    def refuse(*_: object, **__: object) -> None:
        raise NameError("name 'Processor' is not defined", name="Processor")

    monkeypatch.setattr(type(model.pipeline), "from_pretrained", refuse)
    with pytest.raises(CheckpointError, match=r"Lumina2Pipeline, which needs a package that is not here \(Processor\)"):
        TextToImage.load(Checkpoint(folder, {"size": SIZE}))
