"""The general text-to-image generator, on small random pipelines that differ where families do."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from generators.base import PromptRequest
from generators.checkpoints import Checkpoint, write_safetensors
from generators.errors import CheckpointError, InputError
from generators.images import to_uint8
from generators.methods.text_to_image import TextToImage
from generators.text_to_image import memory
from generators.text_to_image.batches import Companions
from tests.generators.text_to_image import tiny_families as tiny

PROMPTS = ["a cat", "a red dog that sits beside a cat on the wall of a garden", "dog"]  # of lengths that pad differently
STEPS = 3
# A file with builders for further families (`NAMES`, `build(name, folder)`), to run the same checks on.
FURTHER = os.environ.get("TINY_PIPELINES")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tiny.save(name, tmp_path_factory.mktemp(name)) for name in tiny.FAMILIES}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, TextToImage]:
    return {name: TextToImage.load(Checkpoint(folder, {"size": 32})) for name, folder in folders.items()}


def check_family(model: TextToImage, size: int, steps: int = STEPS, **settings: Any) -> None:
    """Sizes as asked; seeds alone as in a batch, for prompts, and for edits and inpainting where the family can."""

    def same(make: Any) -> np.ndarray:
        together = make(slice(0, 3)).astype(int)
        assert together.shape == (3, size, size, 3)
        alone = np.concatenate([make(slice(row, row + 1)) for row in range(3)])
        assert np.abs(together - alone).max() <= 1
        assert together.std() > 5, "a flat picture shows nothing"
        assert not np.array_equal(together[0], together[1])
        return together.astype(np.uint8)

    seeds = [1, 2, 3]
    images = same(lambda rows: model.prompt(PROMPTS[rows], seeds[rows], steps=steps, **settings))
    if model.kinds == ("prompt",):
        return
    edits = {
        strength: same(
            lambda rows, part=strength: model.edit(images[rows], seeds[rows], steps=4, strength=part, prompt="a dog", **settings)
        )
        for strength in (0, 0.5, 1)
    }
    assert not np.array_equal(edits[0.5], edits[1])
    if "inpaint" not in model.kinds:
        return
    masks = np.zeros((3, size, size), bool)
    masks[:, size // 4 : size // 2, size // 4 :] = True
    texts = {"prompt": "a dog", **settings}
    painted = same(lambda rows: model.inpaint(images[rows], masks[rows], seeds[rows], steps=4, strength=1.0, **texts))
    distance = np.abs(painted.astype(int) - edits[0]).mean(-1)  # of what the autoencoder alone makes of it
    assert distance[masks].mean() > distance[~masks].mean(), "what is outside the mask changes less than what is inside"


@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_a_seed_gives_the_same_image_alone_and_in_a_batch_at_the_asked_size(models: dict[str, TextToImage], name: str) -> None:
    check_family(models[name], 32)


@pytest.mark.slow
@pytest.mark.skipif(FURTHER is None, reason="TINY_PIPELINES names no file with further families")
def test_further_families(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("further", str(FURTHER))
    assert spec is not None and spec.loader is not None
    further = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(further)
    for name in further.NAMES:
        if name != "stable-cascade":  # diffusers has given it up
            check_family(TextToImage.load(Checkpoint(further.build(name, tmp_path / name), {"size": 64})), 64)


def test_the_prompt_the_guidance_and_the_text_of_an_edit_count(models: dict[str, TextToImage]) -> None:
    model = models["pixart"]
    first = model.prompt(["a cat"], [1], steps=STEPS)
    assert not np.array_equal(first, model.prompt(["of dogs"], [1], steps=STEPS))
    assert not np.array_equal(first, model.prompt(["a cat"], [1], steps=STEPS, guidance_scale=1.0))
    assert not np.array_equal(first, model.prompt(["a cat"], [1], steps=STEPS, negative_prompt="dog"))
    edits = [model.edit(first, [1], steps=STEPS, prompt=text) for text in ("a cat", "of dogs")]
    assert not np.array_equal(*edits)


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("flux", {"guidance_scale": 3.5}, r"FluxPipeline ignores guidance_scale.*true_cfg_scale"),
        ("flux", {"negative_prompt": "dog"}, r"ignores negative_prompt at true_cfg_scale 1.*above 1"),
        ("sd3", {"true_cfg_scale": 2.0}, r"has no true_cfg_scale"),
        ("sd3", {"negative_prompt": "dog", "guidance_scale": 1.0}, r"ignores negative_prompt at guidance_scale 1"),
        ("pixart", {"negative_prompt": "dog", "guidance_scale": 0.0}, r"ignores negative_prompt at guidance_scale 0"),
        ("turbo", {"max_sequence_length": 100}, r"has no max_sequence_length"),
        ("turbo", {"call": {"height": 64}}, r"`call` may not have height"),
        ("turbo", {"call": {"no_such": 1}}, r"has no no_such.*clip_skip"),
        ("turbo", {"safety": "reject"}, r"no safety checker.*safety: off"),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(
    models: dict[str, TextToImage], family: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        models[family].prompt(["a cat"], [1], **{"steps": STEPS, **settings})


def test_a_setting_counts_where_the_pipeline_can_use_it(models: dict[str, TextToImage]) -> None:
    model = models["flux"]
    plain = model.prompt(["a cat"], [1], steps=2)
    assert not np.array_equal(plain, model.prompt(["a cat"], [1], steps=2, true_cfg_scale=3.0, negative_prompt="dog"))
    assert not np.array_equal(plain, model.prompt(["a cat"], [1], steps=2, true_cfg_scale=3.0)), "without a negative prompt too"


def test_an_edit_in_the_middle_asks_the_denoiser_for_the_last_steps_alone(models: dict[str, TextToImage]) -> None:
    model, calls = models["pixart"], []
    handle = model.pipeline.transformer.register_forward_pre_hook(
        lambda module, inputs, named: calls.append(named["timestep"]), with_kwargs=True
    )
    images = model.prompt(["a cat"], [1], steps=4)
    assert len(calls) == 4
    every = [float(call[0]) for call in calls]
    calls.clear()
    model.edit(images, [1], steps=4, strength=0.5)
    assert [float(call[0]) for call in calls] == every[2:]
    handle.remove()
    assert model.pipeline.scheduler.set_timesteps.__self__ is model.pipeline.scheduler, "the pipeline has its own scheduler again"
    assert np.array_equal(images, model.prompt(["a cat"], [1], steps=4))


def test_the_size_comes_from_the_option_or_the_pipeline(folders: dict[str, Path]) -> None:
    for name, side in {"sd3": 32, "flux": 256, "pixart": 64, "turbo": 16}.items():
        assert TextToImage.load(Checkpoint(folders[name])).resolution == side
    for name, size, step in (("flux", 30, 4), ("turbo", 36, 8), ("pixart", 33, 8)):
        with pytest.raises(InputError, match=rf"size {size} must be a multiple of {step} for"):
            TextToImage.load(Checkpoint(folders[name], {"size": size}))
    for wrong in ("large", 32.0, True, -8, 10**6):
        with pytest.raises(InputError, match="option `size` is"):
            TextToImage.load(Checkpoint(folders["flux"], {"size": wrong}))


def test_parts_that_are_null_or_not_named_are_none(folders: dict[str, Path], tmp_path: Path) -> None:
    index = json.loads((folders["sd3"] / "model_index.json").read_text())
    assert index["text_encoder_3"] == [None, None]
    shorter = {key: value for key, value in index.items() if value != [None, None]}
    for path in folders["sd3"].iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "model_index.json").unlink()
    (tmp_path / "model_index.json").write_text(json.dumps(shorter))
    assert TextToImage.load(Checkpoint(tmp_path, {"size": 32})).pipeline.text_encoder_3 is None


def test_what_diffusers_cannot_open_is_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    def refused(index: dict[str, Any], message: str) -> None:
        (tmp_path / "model_index.json").write_text(json.dumps(index))
        with pytest.raises(CheckpointError, match=message):
            TextToImage.load(Checkpoint(tmp_path))

    refused({"_class_name": "OwnPipeline"}, "OwnPipeline, which diffusers .* does not have.*never run")
    refused({"_class_name": "DDPMPipeline"}, "DDPMPipeline, which takes no prompt")
    refused(
        {"_class_name": "StableDiffusion3Pipeline", "vae": ["diffusers", "AutoencoderKL"]}, "no StableDiffusion3Pipeline that diffusers can"
    )
    refused({}, "names no pipeline class")


def test_lora_weights_change_pixels_by_their_scale(folders: dict[str, Path], tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    base = "transformer.transformer_blocks.0.attn.to_q"
    width = 16
    weights = {
        f"{base}.lora_A.weight": torch.randn(4, width, generator=generator),
        f"{base}.lora_B.weight": torch.randn(width, 4, generator=generator),
    }
    write_safetensors(tmp_path / "style.safetensors", weights, {})

    def image(scale: Any) -> np.ndarray:
        lora = Checkpoint(tmp_path / "style.safetensors", {} if scale is None else {"scale": scale})
        return TextToImage.load(Checkpoint(folders["sd3"], {"size": 32}, {"lora": lora})).prompt(["a cat"], [1], steps=2)

    plain = TextToImage.load(Checkpoint(folders["sd3"], {"size": 32})).prompt(["a cat"], [1], steps=2)
    assert np.abs(image(0.0).astype(int) - plain).max() <= 1
    full = image(None)
    assert not np.array_equal(full, plain) and not np.array_equal(full, image(0.3))
    with pytest.raises(InputError, match=r"style.safetensors: the option `scale` must be a number"):
        image("strong")
    write_safetensors(tmp_path / "style.safetensors", {"other": torch.ones(2)}, {})
    with pytest.raises(CheckpointError, match=r"style.safetensors holds no LoRA weights|no layer takes"):
        image(1.0)


def test_how_much_waits_in_main_memory_follows_from_the_sizes() -> None:
    networks = {"text": 8, "denoiser": 20, "vae": 2}
    assert [memory.choose(networks, free) for free in (100, 30, 10)] == ["none", "model", "sequential"]
    with pytest.raises(InputError, match="there is no offload 'disk'"):
        memory.place(None, Checkpoint(Path("m"), {"offload": "disk"}), torch.device("cpu"))


class HalfMade(TextToImage):
    """Pictures as grey as their seeds, one black where a text has a "b" in half precision; an image depends on the texts beside it."""

    def __init__(self) -> None:
        self.size, self.device, self.safety, self.precision = 4, torch.device("cpu"), None, "float16"
        self.pipeline = SimpleNamespace(components={"tokenizer": None})
        self.network = torch.nn.Linear(1, 1).half()
        self._companions = Companions(self.pipeline)

    def _options(self, prompts: list[str], seeds: list[int], settings: Any) -> dict[str, Any]:
        return {"prompts": prompts, "seeds": seeds}

    def _made(self, pipeline: Any, options: dict[str, Any], call: Any = None) -> np.ndarray:
        grey = torch.tensor(options["seeds"]) + 100.0 * (len(set(options["prompts"])) - 1)
        wrong = torch.tensor(["b" in text for text in options["prompts"]]) & (self.network.weight.dtype == torch.float16)
        grey = torch.where(wrong, torch.nan, grey)
        return to_uint8((grey / 255)[:, None, None, None].expand(-1, 3, 4, 4), 0.0, 1.0)


def test_what_is_not_finite_is_found_where_texts_are_made_apart() -> None:
    """The trial with two texts notes nothing, and what it is made in has other places than it has in the batch."""
    result = HalfMade().run(PromptRequest([10, 20, 30, 40], ["a", "b", "a", "c"]), steps=2)
    assert result.images[:, 0, 0, 0].tolist() == [10, 20, 30, 40]
    assert [entry["precision"] for entry in result.columns["made_with"]] == ["float16", "float32", "float16", "float16"]


def test_an_exact_pipeline_decodes_image_by_image(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """How many fit into free memory is not the same at all times, and decides rounding."""
    monkeypatch.setattr("generators.methods.text_to_image.images_at_once", lambda *_: 8)
    name = next(iter(folders))
    model = TextToImage.load(Checkpoint(folders[name], {"size": 32}))
    for model.exact in (False, True):
        model._slice_decoding(2)
        assert model.pipeline.vae.use_slicing == model.exact
