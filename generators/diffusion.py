"""What DDPM, DDIM, PNDM and LDM share: a diffusers UNet that predicts noise, and a loop that takes the noise away.

A checkpoint is one of three things. A folder as diffusers saves a pipeline (or a Hub repository id, which becomes such a folder); one
safetensors file with the configuration of every part in its header, {"unet": {...}, "scheduler": {...}}, and tensors under `unet.`; or the
state dict of an original repository, which the method translates itself.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from generators.base import Generator, StepKind
from generators.checkpoints import Checkpoint, Contents
from generators.errors import CheckpointError, InputError
from generators.images import to_float, to_uint8
from generators.networks.state import load_exactly
from generators.seeding import torch_rng

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # x and t to the noise in x
DECODER_MAPS = 8  # maps of full size and up to twice its first width that a decoder holds at its widest, with room to spare
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow makes grey from RGB


def diffusers_folder(checkpoint: Checkpoint) -> Path | None:
    """The local folder of a diffusers pipeline that `checkpoint.path` names, or None if it names a file.

    A path that is not on this disk and reads `owner/name` is a Hub repository id; its files come from the Hub's cache or from the network.
    Raises CheckpointError if that cannot be had.
    """
    if checkpoint.path.is_dir():
        return checkpoint.path
    if checkpoint.path.exists() or checkpoint.path.is_absolute() or len(checkpoint.path.parts) != 2 or checkpoint.path.suffix:
        return None
    from diffusers import DiffusionPipeline

    repository = checkpoint.path.as_posix()
    try:
        return Path(DiffusionPipeline.download(repository, revision=checkpoint.option("revision"), trust_remote_code=False))
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise CheckpointError(
            f"{repository} is neither on this disk nor to be had from the Hub ({reason})",
            f"Go online, or fetch it with `hf download {repository}` and give its folder",
        ) from None


def load_part(folder: Path, name: str, cls: Any, **overrides: Any) -> Any:
    """A part of a saved pipeline (`unet`, `vqvae`) from its own sub-folder, or from `folder` itself, where older repositories keep it."""
    place = folder / name if (folder / name).is_dir() else folder
    try:
        return cls.from_pretrained(place, local_files_only=True, **overrides)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise CheckpointError(f"{place} holds no {cls.__name__} ({reason})", "Save the pipeline again with `save_pretrained`") from None


def build_part(contents: Contents, name: str, cls: Any, path: Path) -> Any:
    """A part of a single-file checkpoint: `cls` from the header's configuration, with the tensors under `name.`, cast to float32."""
    config = contents.config.get(name)
    if not isinstance(config, Mapping):
        raise CheckpointError(f"{path} has no configuration of its {name!r}", 'The header\'s "config" must hold one for each part')
    return load_exactly(cls.from_config(dict(config)), contents.under(f"{name}."), path.name)


def to_device(module: torch.nn.Module, device: str | torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """`module` for inference. On a GPU its convolutions run channels-last, which is where tensor cores are fast."""
    module = torch.nn.Module.to(module.eval().requires_grad_(False), device, dtype)  # diffusers' own `to` warns of every cast
    return module.to(memory_format=torch.channels_last) if torch.device(device).type == "cuda" else module


def decode_latents(autoencoder: Any, latents: torch.Tensor) -> torch.Tensor:
    """Images in [-1, 1], float32, of float32 latents as the UNet has them; as many at once as fit in memory."""
    scaled = (latents / autoencoder.config.scaling_factor).to(autoencoder.dtype)
    pixels = scaled.shape[2] * scaled.shape[3] * 4 ** (len(autoencoder.config.block_out_channels) - 1)
    at_once = images_at_once(autoencoder, pixels, scaled.device)
    return torch.cat([autoencoder.decode(part).sample.float() for part in scaled.split(at_once)])


def images_at_once(autoencoder: Any, pixels: int, device: torch.device) -> int:
    """How many images of `pixels` pixels the device's free memory lets `autoencoder` decode together; one on a CPU, where a batch gains
    nothing."""
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    element = torch.finfo(autoencoder.dtype).bits // 8
    return max(1, free // (DECODER_MAPS * 2 * autoencoder.config.block_out_channels[0] * pixels * element))


def original_timesteps(train_steps: int, steps: int) -> torch.Tensor:
    """Every (train_steps // steps)-th timestep, the last first, as the original repositories choose them. Where `steps` does not divide
    `train_steps` they are a few more than `steps`, which reach nearer to pure noise than those of diffusers."""
    return torch.arange(0, train_steps, train_steps // steps).flip(0)


def luminance(images: torch.Tensor) -> torch.Tensor:
    """`[N, 1, H, W]` of RGB float `[N, 3, H, W]`."""
    return torch.tensordot(images, torch.tensor(LUMA, device=images.device), dims=([1], [0])).unsqueeze(1)


def require_size(images: np.ndarray, size: int, name: str) -> None:
    """InputError if `images` are not `size` pixels a side: how to resize is the pipeline's choice, because it decides pixels."""
    if images.shape[1:3] != (size, size):
        raise InputError(f"{name} reworks images of {size}x{size} pixels, not {images.shape[2]}x{images.shape[1]}", "Resize them first")


class Denoiser(Generator):
    """A noise-predicting UNet and the configuration of its noise schedule. A method gives the scheduler and its settings."""

    family = "DM"
    kinds: tuple[StepKind, ...] = ("sample", "edit")
    networks: tuple[str, ...] = ("unet",)

    def __init__(self, unet: Any, schedule: Mapping[str, Any], device: str | torch.device, dtype: torch.dtype):
        self.unet = to_device(unet, device, dtype)
        self.schedule = dict(schedule)  # a diffusers scheduler configuration, of whatever class
        self.device = torch.device(device)
        self.dtype = dtype

    @property
    def resolution(self) -> int:
        return int(self.unet.config.sample_size)

    def step_count(self, settings: Any) -> int:
        return settings.steps

    @abstractmethod
    def scheduler(self, settings: Any) -> Any:
        """The diffusers scheduler of one request, its timesteps set."""

    def step_options(self, settings: Any, rngs: list[torch.Generator]) -> dict[str, Any]:
        """What this method's scheduler takes in `step` beside the prediction, the timestep and the sample."""
        return {"generator": rngs}

    def timesteps_from(self, scheduler: Any, count: int) -> torch.Tensor:
        """The timesteps of the last `count` steps, for an edit that begins there."""
        return scheduler.timesteps[len(scheduler.timesteps) - count :]

    def encode(self, images: torch.Tensor, rngs: list[torch.Generator]) -> torch.Tensor:
        """Images in [-1, 1], `[N, 3, H, W]`, to what the UNet denoises. For a one-channel network that is their luminance."""
        if self.unet.config.in_channels == 1:
            return luminance(images)
        return images

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """What the UNet denoised, to images in [-1, 1]."""
        return latents

    def draw(self, rngs: Sequence[torch.Generator]) -> torch.Tensor:
        """Standard normal float32 of the UNet's input shape, row i from `rngs[i]` alone."""
        size = self.unet.config.sample_size
        shape = (self.unet.config.in_channels, size, size)
        return torch.stack([torch.randn(shape, generator=rng) for rng in rngs]).to(self.device)

    def predict(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The noise in `x` at timestep `t`."""
        return self.network_output(x, t)[:, : x.shape[1]]

    def network_output(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the UNet says, float32, because the schedule's arithmetic is never done in half precision: the noise, and after it as many
        channels about its variance where the network has learnt that."""
        return self.unet(x.to(self.dtype), t).sample.float()

    def denoise(self, predict: Predict, x: torch.Tensor, scheduler: Any, timesteps: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        """`x` at `timesteps[0]`, denoised to the end. `options` go to every step of the scheduler."""
        for t in timesteps:
            x = scheduler.step(predict(x, t), t, x, **options).prev_sample
        return x

    def make(self, seeds: list[int], settings: Any, predict: Predict) -> np.ndarray:
        """Images from noise, with `predict` in the place of the bare network where there is a text to follow."""
        rngs = [torch_rng(seed) for seed in seeds]
        scheduler = self.scheduler(settings)
        x = self.draw(rngs) * scheduler.init_noise_sigma
        return to_uint8(self.decode(self.denoise(predict, x, scheduler, scheduler.timesteps, self.step_options(settings, rngs))))

    def rework(self, images: np.ndarray, seeds: list[int], settings: Any, predict: Predict) -> np.ndarray:
        """SDEdit (Meng et al. 2022, Algorithm 1): noise to `strength` of the schedule, then denoise. At 0 it only encodes and decodes."""
        require_size(images, self.resolution, self.name)
        rngs = [torch_rng(seed) for seed in seeds]
        start = self.encode(to_float(images, device=self.device), rngs)
        if settings.strength == 0:
            return to_uint8(self.decode(start))
        scheduler = self.scheduler(settings)
        timesteps = self.timesteps_from(scheduler, max(1, int(self.step_count(settings) * settings.strength)))
        x = scheduler.add_noise(start, self.draw(rngs), timesteps[:1].expand(len(seeds)))
        return to_uint8(self.decode(self.denoise(predict, x, scheduler, timesteps, self.step_options(settings, rngs))))

    def _sample(self, seeds: list[int], settings: Any) -> np.ndarray:
        return self.make(seeds, settings, self.predict)

    def _edit(self, images: np.ndarray, seeds: list[int], settings: Any) -> np.ndarray:
        return self.rework(images, seeds, settings, self.predict)
