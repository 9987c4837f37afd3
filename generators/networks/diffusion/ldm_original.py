"""The parts of a CompVis checkpoint, latent-diffusion's or Stable Diffusion 1's, as diffusers models: UNet, first stage, text encoder and
schedule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from generators.checkpoints import Checkpoint, Contents
from generators.errors import CheckpointError
from generators.networks.diffusion import ddim_names, openai_names
from generators.networks.state import count, load_exactly

UNET, FIRST, TEXT, EMA = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.", "model_ema."
KL_SCALE = 0.18215  # of every released KL model; a VQ model's latents are not scaled
RELEASED_SIDE, STABLE_SIDE = 256, 512  # pixels: what the released models of latent-diffusion and of Stable Diffusion were trained on
CLIP, CLIP_HEAD_CHANNELS = "text_model.", 64  # Stable Diffusion 1's text encoder
OPEN_CLIP = "cond_stage_model.model."  # Stable Diffusion 2's

BERT_PARTS = {
    "token_emb": "model.embed_tokens",
    "pos_emb.emb": "model.embed_positions",
    "norm": "model.layer_norm",
    "to_logits": "to_logits",
}
BERT_LAYER = {
    "0.0": "self_attn_layer_norm",
    "0.1.to_q": "self_attn.q_proj",
    "0.1.to_k": "self_attn.k_proj",
    "0.1.to_v": "self_attn.v_proj",
    "0.1.to_out": "self_attn.out_proj",
    "1.0": "final_layer_norm",
    "1.1.net.0.0": "fc1",
    "1.1.net.2": "fc2",
}
BERT_HEAD_CHANNELS = 64


@dataclass
class LatentParts:
    """`text_encoder` is None for a model without text. `schedule` is a diffusers DDIMScheduler configuration."""

    unet: nn.Module
    first_stage: nn.Module
    text_encoder: nn.Module | None
    schedule: dict[str, Any]


def read_parts(contents: Contents, checkpoint: Checkpoint) -> LatentParts:
    """The parts of a Lightning checkpoint, with the averaged weights of its UNet.

    What no shape tells comes from the checkpoint's options, by default as released: `num_head_channels` (32 without text), `num_heads`
    (8 with text), `image_size` (of the latents), `scale_factor`. The text encoder is latent-diffusion's own (an LDMBertModel) or CLIP's.
    Raises CheckpointError if it is neither a latent-diffusion checkpoint nor one of Stable Diffusion 1.
    """
    source = checkpoint.path.name
    state = {name.removeprefix("state_dict."): value for name, value in contents.tensors.items()}
    unet_state, first = _under(state, UNET), _under(state, FIRST)
    if not unet_state or not first:
        raise CheckpointError(f"{source} is no latent-diffusion checkpoint", f"It should have tensors under {UNET} and {FIRST}")
    if any(key.startswith(OPEN_CLIP) for key in state):
        raise CheckpointError(f"{source} is of Stable Diffusion 2, which is read from a folder alone", "Give it as diffusers saves it")
    unet_state |= averaged(state)
    text = _under(state, TEXT)
    if "embeddings.token_embedding.weight" in text:  # NovelAI's models, and merges made from them, leave out `text_model.`
        text = {f"{CLIP}{key}": value for key, value in text.items()}
    is_clip = f"{CLIP}embeddings.token_embedding.weight" in text
    if text and not is_clip and "token_emb.weight" not in text:
        raise CheckpointError(
            f"{source} holds no text encoder that is known: its first tensor is {TEXT}{min(text)}",
            f"Expected {TEXT}{CLIP}... (CLIP) or {TEXT}token_emb.weight (latent-diffusion)",
        )
    first_stage = build_first_stage(first, _scale_factor(state, first, checkpoint), source)
    factor = 2 ** (len(first_stage.config.block_out_channels) - 1)
    channels = checkpoint.option("num_head_channels", None if text or "num_heads" in checkpoint.options else 32)
    heads = openai_names.Heads(channels, int(checkpoint.option("num_heads", 8)))
    side = (STABLE_SIDE if is_clip else RELEASED_SIDE) // factor
    unet = openai_names.build(unet_state, int(checkpoint.option("image_size", side)), heads, source)
    build = build_clip if is_clip else build_text_encoder
    return LatentParts(unet, first_stage, build(text, source) if text else None, _schedule(state, bool(text)))


def averaged(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The moving averages of the UNet's weights under the weights' names, as sampling uses them; none if the file has none.

    They are stored under `model_ema.` with the dots left out of their names.
    """
    names = {key.removeprefix("model.").replace(".", ""): key.removeprefix(UNET) for key in state if key.startswith(UNET)}
    averages = {names.get(key): value for key, value in _under(state, EMA).items()}
    return {key: value for key, value in averages.items() if key is not None}


def build_first_stage(state: Mapping[str, torch.Tensor], scale_factor: float, source: str) -> nn.Module:
    """VQModel or AutoencoderKL with the weights of `state`; a VQ model has a codebook."""
    from diffusers import AutoencoderKL, VQModel

    levels = count(state, r"encoder\.down\.(\d+)\.")
    attended = [f"encoder.down.{level}.attn.0.q.weight" in state for level in range(levels)]
    config: dict[str, Any] = {
        "in_channels": state["encoder.conv_in.weight"].shape[1],
        "out_channels": len(state["decoder.conv_out.weight"]),
        "latent_channels": state["decoder.conv_in.weight"].shape[1],
        "block_out_channels": [len(state[f"encoder.down.{level}.block.0.conv1.weight"]) for level in range(levels)],
        "layers_per_block": count(state, r"encoder\.down\.0\.block\.(\d+)\."),
        "down_block_types": ["AttnDownEncoderBlock2D" if attention else "DownEncoderBlock2D" for attention in attended],
        "up_block_types": ["AttnUpDecoderBlock2D" if attention else "UpDecoderBlock2D" for attention in reversed(attended)],
        "scaling_factor": scale_factor,
    }
    quantised = "quantize.embedding.weight" in state
    if quantised:
        config["num_vq_embeddings"], config["vq_embed_dim"] = state["quantize.embedding.weight"].shape
    cls = VQModel if quantised else AutoencoderKL
    parts = {name: ddim_names.translate(_under(state, f"{name}.")) for name in ("encoder", "decoder")}
    translated = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}
    translated |= {key: value for key, value in state.items() if key.startswith(("quant", "post_quant_conv"))}
    return load_exactly(cls.from_config(config), translated, source)


def build_text_encoder(state: Mapping[str, torch.Tensor], source: str) -> nn.Module:
    """The transformer that LDM's text model was trained with, as diffusers' LDMBertModel: `[N, 77, width]` for `[N, 77]` tokens."""
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

    vocabulary, width = state["token_emb.weight"].shape
    config = LDMBertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=len(state["pos_emb.emb.weight"]),
        encoder_layers=count(state, r"attn_layers\.layers\.(\d+)\.") // 2,
        encoder_ffn_dim=len(state["attn_layers.layers.1.1.net.0.0.weight"]),
        encoder_attention_heads=len(state["attn_layers.layers.0.1.to_q.weight"]) // BERT_HEAD_CHANNELS,
        head_dim=BERT_HEAD_CHANNELS,
        d_model=width,
    )
    translated = {}
    for key, value in state.items():
        whole, _, leaf = key.rpartition(".")
        if match := re.fullmatch(r"attn_layers\.layers\.(\d+)\.(.+)", whole):
            layer, half = divmod(int(match[1]), 2)  # attention and feed-forward take turns
            translated[f"model.layers.{layer}.{BERT_LAYER[f'{half}.{match[2]}']}.{leaf}"] = value
        else:
            translated[f"{BERT_PARTS[whole]}.{leaf}"] = value
    return load_exactly(LDMBertModel(config), translated, source)


def build_clip(state: Mapping[str, torch.Tensor], source: str) -> nn.Module:
    """The text half of a CLIP, as transformers' CLIPTextModel."""
    from transformers import CLIPTextConfig, CLIPTextModel

    own = {key.removeprefix(CLIP): value for key, value in state.items() if not key.endswith("position_ids")}
    vocabulary, width = own["embeddings.token_embedding.weight"].shape
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        max_position_embeddings=len(own["embeddings.position_embedding.weight"]),
        hidden_size=width,
        intermediate_size=len(own["encoder.layers.0.mlp.fc1.bias"]),
        num_hidden_layers=count(own, r"encoder\.layers\.(\d+)\."),
        num_attention_heads=max(1, width // CLIP_HEAD_CHANNELS),
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
    )
    return load_exactly(CLIPTextModel(config), own, source)


def _under(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    kept = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return {key: value for key, value in kept.items() if not key.startswith("loss.")}  # the first stage's discriminator


def _scale_factor(state: Mapping[str, torch.Tensor], first: Mapping[str, torch.Tensor], checkpoint: Checkpoint) -> float:
    """What latents are multiplied by: the file's own measurement where it made one, then the option, then as released."""
    if "scale_factor" in state:
        return float(state["scale_factor"])
    return float(checkpoint.option("scale_factor", 1.0 if "quantize.embedding.weight" in first else KL_SCALE))


def _schedule(state: Mapping[str, torch.Tensor], text: bool) -> dict[str, Any]:
    """The original sampler in diffusers' terms: timesteps begin at 1, the last ends at the schedule's first alpha, no clipping."""
    betas = state["betas"].tolist() if "betas" in state else None
    start, end = (0.00085, 0.012) if text else (0.0015, 0.0195)
    schedule = {"beta_start": start, "beta_end": end, "beta_schedule": "scaled_linear", "trained_betas": betas}
    schedule["num_train_timesteps"] = len(betas) if betas else 1000
    return schedule | {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
