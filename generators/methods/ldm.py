"""LDM: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models (2022). DDIM in the latent space of an autoencoder.

Without text (CelebA-HQ, FFHQ; a VQGAN's latent space) it samples; the text-guided model (LAION; a KL autoencoder) follows prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, model_validator

from foreign.json_files import read_json
from generators import base
from generators.base import Output, StepKind
from generators.checkpoints import Checkpoint, read_weights
from generators.denoiser import Denoiser
from generators.diffusers_files import build_part, diffusers_folder, load_part, to_device
from generators.errors import CheckpointError
from generators.latent_noise import NAME, noise_field, require_reconstruction
from generators.networks.diffusion.latents import decode_latents
from generators.networks.diffusion.ldm_original import read_parts
from generators.networks.diffusion.schedules import require_known, schedule_of_folder
from generators.quiet import libraries_quiet
from generators.registry import register
from generators.transfer import send

VOCABULARY = "https://huggingface.co/google-bert/bert-base-uncased"


@register("ldm")
class LDM(Denoiser):
    title = "LDM"
    kinds: tuple[StepKind, ...] = ("sample", "prompt", "edit")
    networks = ("unet", "first_stage.decoder")
    released_precision = "float16"
    licence = "Apache-2.0"
    reconstruction: ClassVar[dict[str, Any] | None] = {"strength": 0}

    class Options(base.Options):
        """What the tensors of an original file cannot say."""

        image_size: int | None = Field(None, ge=1, description="side of the latents")
        num_heads: int | None = Field(None, ge=1)
        num_head_channels: int | None = Field(None, ge=1)
        scale_factor: float | None = Field(None, gt=0, description="what latents are multiplied by")

    class Parameters(base.Parameters):
        steps: int | None = Field(None, ge=1, description="DDIM steps; by default the paper's 200, and 50 with text, or as many as trained")
        eta: float = Field(0.0, ge=0, le=1, description="the paper uses 0 for CelebA-HQ and text, 1 for FFHQ")
        guidance_scale: float = Field(5.0, ge=0, description="text: how far beyond the unguided prediction; 1 is no guidance")
        negative_prompt: str = Field("", description="text: what to guide away from")
        prompt: str = Field("", description="edit with text: what all images are to show")
        strength: float = Field(
            0.5, ge=0, le=1, description="edit: the part of the schedule that the noise reaches; 0 only encodes and decodes"
        )
        latent_noise: float = noise_field()
        later: ClassVar[frozenset[str]] = frozenset({NAME})
        _only_reconstructions = model_validator(mode="after")(require_reconstruction)

    def __init__(
        self,
        unet: Any,
        first_stage: Any,
        schedule: Mapping[str, Any],
        device: str | torch.device,
        dtype: torch.dtype,
        text_encoder: Any = None,
        tokenizer: Any = None,
    ):
        super().__init__(unet, schedule, device, dtype)
        self.first_stage = to_device(first_stage, device, dtype)
        self.text_encoder: Any = None if text_encoder is None else to_device(text_encoder, device, dtype)
        self.tokenizer = tokenizer
        self.kinds = tuple(kind for kind in self.kinds if kind != ("prompt" if text_encoder is None else "sample"))

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> LDM:
        """From a diffusers folder or Hub repository, a single safetensors file, or the original `.ckpt`, whose text model needs the
        component `tokenizer` beside it. Options of an original checkpoint: see `generators.networks.diffusion.ldm_original.read_parts`."""
        from diffusers import DDIMScheduler, UNet2DModel, VQModel

        folder = diffusers_folder(checkpoint)
        if folder is not None:
            schedule = schedule_of_folder(folder, DDIMScheduler)
            if (folder / "bert").is_dir():
                unet, first_stage = _text_guided_parts(folder)
                require_latents(unet, first_stage, str(folder))
                text_encoder, tokenizer = _text_parts(folder)
                return cls(unet, first_stage, schedule, device, dtype, text_encoder, tokenizer)
            unet, first_stage = load_part(folder, "unet", UNet2DModel), load_part(folder, "vqvae", VQModel)
            require_latents(unet, first_stage, str(folder))
            if not _states(folder / "vqvae" / "config.json", "scaling_factor"):
                first_stage.register_to_config(scaling_factor=1.0)  # CompVis does not scale a VQGAN's latents; diffusers would by 0.18215
            return cls(unet, first_stage, schedule, device, dtype)
        contents = read_weights(checkpoint.path)
        if "unet" in contents.config:
            unet = build_part(contents, "unet", UNet2DModel, checkpoint.path)
            first_stage = build_part(contents, "vqvae", VQModel, checkpoint.path)
            require_latents(unet, first_stage, checkpoint.path.name)
            schedule = dict(contents.config.get("scheduler", {}))
            return cls(unet, first_stage, require_known(schedule, schedule, checkpoint.path.name), device, dtype)
        parts = read_parts(contents, checkpoint)
        require_latents(parts.unet, parts.first_stage, checkpoint.path.name)
        tokenizer = None if parts.text_encoder is None else _component_tokenizer(checkpoint)
        return cls(parts.unet, parts.first_stage, parts.schedule, device, dtype, parts.text_encoder, tokenizer)

    @property
    def resolution(self) -> int:
        return super().resolution * 2 ** (len(self.first_stage.config.block_out_channels) - 1)

    def scheduler(self, settings: Parameters) -> Any:
        from generators.networks.diffusion.host_noise import HostNoiseDDIM

        scheduler = HostNoiseDDIM.from_config(self.schedule)
        scheduler.set_timesteps(self.step_count(settings))
        return scheduler

    @property
    def usual_steps(self) -> int:
        return 200 if self.text_encoder is None else 50

    def step_options(self, settings: Parameters, rngs: list[torch.Generator]) -> dict[str, Any]:
        return {"eta": settings.eta, "generator": rngs}

    def encode(self, images: torch.Tensor, rngs: list[torch.Generator]) -> torch.Tensor:
        encoded = self.first_stage.encode(images.to(self.dtype))
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mean
        return latents.float() * self.first_stage.config.scaling_factor

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return decode_latents(self.first_stage, latents, alone=self.exact)

    def embed(self, texts: list[str]) -> torch.Tensor:
        """The text encoder's `[N, tokens, width]` for each text."""
        length = self.text_encoder.config.max_position_embeddings
        tokens = self.tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids
        return self.text_encoder(send(tokens, self.device), return_dict=True).last_hidden_state

    def follow(self, texts: list[str], settings: Parameters) -> Any:
        """A prediction that follows `texts` by classifier-free guidance, the guided and the unguided half in one call of the network."""
        wanted = self.embed(texts)
        if settings.guidance_scale == 1:
            return partial(self.predict_with, context=wanted)
        both = torch.cat([self.embed([settings.negative_prompt]).expand_as(wanted), wanted])

        def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            without, within = self.predict_with(torch.cat([x, x]), t, both).chunk(2)
            return without + settings.guidance_scale * (within - without)

        return predict

    def predict_with(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return self.unet(x.to(self.dtype), t, encoder_hidden_states=context).sample.float()

    def _prompt(self, prompts: list[str], seeds: list[int], settings: Parameters) -> Output:
        return self.make(seeds, settings, self.follow(prompts, settings))

    def _edit(self, images: np.ndarray, seeds: list[int], settings: Parameters) -> Output:
        predict = self.predict if self.text_encoder is None else self.follow([settings.prompt] * len(seeds), settings)
        return self.rework(images, seeds, settings, predict)


def require_latents(unet: Any, first_stage: Any, source: str) -> None:
    """CheckpointError if `unet` does not take the latents of `first_stage` alone: an inpainting model, an upscaler, an editor."""
    channels, latents = unet.config.in_channels, first_stage.config.latent_channels
    if channels != latents:
        raise CheckpointError(
            f"{source}: its UNet takes {channels} channels and its autoencoder's latents have {latents}: "
            "it is an inpainting, upscaling or editing model",
            "Give one that makes images from noise alone",
        )
    if getattr(unet.config, "class_embed_type", None) or getattr(unet.config, "num_class_embeds", None):
        raise CheckpointError(f"{source}: its UNet is class-conditional, which latent diffusion has no support for here", "Give another")


def _states(file: Path, key: str) -> bool:
    """Whether a configuration file has this key."""
    try:
        return key in read_json(file)
    except (OSError, ValueError):
        return False


def _text_guided_parts(folder: Path) -> tuple[Any, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    return load_part(folder, "unet", UNet2DConditionModel), load_part(folder, "vqvae", AutoencoderKL)


def _text_parts(folder: Path) -> tuple[Any, Any]:
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel

    return load_part(folder, "bert", LDMBertModel), _load_tokenizer(folder / "tokenizer")


def _component_tokenizer(checkpoint: Checkpoint) -> Any:
    if "tokenizer" not in checkpoint.components:
        raise CheckpointError(
            f"{checkpoint.path.name} is a text-guided model and needs a component 'tokenizer'",
            f"Give the folder with the vocab.txt of bert-base-uncased ({VOCABULARY}) under `components`",
        )
    return _load_tokenizer(checkpoint.components["tokenizer"].path)


def _load_tokenizer(folder: Path) -> Any:
    from transformers import BertTokenizerFast

    folder = folder if folder.is_dir() else folder.parent
    if not any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
        raise CheckpointError(f"{folder} holds no BERT vocabulary", f"It should have the vocab.txt of {VOCABULARY}")
    with libraries_quiet():
        return BertTokenizerFast.from_pretrained(folder, local_files_only=True)
