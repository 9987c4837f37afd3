"""CLIP's image tower (Radford et al. 2021) with transformers' layers, read from and written under OpenAI's key names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ntf_model.errors import InputError

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection

HEAD_WIDTH = 64  # OpenAI's towers have width // 64 heads
# The text tower and what else OpenAI's files hold beside the image tower; no detector here needs them.
TEXT_TOWER = ("positional_embedding", "text_projection", "logit_scale", "transformer.", "token_embedding.", "ln_final.")
JIT_EXTRAS = ("input_resolution", "context_length", "vocab_size")

_NAMES = {
    "class_embedding": "vision_model.embeddings.class_embedding",
    "positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "proj": "visual_projection.weight",
}
_LAYERS = {"ln_pre.": "vision_model.pre_layrnorm.", "ln_post.": "vision_model.post_layernorm."}
_BLOCK = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
    "attn.out_proj.": "self_attn.out_proj.",
}


def build(width: int = 1024, layers: int = 24, patch: int = 14, size: int = 224, embedding: int = 768) -> CLIPVisionModelWithProjection:
    """An image tower with random weights; the defaults are ViT-L/14."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=max(1, width // HEAD_WIDTH),
            patch_size=patch,
            image_size=size,
            projection_dim=embedding,
            hidden_act="quick_gelu",
            layer_norm_eps=1e-5,
        )
    )


def shape_of(visual: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The arguments of `build` that fit a state dict of OpenAI's image tower (keys without "visual.")."""
    try:
        width, _, patch, _ = visual["conv1.weight"].shape
        side = round((len(visual["positional_embedding"]) - 1) ** 0.5)
        blocks = {match[1] for key in visual if (match := re.match(r"transformer\.resblocks\.(\d+)\.", key))}
        return {"width": width, "layers": len(blocks), "patch": patch, "size": side * patch, "embedding": visual["proj"].shape[1]}
    except (KeyError, ValueError) as error:
        raise InputError(f"the image tower lacks {error}", "Only CLIP with a vision transformer is read") from None


def from_openai(visual: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """OpenAI's image tower (keys without "visual.") under transformers' names. Raises InputError for a key that is not part of it."""
    out: dict[str, torch.Tensor] = {}
    for key, value in visual.items():
        block = re.match(r"transformer\.resblocks\.(\d+)\.(.*)", key)
        if block and block[2].startswith("attn.in_proj_"):
            kind = block[2].removeprefix("attn.in_proj_")
            for name, part in zip("qkv", value.chunk(3), strict=True):
                out[f"vision_model.encoder.layers.{block[1]}.self_attn.{name}_proj.{kind}"] = part
        else:
            out[_renamed(key, block)] = value.T if key == "proj" else value
    return out


def to_openai(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inverse of `from_openai`."""
    out: dict[str, torch.Tensor] = {}
    back = {new: old for old, new in {**_NAMES, **_LAYERS}.items()}
    inner = {new: old for old, new in _BLOCK.items()}
    for key, value in state.items():
        block = re.match(r"vision_model\.encoder\.layers\.(\d+)\.(.*)", key)
        if not block:
            old = next(name for name in back if key.startswith(name))
            out[key.replace(old, back[old])] = value.T if old == "visual_projection.weight" else value
        elif projection := re.match(r"self_attn\.q_proj\.(weight|bias)", block[2]):
            parts = [state[key.replace("q_proj", f"{name}_proj")] for name in "qkv"]
            out[f"transformer.resblocks.{block[1]}.attn.in_proj_{projection[1]}"] = torch.cat(parts)
        elif not re.match(r"self_attn\.[kv]_proj\.", block[2]):
            old = next(name for name in inner if block[2].startswith(name))
            out[f"transformer.resblocks.{block[1]}.{block[2].replace(old, inner[old])}"] = value
    return out


def load_folder(folder: Path | str) -> CLIPVisionModelWithProjection:
    """The image tower of a CLIP that transformers saved: a folder, or an id where its cache has it. Raises InputError if it is none."""
    from transformers import CLIPVisionModelWithProjection

    try:
        return CLIPVisionModelWithProjection.from_pretrained(folder, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} is no CLIP that transformers can read ({str(error).splitlines()[0]})", "Give a folder with safetensors"
        ) from None


def _renamed(key: str, block: re.Match[str] | None) -> str:
    table = _BLOCK if block else {**_NAMES, **_LAYERS}
    part = block[2] if block else key
    old = next((name for name in table if part == name or (name.endswith(".") and part.startswith(name))), None)
    if old is None:
        raise InputError(f"{key!r} is no tensor of CLIP's image tower", "It belongs to another network")
    renamed = table[old] + part.removeprefix(old)
    return f"vision_model.encoder.layers.{block[1]}.{renamed}" if block else renamed
