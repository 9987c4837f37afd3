"""Small random pipelines of four families that differ where families do.

- `sd3`: without its third text encoder, so that the folder has parts that are null; mapped for images and masks.
- `flux`: latents in packs, no size in its transformer, guidance that its network does not take, sizes rounded in silence.
- `pixart`: a table of sizes, a multistep solver, no class of diffusers for images.
- `turbo`: Stable Diffusion XL, with a solver that adds noise of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
CLIP_WIDTH, T5_WIDTH = 16, 32
QUIET = ("vae", "movq")  # autoencoders


def save(name: str, folder: Path, families: Mapping[str, Callable[[], Any]] | None = None) -> Path:
    """Saves the pipeline `name` of `families` in `folder`; by default one of this file."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        pipeline = (families or FAMILIES)[name]()
        for part, network in pipeline.components.items():
            if isinstance(network, torch.nn.Module) and part not in QUIET:
                enliven(network)
    pipeline.save_pretrained(folder)
    return folder


def enliven(network: torch.nn.Module) -> None:
    """Networks begin with small or zero weights, with which a prompt would not matter."""
    for weight in network.parameters():
        if weight.dim() > 1 and float(weight.detach().std()) < 0.15:
            torch.nn.init.normal_(weight, std=0.25)


def clip(projecting: bool = False) -> tuple[Any, Any]:
    """A CLIP text encoder and its tokenizer."""
    tokens = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    tokenizer = transformers.CLIPTokenizer({token: row for row, token in enumerate(tokens)}, [], model_max_length=77)
    shape = {"hidden_size": CLIP_WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    specials = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = transformers.CLIPTextConfig(vocab_size=len(tokens), projection_dim=CLIP_WIDTH, **shape, **specials)
    cls = transformers.CLIPTextModelWithProjection if projecting else transformers.CLIPTextModel
    return cls(config).eval(), tokenizer


def t5() -> tuple[Any, Any]:
    """A T5 encoder and its tokenizer, whose pieces are letters."""
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *((letter, -3.0) for letter in LETTERS)]
    tokenizer = transformers.T5Tokenizer(vocab, extra_ids=0, model_max_length=64)
    shape = {"d_model": T5_WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 4}
    return transformers.T5EncoderModel(transformers.T5Config(vocab_size=64, **shape)).eval(), tokenizer


def kl(levels: int, channels: int = 4, **settings: Any) -> Any:
    """An autoencoder that divides by 2 to the number of levels less one."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}
    widths = (4,) * (levels - 1) + (8,)
    return diffusers.AutoencoderKL(latent_channels=channels, block_out_channels=widths, norm_num_groups=2, **blocks, **settings).eval()


def sd3() -> Any:
    shape = {"sample_size": 16, "num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2, "caption_projection_dim": 16}
    transformer = diffusers.SD3Transformer2DModel(joint_attention_dim=T5_WIDTH, pooled_projection_dim=2 * CLIP_WIDTH, **shape)
    (first, tokenizer), (second, other) = clip(True), clip(True)
    parts = {"text_encoder": first, "tokenizer": tokenizer, "text_encoder_2": second, "tokenizer_2": other}
    vae = kl(2, 16, shift_factor=0.1, scaling_factor=0.4)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    absent = {"text_encoder_3": None, "tokenizer_3": None}
    return diffusers.StableDiffusion3Pipeline(transformer=transformer.eval(), vae=vae, scheduler=scheduler, **parts, **absent)


def flux() -> Any:
    shape = {"in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2}
    sizes = {"joint_attention_dim": T5_WIDTH, "pooled_projection_dim": CLIP_WIDTH, "axes_dims_rope": (2, 2, 4)}
    transformer = diffusers.FluxTransformer2DModel(guidance_embeds=False, **shape, **sizes)
    (text, tokenizer), (long, pieces) = clip(), t5()
    parts = {"text_encoder": text, "tokenizer": tokenizer, "text_encoder_2": long, "tokenizer_2": pieces}
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.FluxPipeline(
        transformer=transformer.eval(), vae=kl(2, shift_factor=0.1, scaling_factor=0.4), scheduler=scheduler, **parts
    )


def pixart() -> Any:
    shape = {"sample_size": 32, "num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2}
    transformer = diffusers.PixArtTransformer2DModel(cross_attention_dim=16, caption_channels=T5_WIDTH, **shape)
    text, tokenizer = t5()
    scheduler = diffusers.DPMSolverMultistepScheduler()
    return diffusers.PixArtSigmaPipeline(tokenizer, text, kl(2), transformer.eval(), scheduler)


def turbo() -> Any:
    blocks = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
    shape = {"sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 2}
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 48 + CLIP_WIDTH}
    unet = diffusers.UNet2DConditionModel(cross_attention_dim=2 * CLIP_WIDTH, **blocks, **shape, **added).eval()
    (first, tokenizer), (second, other) = clip(), clip(True)
    scheduler = diffusers.EulerAncestralDiscreteScheduler(timestep_spacing="trailing")
    return diffusers.StableDiffusionXLPipeline(kl(2), first, second, tokenizer, other, unet, scheduler)


FAMILIES = {"sd3": sd3, "flux": flux, "pixart": pixart, "turbo": turbo}
