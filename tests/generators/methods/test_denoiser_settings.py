"""What a diffusion checkpoint says of itself, or its options do, and what its network cannot do: schedules, steps, classes, channels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError, InputError
from generators.loading import load_generator
from generators.methods.ddim import DDIM
from generators.methods.ddpm import DDPM
from generators.methods.ldm import LDM
from generators.methods.pndm import PNDM
from generators.networks.diffusion.schedules import original_schedule
from tests.generators.methods import tiny_diffusion as tiny
from tests.parity.cases import Case

METHODS = [DDPM, DDIM, PNDM]
CASES = Path(__file__).parents[2] / "parity" / "cases"
HEADS = {"image_size": 32, "num_heads": 4, "num_head_channels": 16}


def saved(folder: Path, scheduler: Any, **config: Any) -> Checkpoint:
    """A diffusers folder with a small UNet and this scheduler."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    sizes = {"sample_size": 16, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
    UNet2DModel(**(sizes | tiny.BLOCKS | config)).save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")
    return Checkpoint(folder)


@pytest.fixture
def guided(tmp_path: Path) -> Path:
    torch.save(Case(CASES / "guided_diffusion" / "tiny32").weights("model"), tmp_path / "g.pt")
    return tmp_path / "g.pt"


def test_a_cosine_schedule_is_used_where_the_options_say_so(guided: Path) -> None:
    plain = DDPM.load(Checkpoint(guided, HEADS))
    cosine = DDPM.load(Checkpoint(guided, {**HEADS, "noise_schedule": "cosine", "diffusion_steps": 4000}))
    assert not np.array_equal(plain.sample([0], steps=4), cosine.sample([0], steps=4))
    scheduler = cosine.scheduler(DDPM.parse_parameters({"steps": 4}))
    times = np.arange(4001) / 4000
    alpha_bar = np.cos((times + 0.008) / 1.008 * np.pi / 2) ** 2  # Nichol and Dhariwal 2021, equation 17
    betas = np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
    np.testing.assert_allclose(scheduler.betas.numpy(), betas, rtol=1e-4)


def test_the_picture_of_a_cosine_schedule_is_the_one_computed_by_hand(guided: Path) -> None:
    """DDIM (Song et al. 2021, equation 12 with no noise) over the schedule of Nichol and Dhariwal, in float64 but for the network."""
    model = DDIM.load(Checkpoint(guided, {**HEADS, "noise_schedule": "cosine", "diffusion_steps": 4000}))
    times = np.arange(4001) / 4000
    alpha_bar = np.cos((times + 0.008) / 1.008 * np.pi / 2) ** 2
    kept = np.cumprod(1 - np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999))
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(5)).double()
    for t, before in ((3000, kept[2000]), (2000, kept[1000]), (1000, kept[0]), (0, 1.0)):
        with torch.no_grad():
            noise = model.unet(x.float(), torch.tensor(t / 4)).sample[:, :3].double()
        start = ((x - (1 - kept[t]) ** 0.5 * noise) / kept[t] ** 0.5).clamp(-1, 1)
        x = before**0.5 * start + (1 - before) ** 0.5 * noise
    by_hand = ((x[0].permute(1, 2, 0) + 1) * 127.5).clamp(0, 255).round().numpy()
    assert np.abs(model.sample([5], steps=4)[0].astype(float) - by_hand).max() <= 1


def test_a_network_of_4000_steps_is_told_the_time_out_of_1000(guided: Path) -> None:
    told: list[float] = []
    for extra in ({"diffusion_steps": 4000}, {"diffusion_steps": 4000, "rescale_timesteps": False}):
        model = DDIM.load(Checkpoint(guided, {**HEADS, **extra}))
        forward = model.unet.forward

        def listen(x: Any, t: Any, *rest: Any, forward: Any = forward, **named: Any) -> Any:
            told.append(float(t))
            return forward(x, t, *rest, **named)

        model.unet.forward = listen
        model.sample([0], steps=4)
    assert told == [750, 500, 250, 0, 3000, 2000, 1000, 0]


def test_a_linear_schedule_of_other_lengths_ends_at_the_same_noise() -> None:
    schedule = original_schedule({"diffusion_steps": 4000})
    assert (schedule["beta_start"], schedule["beta_end"]) == (pytest.approx(2.5e-5), pytest.approx(0.005))
    assert "timestep_scale" not in original_schedule({})


def test_an_option_that_nobody_reads_is_refused(guided: Path) -> None:
    with pytest.raises(InputError, match=r"g\.pt: ddpm: options: noise_shedule.*noise_schedule"):
        load_generator("ddpm", Checkpoint(guided, {**HEADS, "noise_shedule": "cosine"}))
    with pytest.raises(InputError, match=r"image_size: .*, not 'big'"):
        load_generator("ddpm", Checkpoint(guided, {**HEADS, "image_size": "big"}))
    with pytest.raises(InputError, match=r"noise_schedule: .*, not 'sigmoid'"):
        load_generator("ddpm", Checkpoint(guided, {**HEADS, "noise_schedule": "sigmoid"}))


@pytest.mark.parametrize("method", METHODS)
def test_no_sampler_takes_more_steps_than_were_trained(method: Any, tmp_path: Path) -> None:
    from diffusers import DDPMScheduler

    model = method.load(saved(tmp_path, DDPMScheduler(num_train_timesteps=40)))
    with pytest.raises(InputError, match=r"steps 100.* at most 40"):
        model.sample([0], steps=100)
    for official in (False, True):
        settings = method.parse_parameters({"official": official})
        assert model.step_count(settings) == 40  # fewer than the usual number, so as many as were trained
        assert max(model.scheduler(settings).timesteps) <= 39


def test_ddpm_takes_as_many_steps_as_were_trained(tmp_path: Path) -> None:
    from diffusers import DDPMScheduler

    model = DDPM.load(saved(tmp_path, DDPMScheduler(num_train_timesteps=4000)))
    assert len(model.scheduler(DDPM.parse_parameters({})).timesteps) == 4000
    assert len(PNDM.load(Checkpoint(tmp_path)).scheduler(PNDM.parse_parameters({"skip_prk_steps": True})).timesteps) == 51


def test_ldm_keeps_within_a_short_schedule_that_counts_from_1(tmp_path: Path) -> None:
    state = Case(CASES / "ldm" / "celebahq_tiny").weights("state_dict")
    torch.save({"state_dict": {**state, "betas": torch.linspace(1e-4, 0.02, 30)}}, tmp_path / "l.ckpt")
    model = LDM.load(Checkpoint(tmp_path / "l.ckpt", {"image_size": 16}))
    assert model.scheduler(LDM.parse_parameters({})).timesteps[0] == 29
    assert model.sample([0]).std() > 1
    with pytest.raises(InputError, match=r"steps 30.* at most 29"):
        model.sample([0], steps=30)


@pytest.mark.parametrize("form", ["folder", "file"])
@pytest.mark.parametrize("method", METHODS)
def test_classes_are_drawn_by_seed_or_given(method: Any, form: str, guided: Path, tmp_path: Path) -> None:
    from diffusers import DDPMScheduler

    if form == "folder":
        model = method.load(saved(tmp_path / "p", DDPMScheduler(), num_class_embeds=10))
    else:
        state = torch.load(guided, weights_only=True)
        torch.manual_seed(3)
        width = state["time_embed.2.weight"].shape[0]
        torch.save({**state, "label_emb.weight": 0.1 * torch.randn(10, width)}, guided)
        model = method.load(Checkpoint(guided, HEADS))
    model.unet.class_embedding.weight.data *= 20  # so that a small random network cannot overlook it
    first, second = (model.sample([1], steps=4, class_index=index) for index in (1, 2))
    assert not np.array_equal(first, second)
    alone = model.sample([1], steps=4)
    assert any(np.array_equal(alone, model.sample([1], steps=4, class_index=index)) for index in range(10))
    drawn = model.sample([1, 2, 3], steps=4)
    assert np.abs(drawn[:1].astype(int) - alone).mean() < 0.5  # of the same class in a batch, but for rounding
    with pytest.raises(InputError, match="class_index 10, but this checkpoint has 10"):
        model.sample([1], steps=4, class_index=10)
    assert model.edit(drawn, [1, 2, 3], steps=10, strength=0.5).shape == drawn.shape


def test_a_network_without_classes_takes_no_class_index(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no classes"):
        DDPM.load(Checkpoint(tiny.pixel_pipeline(tmp_path))).sample([0], steps=2, class_index=0)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"in_channels": 4, "out_channels": 4}, "takes 4 channels"),
        ({"in_channels": 6, "out_channels": 3}, "takes 6 channels"),
        ({"out_channels": 5}, "gives 5 channels for 3"),
        ({"class_embed_type": "timestep"}, "class_embed_type 'timestep'"),
    ],
)
def test_networks_that_make_no_pictures_are_refused_by_name(config: dict[str, Any], said: str, tmp_path: Path) -> None:
    from diffusers import DDPMScheduler

    with pytest.raises(CheckpointError, match=said):
        DDPM.load(saved(tmp_path, DDPMScheduler(), **config))


def test_a_rectangular_network_samples_and_does_not_edit(tmp_path: Path) -> None:
    from diffusers import DDPMScheduler

    model = DDIM.load(saved(tmp_path, DDPMScheduler(), sample_size=(16, 32)))
    assert model.sample([1, 2], steps=3).shape == (2, 16, 32, 3)
    with pytest.raises(InputError, match="ddim cannot edit"):
        model.edit(np.zeros((1, 16, 16, 3), np.uint8), [0])


def test_the_class_of_a_folders_scheduler_is_looked_at(tmp_path: Path) -> None:
    from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, ScoreSdeVeScheduler

    assert DDIM.load(saved(tmp_path / "dpm", DPMSolverMultistepScheduler())).sample([0], steps=2).std() > 1
    for number, scheduler in enumerate((ScoreSdeVeScheduler(), FlowMatchEulerDiscreteScheduler())):
        with pytest.raises(CheckpointError, match=f"its scheduler is a {type(scheduler).__name__}"):
            DDIM.load(saved(tmp_path / str(number), scheduler))


def test_pndm_refuses_what_it_cannot_walk(tmp_path: Path) -> None:
    from diffusers import DDPMScheduler

    saved(tmp_path / "x0", DDPMScheduler(prediction_type="sample"))
    with pytest.raises(InputError, match="predicts 'sample'"):
        PNDM.load(Checkpoint(tmp_path / "x0")).sample([0], steps=10)
    saved(tmp_path / "v", DDPMScheduler(prediction_type="v_prediction"))
    with pytest.raises(InputError, match=r"'v_prediction'.*official"):
        PNDM.load(Checkpoint(tmp_path / "v")).sample([0], steps=10, official=True)
    assert DDIM.load(Checkpoint(tmp_path / "v")).sample([0], steps=3).shape == (1, 16, 16, 3)


def test_the_vq_folder_of_compvis_is_decoded_unscaled(tmp_path: Path) -> None:
    """CompVis/ldm-celebahq-256 says no scaling_factor, and diffusers' default belongs to another autoencoder."""
    folder = tiny.latent_pipeline(tmp_path)
    wanted = LDM.load(Checkpoint(folder)).sample(range(8), steps=3)
    file = folder / "vqvae" / "config.json"
    config = json.loads(file.read_text())
    assert config.pop("scaling_factor") == 1.0
    file.write_text(json.dumps(config))
    assert np.array_equal(LDM.load(Checkpoint(folder)).sample(range(8), steps=3), wanted)
    file.write_text(json.dumps({**config, "scaling_factor": 0.18215}))  # what a folder does say holds (one latent may have the same code)
    assert not np.array_equal(LDM.load(Checkpoint(folder)).sample(range(8), steps=3), wanted)


def test_ldm_refuses_a_unet_that_wants_more_than_latents(tmp_path: Path) -> None:
    from diffusers import UNet2DModel

    folder = tiny.latent_pipeline(tmp_path)
    config = dict(UNet2DModel.load_config(folder / "unet"))
    UNet2DModel.from_config({**config, "in_channels": 6}).save_pretrained(folder / "unet")
    with pytest.raises(CheckpointError, match="takes 6 channels and its autoencoder's latents have 3"):
        LDM.load(Checkpoint(folder))


def test_sizes_that_a_network_cannot_make_are_refused_when_it_is_loaded(guided: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="side 33: its 3 levels need a multiple of 4"):
        DDPM.load(Checkpoint(guided, {**HEADS, "image_size": 33}))
    torch.save(Case(CASES / "ddpm_ddim" / "tiny32").weights("model"), tmp_path / "d.ckpt")
    with pytest.raises(CheckpointError, match="side 33"):
        DDPM.load(Checkpoint(tmp_path / "d.ckpt", {"size": 33}))
    with pytest.raises(InputError, match=r"size: .*multiple of 8, not 36"):
        load_generator("stable_diffusion", Checkpoint(tmp_path / "none.safetensors", {"size": 36}))
