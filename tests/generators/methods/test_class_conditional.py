"""guided-diffusion with classes, DiT and Janus: seeds alone and in batches, classes and prompts, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators.base import Generator
from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError, InputError
from generators.methods.dit import DiT
from generators.methods.guided_diffusion import GuidedDiffusion
from generators.methods.janus import Janus
from generators.networks.diffusion import openai_names
from generators.networks.diffusion.respaced import BETAS, Respaced, cosine_betas

OPTIONS = {"image_size": 16, "num_head_channels": 8}


def adm_file(path: Path, out_channels: int = 6) -> Path:
    """A small class-conditional UNet with 10 classes under guided-diffusion's own names."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16,
        out_channels=out_channels,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        downsample_type="resnet",
        upsample_type="resnet",
        resnet_time_scale_shift="scale_shift",
        attention_head_dim=8,
        attn_norm_num_groups=32,
        flip_sin_to_cos=True,
        freq_shift=0,
        norm_eps=1e-5,
        num_class_embeds=10,
    )
    for weight in unet.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.08)
    torch.nn.init.normal_(unet.class_embedding.weight, std=2.0)
    torch.save(openai_names.openai_state(unet.state_dict(), openai_names.Heads(channels=8)), path)
    return path


@pytest.fixture(scope="module")
def adm(tmp_path_factory: pytest.TempPathFactory) -> GuidedDiffusion:
    return GuidedDiffusion.load(Checkpoint(adm_file(tmp_path_factory.mktemp("adm") / "16x16_diffusion.pt"), OPTIONS))


def alone_is_in_a_batch(model: Generator, run: Any) -> np.ndarray:
    """`run(seeds)` for three seeds at once, each equal to itself alone within one grey level."""
    whole = run([3, 4, 5])
    for place, seed in enumerate([3, 4, 5]):
        assert np.abs(run([seed])[0].astype(int) - whole[place]).max() <= 1, f"{model.name}: seed {seed} depends on its batch"
    assert np.abs(whole[0].astype(int) - whole[1]).max() > 1
    return whole


@pytest.mark.parametrize("ddim", [False, True])
def test_adm_alone_and_in_a_batch(adm: GuidedDiffusion, ddim: bool) -> None:
    images = alone_is_in_a_batch(adm, lambda seeds: adm.sample(seeds, steps=4, ddim=ddim))
    assert images.shape == (3, 16, 16, 3)


def test_adm_follows_its_class(adm: GuidedDiffusion) -> None:
    one, two = (adm.sample([7], steps=4, class_index=index) for index in (1, 2))
    assert np.abs(one.astype(int) - two).max() > 1
    with pytest.raises(InputError, match="class_index 10, but this checkpoint has 10 classes"):
        adm.sample([7], steps=4, class_index=10)


def test_adm_edits_by_noising(adm: GuidedDiffusion) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    weak, strong = (adm.edit(image, [1], steps=20, strength=strength).astype(int) for strength in (0.05, 1.0))
    assert np.abs(weak - image).mean() < np.abs(strong - image).mean()


def test_adm_is_the_posterior_of_the_paper(adm: GuidedDiffusion) -> None:
    """The last two steps by hand: equations 7 and 15 of Ho et al. and of Nichol and Dhariwal."""
    process = Respaced(2)
    rng = torch.Generator().manual_seed(9)
    x = torch.randn(1, 3, 16, 16, generator=rng)
    labels = torch.tensor([4])
    for k in (1, 0):
        with torch.no_grad():
            eps, v = adm.unet(x, torch.tensor([process.timesteps[k]]), class_labels=labels).sample.chunk(2, 1)
        alpha, before, beta = process.alphas_cumprod[k], process.alphas_cumprod_prev[k], process.betas[k]
        start = ((x - (1 - alpha) ** 0.5 * eps) / alpha**0.5).clamp(-1, 1)
        mean = before**0.5 * beta / (1 - alpha) * start + (1 - beta) ** 0.5 * (1 - before) / (1 - alpha) * x
        small = beta * (1 - before) / (1 - alpha)
        if k:
            share = (v + 1) / 2
            variance = torch.exp(share * np.log(beta) + (1 - share) * np.log(small))
            mean = mean + variance.sqrt() * torch.randn(1, 3, 16, 16, generator=rng)
        x = mean.float()
    by_hand = (x * 127.5 + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert np.abs(adm.sample([9], steps=2, class_index=4).astype(int) - by_hand).max() <= 1


def test_the_cosine_schedule_is_diffusers(tmp_path: Path) -> None:
    from diffusers import DDPMScheduler

    betas = DDPMScheduler(beta_schedule="squaredcos_cap_v2").betas.numpy()
    assert np.abs(cosine_betas() - betas).max() < 1e-6
    assert np.abs(Respaced(1000, BETAS).betas - BETAS).max() < 1e-12
    file = adm_file(tmp_path / "adm.pt")
    cosine = GuidedDiffusion.load(Checkpoint(file, {**OPTIONS, "noise_schedule": "cosine"}))
    assert not np.array_equal(cosine.sample([1], steps=4), GuidedDiffusion.load(Checkpoint(file, OPTIONS)).sample([1], steps=4))
    with pytest.raises(CheckpointError, match="no noise_schedule 'square'"):
        GuidedDiffusion.load(Checkpoint(file, {**OPTIONS, "noise_schedule": "square"}))
    with pytest.raises(CheckpointError, match="does not predict the variance"):
        GuidedDiffusion.load(Checkpoint(adm_file(tmp_path / "plain.pt", out_channels=3), OPTIONS))


@pytest.fixture(scope="module")
def dit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import diffusers

    torch.manual_seed(0)
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, sample_size=8, patch_size=2
    )
    for weight in transformer.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.2)
    vae = diffusers.AutoencoderKL(block_out_channels=(4, 8), norm_num_groups=2, latent_channels=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)  # fmt: skip
    folder = tmp_path_factory.mktemp("dit")
    diffusers.DiTPipeline(transformer.eval(), vae.eval(), diffusers.DDPMScheduler()).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_dit_alone_and_in_a_batch(dit_folder: Path, guidance_scale: float) -> None:
    """Also where the folder's scheduler draws noise of its own, as DDPM's does."""
    model = DiT.load(Checkpoint(dit_folder))
    images = alone_is_in_a_batch(model, lambda seeds: model.sample(seeds, steps=3, guidance_scale=guidance_scale))
    assert images.shape == (3, 16, 16, 3) and model.resolution == 16
    classes = [model.sample([1], steps=3, class_index=index) for index in (5, 6)]
    assert not np.array_equal(*classes)


def test_dit_refuses_what_is_none(dit_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no folder of a diffusers pipeline"):
        DiT.load(Checkpoint(tmp_path))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "DiTPipeline", "vae": ["diffusers", "AutoencoderKL"]}))
    with pytest.raises(CheckpointError, match="has no transformer"):
        DiT.load(Checkpoint(tmp_path))
    with pytest.raises(InputError, match="class_index"):
        DiT.parse_parameters({"class_index": 1000})


@pytest.fixture(scope="module")
def janus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({token: row for row, token in enumerate([*letters, "<bos>", "<boi>", "<pad>"])}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    folder = tmp_path_factory.mktemp("janus")
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<bos>", pad_token="<pad>").save_pretrained(folder)
    text = {"model_type": "llama", "vocab_size": 260, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 258, "bos_token_id": 256}
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    vision |= {"projection_dim": 16, "num_image_tokens": 16}
    vq = {"embed_dim": 4, "num_embeddings": 32, "latent_channels": 8, "base_channels": 32, "channel_multiplier": [1, 1]}
    vq |= {"num_res_blocks": 1, "num_patches": 4, "projection_dim": 16, "image_token_embed_dim": 16}
    torch.manual_seed(0)
    model = transformers.JanusForConditionalGeneration(
        transformers.JanusConfig(text_config=text, vision_config=vision, vq_config=vq)
    ).eval()
    for name, weight in model.named_parameters():
        if weight.dim() > 1 and "vqmodel" not in name:
            torch.nn.init.normal_(weight, std=0.3)
    model.generation_config.update(bos_token_id=256, pad_token_id=258)
    model.save_pretrained(folder)
    settings = folder / "generation_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "generation_kwargs": {"boi_token_id": 257}}))
    return folder


def test_janus_alone_and_in_a_batch(janus_folder: Path) -> None:
    """Prompts of different lengths, so that some are padded in the batch."""
    model = Janus.load(Checkpoint(janus_folder))
    texts = {3: "a cat", 4: "a lighthouse on a rock under storm clouds", 5: "x"}
    images = alone_is_in_a_batch(model, lambda seeds: model.prompt([texts[seed] for seed in seeds], seeds))
    assert images.shape == (3, 8, 8, 3) and model.resolution == 8
    assert not np.array_equal(model.prompt(["a cat"], [1]), model.prompt(["a dog"], [1]))
    greedy = [model.prompt(["a cat"], [seed], top_k=1) for seed in (1, 2)]
    assert np.array_equal(*greedy)


def test_janus_draws_what_transformers_would(janus_folder: Path) -> None:
    """Without noise: the tokens of transformers' own greedy loop, guidance included."""
    model = Janus.load(Checkpoint(janus_folder))
    ids, mask = model._tokenised(["a lamp"])
    model.model.generation_config.generation_kwargs = {"boi_token_id": model.begin}
    with torch.no_grad():
        wanted = model.model.generate(ids[:1], attention_mask=mask[:1], generation_mode="image", do_sample=False, guidance_scale=5.0)
        pixels = model.model.decode_image_tokens(wanted)
    by_transformers = ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    assert np.abs(model.prompt(["a lamp"], [0], top_k=1).astype(int) - by_transformers).max() <= 1


def test_janus_refuses_what_is_none(janus_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no Janus model"):
        Janus.load(Checkpoint(tmp_path))
    with pytest.raises(InputError, match="no place for the prompt"):
        Janus.load(Checkpoint(janus_folder, {"template": "a picture"}))
