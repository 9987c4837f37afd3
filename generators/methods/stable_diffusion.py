"""Stable Diffusion (Rombach et al. 2022), and any other text-to-image pipeline that diffusers knows.

A checkpoint is a folder as diffusers saves a pipeline, a Hub repository id, or one file: safetensors with all parts (tensors under `unet.`,
`vae.` and `text_encoder.`, the configuration of each, of the `scheduler` and of the `tokenizer` in the header), or CompVis' original of
Stable Diffusion 1 (`.ckpt` or safetensors), which needs the component `tokenizer` beside it. diffusers does all the work; this file gives
each image its own random generator, keeps what the safety checker flags out of the dataset, and makes image-to-image an edit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from generators import base
from generators.base import Generator, Result
from generators.checkpoints import Checkpoint, Contents, read
from generators.diffusers_files import build_part, diffusers_folder, to_device
from generators.errors import CheckpointError, InputError
from generators.images import require_size, to_float, to_uint8
from generators.networks.diffusion.latents import images_at_once
from generators.networks.diffusion.ldm_original import read_parts
from generators.networks.state import load_exactly
from generators.registry import register
from generators.seeding import torch_rng

VOCABULARY = "https://huggingface.co/openai/clip-vit-large-patch14"
SINGLE_FILE_PARTS = ("unet", "vae", "text_encoder", "scheduler", "tokenizer")
SAFETY_PARTS = ("safety_checker", "feature_extractor")
FLAGGED = "the safety checker flags it"


@register("stable_diffusion")
class StableDiffusion(Generator):
    title = "Stable Diffusion"
    family = "DM"
    kinds = ("prompt", "edit")
    licence = "CreativeML-OpenRAIL-M"
    reconstruction: ClassVar[dict[str, Any] | None] = {"strength": 0, "safety": "off"}
    networks = ("pipeline.unet", "pipeline.vae.decoder")
    batch_size = 4

    class Parameters(base.Parameters):
        steps: int = Field(50, ge=1, le=1000, description="denoising steps")
        guidance_scale: float = Field(7.5, ge=0, description="how far beyond the unguided prediction; 1 is no guidance")
        negative_prompt: str = Field("", description="what to guide away from")
        safety: Literal["off", "reject"] = "reject"  # whether the pipeline's safety checker is asked; what it flags goes to the ledger
        prompt: str = Field("", description="edit: what all images are to show")
        strength: float = Field(
            0.5, ge=0, le=1, description="edit: the part of the schedule that the noise reaches; 0 only encodes and decodes"
        )

    def __init__(self, pipeline: Any, safety: SafetyChecker | None, size: int | None, device: str | torch.device):
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline.to(device)
        if getattr(pipeline, "unet", None) is None:  # a later pipeline, whose denoiser is a transformer
            self.networks = ("pipeline.transformer", "pipeline.vae.decoder")
        self.safety = safety
        self.size = int(size or _latent_side(pipeline) * pipeline.vae_scale_factor)
        self.device = torch.device(device)
        if self.device.type == "cuda":  # where tensor cores are fast
            for part in (_denoiser(pipeline), pipeline.vae):
                part.to(memory_format=torch.channels_last)

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> StableDiffusion:
        """Option `size`: the side of the images in pixels, by default the one that the pipeline was trained for. Options of an original
        checkpoint: see `generators.networks.diffusion.ldm_original.read_parts`."""
        with _import_quietly():
            from diffusers import AutoPipelineForText2Image

        folder = diffusers_folder(checkpoint)
        if folder is None and checkpoint.path.is_file():
            return cls(_pipeline_of_file(checkpoint, dtype), None, checkpoint.option("size"), device)
        if folder is None or not (folder / "model_index.json").is_file():
            raise CheckpointError(f"{checkpoint.path} is no folder of a diffusers pipeline", "It should hold a model_index.json")
        index = json.loads((folder / "model_index.json").read_text())
        # The safety checker is asked here instead: the pipeline would blacken what it flags.
        without: dict[str, Any] = {name: None for name in SAFETY_PARTS if name in index}
        if "requires_safety_checker" in index:
            without["requires_safety_checker"] = False
        try:
            pipeline = AutoPipelineForText2Image.from_pretrained(
                folder, dtype=dtype, local_files_only=True, trust_remote_code=False, **without
            )
        except (OSError, ValueError, AttributeError, RuntimeError) as error:
            reason = str(error).strip().split("\n", 1)[0]
            raise CheckpointError(
                f"{folder} is no text-to-image pipeline ({reason})", "Save the pipeline again with `save_pretrained`"
            ) from None
        return cls(pipeline, SafetyChecker.find(folder, device), checkpoint.option("size"), device)

    @property
    def resolution(self) -> int:
        return self.size

    def _prompt(self, prompts: list[str], seeds: list[int], settings: Parameters) -> Result:
        self._require_checker(settings)
        options = self._options(prompts, seeds, settings)
        return self._checked(to_uint8(self.pipeline(**options, height=self.size, width=self.size).images, 0.0, 1.0), settings)

    def _edit(self, images: np.ndarray, seeds: list[int], settings: Parameters) -> Result:
        self._require_checker(settings)
        require_size(images, self.size, self.name)
        options = self._options([settings.prompt] * len(seeds), seeds, settings)
        if settings.strength == 0:
            return self._checked(self._reconstruct(images), settings)
        targets = to_float(images, 0.0, 1.0, self.device)
        pixels = self._image_to_image(**options, image=targets, strength=max(settings.strength, 1 / settings.steps)).images
        return self._checked(to_uint8(pixels, 0.0, 1.0), settings)

    def _require_checker(self, settings: Parameters) -> None:
        """InputError if the safety checker is to be asked and the pipeline came without."""
        if settings.safety == "reject" and self.safety is None:
            raise InputError(f"{self.name}: this pipeline has no safety checker", "Set `safety: off`")

    def _checked(self, images: np.ndarray, settings: Parameters) -> Result:
        """The images, those rejected that the safety checker flags."""
        flagged = self.safety.flags(images) if self.safety is not None and settings.safety == "reject" else []
        return Result(images, dict.fromkeys(flagged, FLAGGED))

    def _options(self, prompts: list[str], seeds: list[int], settings: Parameters) -> dict[str, Any]:
        """What the pipelines from text and from images are both told of a batch."""
        self._slice_decoding(len(seeds))
        return {
            "prompt": prompts,
            "negative_prompt": [settings.negative_prompt] * len(seeds),
            "guidance_scale": settings.guidance_scale,
            "num_inference_steps": settings.steps,
            "generator": [torch_rng(seed) for seed in seeds],
            "output_type": "pt",
        }

    def _reconstruct(self, images: np.ndarray) -> np.ndarray:
        vae = self.pipeline.vae
        latents = vae.encode(to_float(images, device=self.device).to(vae.dtype)).latent_dist.mode()
        return to_uint8(vae.decode(latents).sample)

    def _image_to_image(self, **options: Any) -> Any:
        from diffusers import AutoPipelineForImage2Image

        pipeline = AutoPipelineForImage2Image.from_pipe(self.pipeline)  # the same networks
        pipeline.set_progress_bar_config(disable=True)
        return pipeline(**options)

    def _slice_decoding(self, count: int) -> None:
        """Lets the autoencoder work image by image where a whole batch would not fit in memory."""
        vae = self.pipeline.vae
        if hasattr(vae, "enable_slicing"):
            enough = images_at_once(vae, self.size * self.size, self.device) >= count
            vae.disable_slicing() if enough else vae.enable_slicing()


class SafetyChecker:
    """The checker that a v1 pipeline comes with: CLIP features against stored concepts."""

    def __init__(self, network: Any, processor: Any, device: str | torch.device):
        self.network = network.eval().to(device)
        self.processor = processor

    @classmethod
    def find(cls, folder: Path, device: str | torch.device) -> SafetyChecker | None:
        """The checker in a pipeline's folder, or None if it has none."""
        if not all((folder / name).is_dir() for name in SAFETY_PARTS):
            return None
        from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
        from transformers import CLIPImageProcessorPil

        try:
            network = StableDiffusionSafetyChecker.from_pretrained(folder / SAFETY_PARTS[0], local_files_only=True)
            processor = CLIPImageProcessorPil.from_pretrained(folder / SAFETY_PARTS[1], local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().split("\n", 1)[0]
            raise CheckpointError(f"{folder / SAFETY_PARTS[0]} cannot be read ({reason})", "Fetch the pipeline again") from None
        return cls(network, processor, device)

    def flags(self, images: np.ndarray) -> list[int]:
        """Which of `uint8` `[N, H, W, 3]` it flags."""
        features = self.processor(list(images), return_tensors="pt").pixel_values.to(self.network.device)
        _, flagged = self.network(images=images.copy(), clip_input=features)  # it blackens what it is given
        return [row for row, flag in enumerate(flagged) if flag]


@contextmanager
def _import_quietly() -> Iterator[None]:
    """Without transformers' three warnings that image processors, which diffusers imports and nothing here uses, want torchvision."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def build_tokenizer(settings: Mapping[str, Any]) -> Any:
    """CLIP's tokenizer with a vocabulary of its own: `vocab` (token to number), `merges` (pairs of tokens), `model_max_length`."""
    from transformers import CLIPTokenizer

    merges = [tuple(pair) for pair in settings["merges"]]
    return CLIPTokenizer(settings["vocab"], merges, model_max_length=settings["model_max_length"])


def _pipeline_of_file(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The pipeline of a single file: with its configuration in the header, or CompVis' original."""
    with _import_quietly():
        from diffusers import StableDiffusionPipeline

    contents = read(checkpoint.path)
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
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True, model_max_length=length)


def _denoiser(pipeline: Any) -> Any:
    return pipeline.unet if getattr(pipeline, "unet", None) is not None else pipeline.transformer


def _latent_side(pipeline: Any) -> int:
    side = _denoiser(pipeline).config.sample_size
    return int(side if isinstance(side, int) else side[0])
