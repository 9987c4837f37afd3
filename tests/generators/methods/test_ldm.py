"""LDM with and without text: folders of diffusers, single files, original checkpoints with averaged weights; prompts, edits and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError, InputError
from generators.methods.ldm import LDM
from generators.networks.diffusion import latents
from generators.networks.diffusion.latents import decode_latents
from generators.networks.diffusion.ldm_original import averaged
from tests.generators.methods import tiny_diffusion as tiny
from tests.parity.cases import Case

CASES = Path(__file__).parents[2] / "parity" / "cases" / "ldm"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> LDM:
    return LDM.load(Checkpoint(tiny.latent_pipeline(tmp_path_factory.mktemp("ldm"))))


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> LDM:
    return LDM.load(Checkpoint(tiny.text_latent_pipeline(tmp_path_factory.mktemp("text"))))


def test_one_image_is_the_one_of_diffusers_own_pipeline(tmp_path: Path) -> None:
    from diffusers import LDMPipeline

    folder = tiny.latent_pipeline(tmp_path)
    pipeline = LDMPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(num_inference_steps=5, generator=torch.Generator().manual_seed(7), output_type="np").images
    assert np.abs(LDM.load(Checkpoint(folder)).sample([7], steps=5) - 255 * theirs).max() <= 1


def test_a_guided_image_is_the_one_of_diffusers_own_pipeline(tmp_path: Path) -> None:
    from diffusers import LDMTextToImagePipeline

    folder = tiny.text_latent_pipeline(tmp_path)
    model = LDM.load(Checkpoint(folder))
    pipeline = LDMTextToImagePipeline(
        model.first_stage, model.text_encoder, model.tokenizer, model.unet, model.scheduler(LDM.parse_parameters({}))
    )
    pipeline.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 5, "guidance_scale": 5.0, "output_type": "np"}
    theirs = pipeline(["a cat"], height=64, width=64, generator=torch.Generator().manual_seed(7), **settings).images
    assert np.abs(model.prompt(["a cat"], [7], steps=5) - 255 * theirs).max() <= 1


def test_the_same_seed_gives_the_same_image_for_all_batch_sizes(plain: LDM, guided: LDM) -> None:
    tiny.same_for_all_batch_sizes(plain, lambda: plain.sample(range(8), steps=4, eta=1.0))
    images = plain.sample(range(8), steps=4)
    tiny.same_for_all_batch_sizes(plain, lambda: plain.edit(images, range(8), steps=8))
    prompts = ["a cat", "a dog"] * 4
    tiny.same_for_all_batch_sizes(guided, lambda: guided.prompt(prompts, range(8), steps=4))


def test_texts_and_guidance_decide_pixels(guided: LDM) -> None:
    first = guided.prompt(["a cat"], [1], steps=4)
    assert not np.array_equal(first, guided.prompt(["dog of a face"], [1], steps=4))
    assert not np.array_equal(first, guided.prompt(["a cat"], [1], steps=4, negative_prompt="dog"))
    assert not np.array_equal(first, guided.prompt(["a cat"], [1], steps=4, guidance_scale=1.0))
    assert not np.array_equal(guided.edit(first, [1], steps=4, prompt="dog"), guided.edit(first, [1], steps=4))


def test_each_model_has_the_steps_that_it_can_do(plain: LDM, guided: LDM) -> None:
    with pytest.raises(InputError, match="cannot prompt"):
        plain.prompt(["a cat"], [1])
    with pytest.raises(InputError, match="cannot sample"):
        guided.sample([1])


def test_a_single_file_is_the_same_model(tmp_path: Path, plain: LDM) -> None:
    model = LDM.load(Checkpoint(tiny.latent_file(tmp_path / "ldm.safetensors")))
    assert model.resolution == plain.resolution == 16
    assert all(torch.equal(a, b) for a, b in zip(model.unet.parameters(), plain.unet.parameters(), strict=True))


def test_an_original_checkpoint_gives_its_averaged_weights_and_measured_scale(tmp_path: Path) -> None:
    state = Case(CASES / "celebahq_tiny").weights("state_dict")
    mark = "model.diffusion_model.out.2.bias"
    state |= {
        f"model_ema.{mark.removeprefix('model.').replace('.', '')}": torch.full_like(state[mark], 3.0),
        "model_ema.decay": torch.tensor(0.9),
    }
    state |= {"scale_factor": torch.tensor(0.5), "betas": torch.linspace(0.001, 0.02, 500), "first_stage_model.loss.logvar": torch.zeros(1)}
    assert list(averaged(state)) == ["out.2.bias"]
    torch.save({"state_dict": state, "global_step": 1}, tmp_path / "model.ckpt")
    model = LDM.load(Checkpoint(tmp_path / "model.ckpt", {"image_size": 16}))
    assert torch.equal(model.unet.conv_out.bias, torch.full((3,), 3.0))
    assert model.first_stage.config.scaling_factor == 0.5
    scheduler = model.scheduler(LDM.parse_parameters({"steps": 5}))
    assert scheduler.timesteps.tolist() == [401, 301, 201, 101, 1]
    assert model.sample([1], steps=2).shape == (1, 64, 64, 3)


def test_an_original_text_model_follows_prompts_with_a_tokenizer_beside_it(tmp_path: Path) -> None:
    torch.save({"state_dict": Case(CASES / "txt2img_tiny").weights("state_dict")}, tmp_path / "model.ckpt")
    options = {"image_size": 8, "num_heads": 4}
    with pytest.raises(CheckpointError, match=r"component 'tokenizer'.*bert-base-uncased"):
        LDM.load(Checkpoint(tmp_path / "model.ckpt", options))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no BERT vocabulary"):
        LDM.load(Checkpoint(tmp_path / "model.ckpt", options, {"tokenizer": Checkpoint(tmp_path / "empty")}))
    model = LDM.load(Checkpoint(tmp_path / "model.ckpt", options, {"tokenizer": Checkpoint(tiny.bert_vocabulary(tmp_path / "words"))}))
    assert model.first_stage.config.scaling_factor == pytest.approx(0.18215)
    assert model.prompt(["a cat"], [1], steps=2).shape == (1, 64, 64, 3)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"other\.ckpt is no latent-diffusion checkpoint"):
        LDM.load(Checkpoint(tmp_path / "other.ckpt"))


def test_half_precision_runs_whole(tmp_path: Path) -> None:
    plain = LDM.load(Checkpoint(tiny.latent_pipeline(tmp_path / "plain")), dtype=torch.bfloat16)
    images = plain.sample([1, 2], steps=3)
    assert plain.edit(images, [1, 2], steps=4).std() > 5
    text = LDM.load(Checkpoint(tiny.text_latent_pipeline(tmp_path / "text")), dtype=torch.bfloat16)
    assert text.prompt(["a cat"], [1], steps=3).std() > 5


def test_codes_are_looked_up_in_float32(tmp_path: Path) -> None:
    """Codes far from 0 and near each other, as the nearest of which the latents are seen in half precision too."""
    model = LDM.load(Checkpoint(tiny.latent_pipeline(tmp_path)), dtype=torch.float16)
    book = model.first_stage.quantize.embedding.weight
    book.copy_(4 + torch.arange(len(book))[:, None] / 64)
    places = torch.arange(16).view(1, 4, 4) % len(book)
    wanted = book.float()[places].permute(0, 3, 1, 2)
    seen: list[torch.Tensor] = []
    model.first_stage.post_quant_conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        decode_latents(model.first_stage, wanted * model.first_stage.config.scaling_factor)
    assert seen[0].dtype == torch.float16 and torch.equal(seen[0].float(), wanted)


def test_an_exact_model_decodes_alike_however_much_memory_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "images_at_once", lambda *_: 2)
    model = LDM.load(Checkpoint(tiny.latent_pipeline(tmp_path)))
    model.batch_size, sizes = 2, []
    model.first_stage.post_quant_conv.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    for model.exact in (False, True):
        model.sample([1, 2], steps=1)
    assert sizes == [2, 1, 1]
