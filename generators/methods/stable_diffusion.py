"""Stable Diffusion 1 (Rombach et al. 2022), as the paper uses it: `text_to_image` with that model's defaults and its single files.

A checkpoint is a folder as diffusers saves a pipeline, a Hub repository id, or one file: safetensors with all parts (tensors under `unet.`,
`vae.` and `text_encoder.`, the configuration of each, of the `scheduler` and of the `tokenizer` in the header), or CompVis' original of
Stable Diffusion 1 (`.ckpt` or safetensors), which needs the component `tokenizer` beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from generators.checkpoints import Checkpoint, Contents, read_weights
from generators.diffusers_files import build_part, to_device
from generators.errors import CheckpointError
from generators.methods.text_to_image import Safety, TextToImage, TextToImageOptions, TextToImageParameters
from generators.networks.diffusion.ldm_original import read_parts
from generators.networks.state import load_exactly
from generators.quiet import libraries_quiet
from generators.registry import register
from generators.text_to_image.memory import place
from generators.text_to_image.sizes import side_of

VOCABULARY = "https://huggingface.co/openai/clip-vit-large-patch14"
SINGLE_FILE_PARTS = ("unet", "vae", "text_encoder", "scheduler", "tokenizer")


@register("stable_diffusion")
class StableDiffusion(TextToImage):
    title = "Stable Diffusion"
    released_precision = "float16"
    licence = "CreativeML-OpenRAIL-M"

    class Options(TextToImageOptions):
        """`size` is of the images, in pixels; the others are of an original file, see `ldm_original.read_parts`."""

        size: int | None = Field(None, ge=8, multiple_of=8)
        image_size: int | None = Field(None, ge=1)
        num_heads: int | None = Field(None, ge=1)
        num_head_channels: int | None = Field(None, ge=1)
        scale_factor: float | None = Field(None, gt=0)

    class Parameters(TextToImageParameters):
        steps: int = Field(50, ge=1, le=1000, description="denoising steps")
        guidance_scale: float = Field(7.5, ge=0, description="how far beyond the unguided prediction; 1 is no guidance")
        negative_prompt: str = Field("", description="what to guide away from")
        safety: Safety = "reject"  # whether the pipeline's safety checker is asked; what it flags goes to the ledger

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> TextToImage:
        """A folder or a repository as `text_to_image` reads it, or a single file. Options of an original checkpoint: see
        `generators.networks.diffusion.ldm_original.read_parts`."""
        if not checkpoint.path.is_file():
            return super().load(checkpoint, device, dtype)
        pipeline = _pipeline_of_file(checkpoint, dtype)
        side = side_of(pipeline, checkpoint)
        return cls(place(pipeline, checkpoint, torch.device(device)), None, side, device)


def build_tokenizer(settings: Mapping[str, Any]) -> Any:
    """CLIP's tokenizer with a vocabulary of its own: `vocab` (token to number), `merges` (pairs of tokens), `model_max_length`."""
    from transformers import CLIPTokenizer

    merges = [tuple(pair) for pair in settings["merges"]]
    return CLIPTokenizer(settings["vocab"], merges, model_max_length=settings["model_max_length"])


def _pipeline_of_file(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The pipeline of a single file: with its configuration in the header, or CompVis' original."""
    with libraries_quiet():
        from diffusers import StableDiffusionPipeline

    contents = read_weights(checkpoint.path)
    parts = _described_parts(contents, checkpoint.path) if "unet" in contents.config else _original_parts(contents, checkpoint)
    for name in ("vae", "unet", "text_encoder"):
        parts[name] = to_device(parts[name], "cpu", dtype)
    return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def _described_parts(contents: Contents, path: Path) -> dict[str, Any]:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    config = contents.config
    missing = [name for name in SINGLE_FILE_PARTS if not isinstance(config.get(name), Mapping)]
    if missing:
        raise CheckpointError(f"{path} has no configuration of its {missing[0]!r}", 'The header\'s "config" must hold one for each part')
    text_encoder = CLIPTextModel(CLIPTextConfig(**config["text_encoder"]))
    return {
        "vae": build_part(contents, "vae", AutoencoderKL, path),
        "unet": build_part(contents, "unet", UNet2DConditionModel, path),
        "text_encoder": load_exactly(text_encoder, contents.under("text_encoder."), path.name),
        "tokenizer": build_tokenizer(config["tokenizer"]),
        "scheduler": DDIMScheduler.from_config(config["scheduler"]),
    }


def _original_parts(contents: Contents, checkpoint: Checkpoint) -> dict[str, Any]:
    from diffusers import PNDMScheduler
    from transformers import CLIPTextModel

    parts = read_parts(contents, checkpoint)
    if not isinstance(parts.text_encoder, CLIPTextModel):
        raise CheckpointError(f"{checkpoint.path.name} has no text encoder of CLIP's", "If it is a latent-diffusion model, use `ldm`")
    return {
        "vae": parts.first_stage,
        "unet": parts.unet,
        "text_encoder": parts.text_encoder,
        "tokenizer": _component_tokenizer(checkpoint, parts.text_encoder.config.max_position_embeddings),
        "scheduler": PNDMScheduler.from_config(parts.schedule, skip_prk_steps=True),  # as in the released pipelines
    }


def _component_tokenizer(checkpoint: Checkpoint, length: int) -> Any:
    from transformers import CLIPTokenizer

    if "tokenizer" not in checkpoint.components:
        raise CheckpointError(
            f"{checkpoint.path.name} needs a component 'tokenizer'",
            f"Give the folder with the vocab.json and merges.txt of {VOCABULARY} under `components`",
        )
    path = checkpoint.components["tokenizer"].path
    folder = path if path.is_dir() else path.parent
    missing = [name for name in ("vocab.json", "merges.txt") if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} holds no CLIP vocabulary", f"It should have the {missing[0]} of {VOCABULARY}")
    with libraries_quiet():
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True, model_max_length=length)
