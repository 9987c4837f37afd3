"""Stable Diffusion from a folder that diffusers saved, with small random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from generators.base import PromptRequest
from generators.checkpoints import Checkpoint, read, write_safetensors
from generators.errors import CheckpointError, InputError
from generators.methods.stable_diffusion import StableDiffusion
from generators.text_to_image.safety import FLAGGED
from tests.generators.methods import tiny_diffusion as tiny
from tests.parity.cases import Case

LDM_CASE = Case(Path(__file__).parents[2] / "parity" / "cases" / "ldm" / "txt2img_tiny")
PROMPTS = ["a cat", "a dog"] * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.stable_diffusion_pipeline(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def model(folder: Path) -> StableDiffusion:
    return StableDiffusion.load(Checkpoint(folder))


def test_one_image_is_the_one_of_diffusers_own_pipeline(folder: Path, model: StableDiffusion) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(["a cat"], num_inference_steps=4, generator=torch.Generator().manual_seed(7), output_type="np").images
    assert np.abs(model.prompt(["a cat"], [7], steps=4) - 255 * theirs).max() <= 1


def test_the_same_seed_gives_the_same_image_for_all_batch_sizes(model: StableDiffusion) -> None:
    tiny.same_for_all_batch_sizes(model, lambda: model.prompt(PROMPTS, range(8), steps=3, safety="off"))
    images = model.prompt(PROMPTS, range(8), steps=3)
    tiny.same_for_all_batch_sizes(model, lambda: model.edit(images, range(8), steps=6, prompt="a cat"))


def test_texts_and_guidance_decide_pixels(model: StableDiffusion) -> None:
    first = model.prompt(["a cat"], [1], steps=3)
    assert not np.array_equal(first, model.prompt(["of dogs"], [1], steps=3))
    assert not np.array_equal(first, model.prompt(["a cat"], [1], steps=3, negative_prompt="dog"))
    assert not np.array_equal(first, model.prompt(["a cat"], [1], steps=3, guidance_scale=1.0))


def test_one_file_holds_the_same_model_as_a_folder(folder: Path, tmp_path: Path) -> None:
    from diffusers import DDIMScheduler

    of_folder = StableDiffusion.load(Checkpoint(tiny.stable_diffusion_pipeline(tmp_path / "folder", with_checker=False)))
    of_folder.pipeline.scheduler = DDIMScheduler.from_config(of_folder.pipeline.scheduler.config, clip_sample=False)
    path = tiny.stable_diffusion_file(tmp_path / "one.safetensors", folder)
    of_file = StableDiffusion.load(Checkpoint(path))
    assert of_file.resolution == of_folder.resolution == 16
    options = {"steps": 3, "safety": "off"}
    images = of_file.prompt(PROMPTS[:2], [1, 2], **options)
    assert np.abs(images.astype(int) - of_folder.prompt(PROMPTS[:2], [1, 2], **options)).max() <= 1
    assert StableDiffusion.load(Checkpoint(path), dtype=torch.float16).pipeline.unet.dtype == torch.float16
    with pytest.raises(InputError, match=r"no safety checker.*safety: off"):
        of_file.prompt(PROMPTS[:1], [1], steps=2)


def test_a_file_that_lacks_a_part_is_refused(folder: Path, tmp_path: Path) -> None:
    whole = read(tiny.stable_diffusion_file(tmp_path / "whole.safetensors", folder))
    for name in ("tokenizer", "vae"):
        config = {key: value for key, value in whole.config.items() if key != name}
        write_safetensors(tmp_path / "part.safetensors", whole.tensors, config)
        with pytest.raises(CheckpointError, match=f"part.safetensors has no configuration of its '{name}'"):
            StableDiffusion.load(Checkpoint(tmp_path / "part.safetensors"))
    write_safetensors(tmp_path / "part.safetensors", whole.under("unet."), whole.config)
    with pytest.raises(CheckpointError, match=r"part\.safetensors does not fit"):
        StableDiffusion.load(Checkpoint(tmp_path / "part.safetensors"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The tensors of a small Stable Diffusion 1 in CompVis' layout: the UNet and the autoencoder of a latent-diffusion parity case, and a
    CLIP for text."""
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(6)
    tokens = 2 + 2 * len(tiny.LETTERS)
    sizes = {"vocab_size": tokens, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 1}
    text = CLIPTextModel(CLIPTextConfig(**sizes, max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=1))
    state = {key: value for key, value in LDM_CASE.weights("state_dict").items() if not key.startswith("cond_stage_model.")}
    prefix = "cond_stage_model.transformer.text_model."
    state |= {f"{prefix}{key}": value for key, value in text.state_dict().items()}
    return state | {f"{prefix}embeddings.position_ids": torch.arange(16)[None]}


def test_an_original_checkpoint_gives_the_official_numbers_and_follows_prompts(
    folder: Path, original: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save({"state_dict": original, "global_step": 1}, tmp_path / "model.ckpt")
    write_safetensors(tmp_path / "model.safetensors", original, {})
    for name in ("model.ckpt", "model.safetensors"):
        checkpoint = Checkpoint(tmp_path / name, {"num_heads": 4, "image_size": 8}, {"tokenizer": Checkpoint(folder / "vocab.json")})
        model = StableDiffusion.load(checkpoint)
        assert model.resolution == 64
        x, t = LDM_CASE.tensor("x"), LDM_CASE.tensor("t")
        with torch.inference_mode():
            LDM_CASE.compare("eps", model.pipeline.unet(x, t, encoder_hidden_states=LDM_CASE.tensor("text_embedding")).sample)
            LDM_CASE.compare("decoded", model.pipeline.vae.decode(x).sample)
        key = "encoder.layers.1.mlp.fc1.weight"
        assert torch.equal(model.pipeline.text_encoder.state_dict()[key], original[f"cond_stage_model.transformer.text_model.{key}"])
    images = [model.prompt([text], [1], steps=2, safety="off") for text in ("a cat", "a dog")]
    assert images[0].shape == (1, 64, 64, 3)
    assert not np.array_equal(*images)


def test_an_original_checkpoint_that_cannot_be_read_is_refused(original: dict[str, torch.Tensor], tmp_path: Path) -> None:
    def refused(state: dict[str, torch.Tensor], message: str, **components: Checkpoint) -> None:
        write_safetensors(tmp_path / "model.safetensors", state, {})
        with pytest.raises(CheckpointError, match=message):
            StableDiffusion.load(Checkpoint(tmp_path / "model.safetensors", {"num_heads": 4, "image_size": 8}, components))

    refused(original, "needs a component 'tokenizer'")
    refused(original, r"holds no CLIP vocabulary.*vocab\.json", tokenizer=Checkpoint(tmp_path))
    refused({**original, "cond_stage_model.model.ln_final.weight": torch.ones(4)}, "Stable Diffusion 2")
    refused(LDM_CASE.weights("state_dict"), "no text encoder of CLIP's.*`ldm`")
    refused({"weight": torch.ones(1)}, "no latent-diffusion checkpoint")


def test_a_flagged_image_is_rejected_and_not_blackened(folder: Path) -> None:
    model = StableDiffusion.load(Checkpoint(folder))
    request = PromptRequest([1, 2, 3], PROMPTS[:3])
    clean = model.run(request, steps=3)
    assert clean.rejected == {}
    model.safety.network.concept_embeds_weights.data.fill_(-2.0)  # everything is above these thresholds
    model.safety.network.concept_embeds.data.fill_(1.0)
    model.batch_size = 2
    flagged = model.run(request, steps=3)
    assert flagged.rejected == {0: FLAGGED, 1: FLAGGED, 2: FLAGGED}
    assert np.abs(flagged.images.astype(int) - clean.images).max() <= 1
    assert model.run(request, steps=3, safety="off").rejected == {}


def test_a_pipeline_without_a_checker_must_be_told_to_do_without(tmp_path: Path) -> None:
    model = StableDiffusion.load(Checkpoint(tiny.stable_diffusion_pipeline(tmp_path, with_checker=False)))
    with pytest.raises(InputError, match=r"no safety checker.*safety: off"):
        model.prompt(["a cat"], [1], steps=2)
    assert model.prompt(["a cat"], [1], steps=2, safety="off").shape == (1, 16, 16, 3)


def test_what_is_wrong_is_named(tmp_path: Path, model: StableDiffusion) -> None:
    with pytest.raises(CheckpointError, match=r"model_index\.json"):
        StableDiffusion.load(Checkpoint(tmp_path))
    (tmp_path / "model_index.json").write_text('{"_class_name": "NoSuchPipeline"}')
    with pytest.raises(CheckpointError, match=r"NoSuchPipeline, which diffusers .* does not have"):
        StableDiffusion.load(Checkpoint(tmp_path))
    with pytest.raises(InputError, match="16x16"):
        model.edit(np.zeros((1, 8, 8, 3), np.uint8), [0], steps=4)


def test_a_text_encoder_without_its_prefix_is_read_as_one_with_it(folder: Path, original: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """As NovelAI's models and merges made from them have it."""

    def image(state: dict[str, torch.Tensor]) -> np.ndarray:
        write_safetensors(tmp_path / "model.safetensors", state, {})
        checkpoint = Checkpoint(
            tmp_path / "model.safetensors", {"num_heads": 4, "image_size": 8}, {"tokenizer": Checkpoint(folder / "vocab.json")}
        )
        return StableDiffusion.load(checkpoint).prompt(["a cat"], [1], steps=2, safety="off")

    shorter = {key.replace("transformer.text_model.", "transformer."): value for key, value in original.items()}
    assert np.array_equal(image(shorter), image(original))
    with pytest.raises(CheckpointError, match=r"no text encoder that is known.*text_model"):
        image({key.replace("transformer.text_model.", "transformer.other."): value for key, value in original.items()})


def test_a_unet_that_wants_more_than_latents_cannot_prompt(folder: Path, original: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Of 9 channels in an inpainting model, of 8 in InstructPix2Pix."""
    first = "model.diffusion_model.input_blocks.0.0.weight"

    def model(more: int) -> StableDiffusion:
        extra = torch.zeros(len(original[first]), more, 3, 3)
        write_safetensors(tmp_path / "model.safetensors", {**original, first: torch.cat([original[first], extra], 1)}, {})
        checkpoint = Checkpoint(
            tmp_path / "model.safetensors", {"num_heads": 4, "image_size": 8}, {"tokenizer": Checkpoint(folder / "vocab.json")}
        )
        return StableDiffusion.load(checkpoint)

    painter = model(original[first].shape[1] + 1)
    with pytest.raises(InputError, match=r"cannot prompt: its denoiser takes \d+ channels.*inpainting model"):
        painter.prompt(["a cat"], [1], steps=2, safety="off")
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    masks = np.zeros((1, 64, 64), bool)
    masks[:, 16:48, 16:48] = True
    assert painter.inpaint(images, masks, [1], steps=2, strength=1.0, safety="off").shape == images.shape
    with pytest.raises(CheckpointError, match="its UNet takes 8 channels"):
        model(8 - original[first].shape[1])


def test_steps_and_sizes_that_the_model_does_not_have_are_refused(folder: Path, model: StableDiffusion) -> None:
    with pytest.raises(InputError, match=r"1000 steps are too many for the PNDMScheduler.*at most 999"):
        model.prompt(["a cat"], [1], steps=1000)
    with pytest.raises(InputError, match="size 36 must be a multiple of 8"):
        StableDiffusion.load(Checkpoint(folder, {"size": 36}))


def test_off_needs_no_quotes_in_yaml() -> None:
    assert StableDiffusion.parse_parameters({"safety": False}).safety == "off"
    assert StableDiffusion.parse_parameters({"safety": True}).safety == "reject"
    with pytest.raises(InputError, match="safety"):
        StableDiffusion.parse_parameters({"safety": 3})


def test_the_released_precision_reconstructs_and_then_makes_other_images(tmp_path: Path) -> None:
    """An autoencoder that says that it overflows in float16, as diffusers takes all of them to do, is in float16 again afterwards."""
    folder = tiny.stable_diffusion_pipeline(tmp_path, with_checker=False)
    wide, halved = (StableDiffusion.load(Checkpoint(folder), dtype=dtype) for dtype in (torch.float32, torch.float16))
    assert halved.pipeline.vae.config.force_upcast
    images = np.random.default_rng(0).integers(0, 256, (2, halved.size, halved.size, 3), np.uint8)
    masks = images[..., 0] > 128
    asked: dict[str, object] = {"safety": "off", "steps": 2}

    def all_of(model: StableDiffusion) -> list[np.ndarray]:
        again = model.edit(images, [1, 2], strength=0, safety="off")
        return [again, model.prompt(["a cat", "a cat"], [1, 2], **asked), model.inpaint(images, masks, [1, 2], **asked)]

    for made, wanted in zip(all_of(halved), all_of(wide), strict=True):
        assert np.abs(made.astype(int) - wanted).mean() < 2
    assert halved.pipeline.vae.dtype == torch.float16
