"""Any text-to-image pipeline of diffusers: SDXL, Stable Diffusion 3, FLUX, Qwen-Image, PixArt, Sana, Z-Image and what comes after them.

A checkpoint is a folder as diffusers saves a pipeline, or a Hub repository id. The class comes from the folder; what its call takes, which
sizes it makes and how it is guided are found out from it (`generators/text_to_image/`). Each image has a random generator of its own, so
that a seed gives the same image alone and in every batch. Edits and inpainting use the pipeline's own image-to-image and inpainting
classes; where diffusers has none, denoising begins at the noised image (`generators/text_to_image/midway.py`).
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator

from generators import base, half
from generators.base import Generator, Result, StepKind
from generators.checkpoints import Checkpoint
from generators.diffusers_files import diffusers_folder
from generators.errors import CheckpointError, InputError
from generators.images import require_size, to_float, to_uint8
from generators.latent_noise import NAME, noise_field, require_reconstruction
from generators.memory import is_device_lost, is_out_of_memory
from generators.networks.diffusion.latents import images_at_once
from generators.quiet import libraries_quiet
from generators.registry import register
from generators.seeding import torch_rng
from generators.text_to_image.batches import STEPS, Companions
from generators.text_to_image.call import Call, Settings
from generators.text_to_image.folder import load_pipeline, sibling, with_parts_of
from generators.text_to_image.latents import denoiser_latents, reconstruct
from generators.text_to_image.memory import place
from generators.text_to_image.midway import can_begin_midway, continue_from
from generators.text_to_image.safety import FLAGGED, SafetyChecker
from generators.text_to_image.sizes import autoencoder_of, default_side, denoiser_of, grid_of, side_of
from generators.text_to_image.steps import require_steps

Safety = Literal["off", "reject", "auto"]


class UnfitError(InputError):
    """A class of diffusers cannot work with these networks: its inpainting knows certain numbers of channels alone, or looks for a setting
    that the family does not have."""


class TextToImageParameters(base.Parameters):
    """What all text-to-image generators take. None stands for the pipeline's own default."""

    true_cfg_scale: float | None = Field(None, ge=0, description="guidance of FLUX and Qwen-Image, which costs a second pass")
    max_sequence_length: int | None = Field(None, ge=1, le=8192, description="tokens of the text that are read")
    call: dict[str, Any] | None = Field(None, description="further arguments of the pipeline's call, by name")
    prompt: str = Field("", description="edit, inpaint: what all images are to show")
    strength: float = Field(
        0.5, ge=0, le=1, description="edit, inpaint: the part of the schedule that the noise reaches; 0 only encodes and decodes"
    )
    latent_noise: float = noise_field()
    later: ClassVar[frozenset[str]] = frozenset({NAME})
    _only_reconstructions = model_validator(mode="after")(require_reconstruction)

    @field_validator("safety", mode="before", check_fields=False)
    @classmethod
    def _yaml_has_booleans(cls, value: Any) -> Any:
        """YAML reads `off` as false."""
        return {False: "off", True: "reject"}.get(value, value) if isinstance(value, bool) else value


class TextToImageOptions(base.Options):
    """See `TextToImage.load`."""

    size: int | None = Field(None, ge=8)
    variant: str | None = None
    offload: str = "auto"


@register("text_to_image")
class TextToImage(Generator):
    title = "Text to image"
    family = "DM"
    kinds: tuple[StepKind, ...] = ("prompt", "edit", "inpaint")
    released_precision = "bfloat16"
    licence = "each checkpoint's own"
    reconstruction: ClassVar[dict[str, Any] | None] = {"strength": 0, "safety": "off"}
    batch_size = 4

    Options = TextToImageOptions

    class Parameters(TextToImageParameters):
        steps: int | None = Field(None, ge=1, le=1000, description="denoising steps; by default the pipeline's own number")
        guidance_scale: float | None = Field(
            None, ge=0, description="how far beyond the unguided prediction, or the network's input for it"
        )
        negative_prompt: str | None = Field(None, description="what to guide away from")
        safety: Safety = "auto"  # "auto" asks the checker that the pipeline came with, if any; what it flags goes to the ledger

    def __init__(self, pipeline: Any, safety: SafetyChecker | None, size: int | None, device: str | torch.device):
        """A pipeline that is on its device already, or has its parts moved there in their turn."""
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline
        self.safety = safety
        self.size = int(size or default_side(pipeline))
        self.device = torch.device(device)
        self.networks = tuple(f"pipeline.{name}" for name in ("unet", "transformer") if getattr(pipeline, name, None) is not None)
        if hasattr(getattr(pipeline, "vae", None), "decoder"):
            self.networks += ("pipeline.vae.decoder",)
        self._call = Call(pipeline)
        self._companions = Companions(pipeline)
        with libraries_quiet():
            self._editor, self._painter = sibling(pipeline, "Img2Img"), sibling(pipeline, "Inpaint")
        self.kinds = self._possible_kinds()
        if self.device.type == "cuda":  # where tensor cores are fast
            for part in (denoiser_of(pipeline), autoencoder_of(pipeline)):
                if isinstance(part, torch.nn.Module) and not hasattr(part, "_hf_hook"):
                    part.to(memory_format=torch.channels_last)

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> TextToImage:
        """Options: `size`, the side of the images in pixels, by default what the pipeline was trained for; `revision` and `variant` of the
        files; `offload` (`generators.text_to_image.memory.place`). Components `lora...`: see `generators.text_to_image.folder`."""
        folder = diffusers_folder(checkpoint)
        if folder is None:
            raise CheckpointError(f"{checkpoint.path} is no folder of a diffusers pipeline", "It should hold a model_index.json")
        pipeline = load_pipeline(folder, checkpoint, dtype)
        side = side_of(pipeline, checkpoint)
        with libraries_quiet():
            pipeline = place(pipeline, checkpoint, torch.device(device))
        return cls(pipeline, SafetyChecker.find(folder, device), side, device)

    @property
    def resolution(self) -> int:
        return self.size

    def _prompt(self, prompts: list[str], seeds: list[int], settings: Any) -> Result:
        def make(texts: list[str], own_seeds: list[int], asked: Any) -> np.ndarray:
            return self._made(self.pipeline, self._options(texts, own_seeds, asked))

        few = settings.model_copy(update={"steps": STEPS})
        images = np.empty((len(seeds), self.size, self.size, 3), np.uint8)
        with half.watching(False):  # the images of a trial are nobody's
            groups = self._companions.groups(prompts, partial(make, asked=few))
        with half.reordered([row for rows in groups for row in rows]):
            for rows in groups:
                images[rows] = make([prompts[row] for row in rows], [seeds[row] for row in rows], settings)
        return self._checked(images, settings)

    def _edit(self, images: np.ndarray, seeds: list[int], settings: Any) -> Result:
        options = self._options([settings.prompt] * len(seeds), seeds, settings)
        require_size(images, self.size, self.name)
        if settings.strength == 0:
            return self._checked(self._reconstructed(images, seeds, settings), settings)
        if self._editor is not None:
            inputs = {"image": to_float(images, 0.0, 1.0, self.device)}
            try:
                return self._checked(self._reworked(self._editor, inputs, options, settings), settings)
            except UnfitError:
                if not can_begin_midway(self.pipeline):
                    raise
                self._editor = None
                options = self._options([settings.prompt] * len(seeds), seeds, settings)  # with generators that have drawn nothing
        return self._checked(self._continued(images, None, options, settings), settings)

    def _inpaint(self, images: np.ndarray, masks: np.ndarray, seeds: list[int], settings: Any) -> Result:
        options = self._options([settings.prompt] * len(seeds), seeds, settings)
        require_size(images, self.size, self.name)
        if settings.strength == 0:
            return self._checked(self._reconstructed(images, seeds, settings), settings)
        if self._painter is not None:
            inside = torch.from_numpy(masks[:, None].astype(np.float32)).to(self.device)
            inputs = {"image": to_float(images, 0.0, 1.0, self.device), "mask_image": inside}
            try:
                return self._checked(self._reworked(self._painter, inputs, options, settings), settings)
            except UnfitError:
                if not can_begin_midway(self.pipeline):
                    raise
                self._painter = None
                options = self._options([settings.prompt] * len(seeds), seeds, settings)  # with generators that have drawn nothing
        return self._checked(self._continued(images, masks, options, settings), settings)

    def _reconstructed(self, images: np.ndarray, seeds: list[int], settings: Any) -> np.ndarray:
        return reconstruct(autoencoder_of(self.pipeline), images, self.device, settings.latent_noise, seeds)

    def _possible_kinds(self) -> tuple[StepKind, ...]:
        """What this pipeline can do of what the class can. One whose denoiser takes the mask too can only paint inside it."""
        if self._only_paints():
            takes = getattr(denoiser_of(self.pipeline), "config", {}).get("in_channels")
            self.limit = f"its denoiser takes {takes} channels, the mask among them: an inpainting model"
            return ("inpaint",)
        midway = can_begin_midway(self.pipeline)
        can = {"prompt": True, "edit": midway or self._editor is not None, "inpaint": midway or self._painter is not None}
        if not (can["edit"] and can["inpaint"]):
            self.limit = f"diffusers has no such class for {type(self.pipeline).__name__}, and denoising cannot begin in the middle"
        return tuple(kind for kind in type(self).kinds if can[kind])

    def _only_paints(self) -> bool:
        """Whether the denoiser takes a mask and the masked image beside the latents (4 + 1 + 4 channels). CheckpointError if it takes
        something else beside them."""
        unet, vae = getattr(self.pipeline, "unet", None), autoencoder_of(self.pipeline)
        if unet is None or vae is None or "latent_channels" not in vae.config:
            return self._call.takes("mask_image")
        takes, latents = unet.config.get("in_channels"), vae.config["latent_channels"]
        if takes not in (latents, 2 * latents + 1):
            raise CheckpointError(
                f"its UNet takes {takes} channels and its autoencoder gives {latents}: a model that needs a further image as input",
                "Name a text-to-image or an inpainting model",
            )
        return takes != latents

    def _options(self, prompts: list[str], seeds: list[int], settings: Any) -> dict[str, Any]:
        """What the pipelines from text and from images are both told of a batch. InputError for a setting that would be ignored."""
        if settings.safety == "reject" and self.safety is None:
            raise InputError(f"{self.name}: this pipeline has no safety checker", "Set `safety: off`")
        self._slice_decoding(len(seeds))
        wanted = Settings(**{name: getattr(settings, name) for name in Settings.__dataclass_fields__})
        options = self._call.options(self._call.without_ignored(wanted, settings.model_fields_set), len(seeds))
        require_steps(self.pipeline.scheduler, options.get("num_inference_steps", self._call.default("num_inference_steps")))
        return {"prompt": list(prompts), **options, "generator": [torch_rng(seed) for seed in seeds]}

    def _reworked(self, cls: Any, inputs: dict[str, Any], options: dict[str, Any], settings: Any) -> np.ndarray:
        """Images through the pipeline's class for images, at least one step of it."""
        steps = options.get("num_inference_steps") or self._call.default("num_inference_steps") or 1
        pipeline = with_parts_of(self.pipeline, cls)
        known = Call(pipeline)
        inputs = {**inputs, "strength": max(settings.strength, 1 / steps), "num_inference_steps": steps}
        kept = {name: value for name, value in options.items() if known.takes(name)}
        return self._made(pipeline, {**kept, **inputs})

    def _continued(self, images: np.ndarray, masks: np.ndarray | None, options: dict[str, Any], settings: Any) -> np.ndarray:
        """Images noised and denoised by the text-to-image pipeline itself, inside the masks alone if there are any."""
        with libraries_quiet():
            latents = denoiser_latents(self.pipeline, to_float(images, device=self.device), options["generator"])
        inside = None
        if masks is not None:
            pixels = torch.from_numpy(masks[:, None].astype(np.float32)).to(latents.device)
            inside = torch.nn.functional.interpolate(pixels, latents.shape[2:], mode="area").gt(0).to(latents.dtype)
        return self._made(self.pipeline, options, lambda whole: continue_from(self.pipeline, latents, settings.strength, whole, inside))

    def _made(self, pipeline: Any, options: dict[str, Any], call: Any = None) -> np.ndarray:
        """The images of a call, of the asked size. InputError if the pipeline refuses the call or makes another size."""
        known = Call(pipeline)
        sizes = {name: self.size for name in ("height", "width") if known.takes(name)}
        whole = {**options, "output_type": known.output_type, **sizes}
        try:
            with libraries_quiet():
                output = call(whole) if call else pipeline(**whole)
        except InputError:
            raise
        except (NameError, ImportError) as error:  # diffusers leaves out the import of a package that is not there
            missing = getattr(error, "name", None) or str(error)
            raise InputError(f"{type(pipeline).__name__} needs a package that is not here ({missing})", "Install it") from error
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, RuntimeError) as error:
            if is_out_of_memory(error) or is_device_lost(error):
                raise
            reason = str(error).strip().split("\n", 1)[0]
            unfit = "channels" in reason or (isinstance(error, (AttributeError, KeyError)) and pipeline is not self.pipeline)
            fix = "Change the parameters of the step, or give the argument that it speaks of under `call`"
            raise (UnfitError if unfit else InputError)(f"{type(pipeline).__name__} refuses the call ({reason})", fix) from error
        pixels = torch.as_tensor(output.images)
        pixels = pixels.movedim(-1, -3) if isinstance(output.images, np.ndarray) else pixels
        pixels = pixels.flatten(0, 1) if pixels.dim() == 5 else pixels
        if pixels.shape[2:] != (self.size, self.size):
            got = f"{pixels.shape[3]}x{pixels.shape[2]}"
            raise InputError(
                f"{type(pipeline).__name__} makes images of {got} pixels where {self.size}x{self.size} are asked for",
                f"Set the option `size` to a multiple of {grid_of(self.pipeline)} that it can make",
            )
        return to_uint8(pixels, 0.0, 1.0)

    def _checked(self, images: np.ndarray, settings: Any) -> Result:
        """The images, those rejected that the safety checker flags."""
        flagged = self.safety.flags(images) if self.safety is not None and settings.safety != "off" else []
        return Result(images, dict.fromkeys(flagged, FLAGGED))

    def _slice_decoding(self, count: int) -> None:
        """Lets the autoencoder work image by image where a whole batch would not fit in memory, and where `exact` asks for
        batches that do not depend on how much is free."""
        vae = autoencoder_of(self.pipeline)
        if getattr(vae, "use_slicing", None) is not None and "block_out_channels" in vae.config:  # all have the method, some refuse it
            enough = not self.exact and images_at_once(vae, self.size * self.size, self.device) >= count
            vae.disable_slicing() if enough else vae.enable_slicing()
