"""What the benchmark runs: each method at the sizes of its official releases, with random weights.

A new method is one more entry of `CONFIGURATIONS`. Its `make` builds the generator as `load` would; `network` names the calls that count as
time inside the network; where a whole image takes minutes, `parameters` ask for fewer steps and `times` says how many more the official
setting has. `benchmarks.networks` builds the diffusion models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks import networks
from generators import registry
from generators.base import EditRequest, Generator, PromptRequest, Request, SampleRequest, SwapRequest

Make = Callable[[torch.device, torch.dtype], Generator]
Turn = Callable[[Any, int], Callable[[], Any]]  # generator and number of images to what makes them


@dataclass(frozen=True)
class Configuration:
    method: str
    label: str  # what of the method: the size and the variant
    make: Make
    network: tuple[str, ...] = ("network.forward",)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    times: float = 1.0  # the official setting's steps over those that `parameters` ask for
    once_an_image: tuple[str, ...] = ()  # calls that do not grow with the steps
    official: str | None = None  # the function of `benchmarks.official` that builds the authors' network
    turn: Turn | None = None  # what is timed, if not a request
    needs_gradients: bool = False  # also inside the authors' code

    @property
    def name(self) -> str:
        return f"{self.method} {self.label}"

    def once(self, generator: Generator, count: int) -> Callable[[], Any]:
        """A function that makes `count` images."""
        if self.turn:
            return self.turn(generator, count)
        rng = np.random.default_rng(0)
        return lambda: generator.run(self.request(generator, count, rng), **self.parameters)

    def request(self, generator: Generator, count: int, rng: np.random.Generator) -> Request:
        """A request for `count` images of the generator's first kind. Where it takes images they are noise, and new each time: a generator
        may keep what it knows of a face, such as its identity."""
        seeds = range(count)
        size = 0 if generator.kinds[0] in ("sample", "prompt") else generator.resolution
        noise = rng.integers(0, 256, (count, size, size, 3), np.uint8)
        match generator.kinds[0]:
            case "sample":
                return SampleRequest(seeds)
            case "prompt":
                return PromptRequest(seeds, ["a photograph of a face"] * count)
            case "swap":
                return SwapRequest(seeds, noise, noise)
            case "edit":
                return EditRequest(seeds, noise)


def _stylegan2(method: str, resolution: int, channel_base: int) -> Make:
    def make(device: torch.device, dtype: torch.dtype) -> Generator:
        from generators.networks.gan.stylegan2 import Generator as Network

        config = {"z_dim": 512, "c_dim": 0, "w_dim": 512, "img_resolution": resolution, "channel_base": channel_base, "conv_clamp": 256}
        return registry.get(method)(Network(**config), device, dtype)

    return make


def _progan(size: str) -> Make:
    def make(device: torch.device, dtype: torch.dtype) -> Generator:
        from generators.networks.gan.progan import OFFICIAL_SIZES, ProGAN

        return registry.get("progan")(ProGAN(**OFFICIAL_SIZES[size]), device, dtype)

    return make


def _fastgan(size: str) -> Make:
    def make(device: torch.device, dtype: torch.dtype) -> Generator:
        from generators.networks.gan.fastgan import OFFICIAL_SIZES, FastGAN

        return registry.get("projected_gan")(FastGAN(**OFFICIAL_SIZES[size]), device, dtype)

    return make


def _vqgan(device: torch.device, dtype: torch.dtype) -> Generator:
    from generators.networks.vq.gpt import GPT
    from generators.networks.vq.vqgan import OFFICIAL_SIZES, FirstStage, FirstStageConfig

    sizes = OFFICIAL_SIZES["vqgan-256"]
    first_stage, transformer = FirstStage(FirstStageConfig(**sizes["first_stage"])), GPT(**sizes["transformer"])
    return registry.get("vqgan")(first_stage, transformer, resolution=256, sos_token=0, device=device, dtype=dtype)


def _simswap(form: str, size: int) -> Make:
    def make(device: torch.device, dtype: torch.dtype) -> Generator:
        from generators.base import Crop
        from generators.networks.faces.arcface import ArcFace
        from generators.networks.faces.simswap import CHANNELS, SimSwapGenerator

        network = SimSwapGenerator(CHANNELS[form], first_stage=0 if form == "fs_networks_512" else 1).eval()
        crop = Crop("ffhq" if size == 512 else "simswap", size)
        return registry.get("simswap")(network, ArcFace().eval(), form=form, crop=crop, device=device, dtype=dtype)

    return make


def _diffface(label: str, width: int, official: str) -> Configuration:
    calls = ("unet.forward", "guidance.losses")
    turn = {"turn": networks.diffface_step, "needs_gradients": True}
    return Configuration("diffface", label, networks.diffface(width), calls, times=300.0, official=official, **turn)


CONFIGURATIONS = [
    Configuration("stylegan2", "256 config-f", _stylegan2("stylegan2", 256, 32768), official="stylegan2_256"),
    Configuration("stylegan2", "256 paper256", _stylegan2("stylegan2", 256, 16384), official="stylegan2_256_paper256"),
    Configuration("stylegan2", "1024 config-f", _stylegan2("stylegan2", 1024, 32768), official="stylegan2_1024"),
    Configuration("diff_stylegan2", "1024 FFHQ", _stylegan2("diff_stylegan2", 1024, 32768)),
    Configuration("progan", "256", _progan("progan-celebahq-256"), official="progan_256"),
    Configuration("progan", "256 as pytorch_GAN_zoo", _progan("progan-celebahq-256"), official="progan_zoo_256"),
    Configuration("progan", "1024", _progan("progan-celebahq-1024"), official="progan_1024"),
    Configuration("projected_gan", "256 FastGAN", _fastgan("fastgan-256"), official="fastgan_256"),
    Configuration("projected_gan", "256 FastGAN-lite", _fastgan("fastgan-lite-256"), official="fastgan_lite_256"),
    Configuration("vqgan", "256", _vqgan, network=("transformer.forward", "first_stage.decode"), official="vqgan"),
    Configuration("simswap", "224", _simswap("fs_networks", 224), ("network.forward", "arcface.forward"), official="simswap_224"),
    Configuration("simswap", "512", _simswap("fs_networks_512", 512), ("network.forward", "arcface.forward"), official="simswap_512"),
    Configuration("inswapper", "128", networks.inswapper, ("session.run",)),
    Configuration("ddpm", "256, 1000 steps", networks.pixel_diffusion("ddpm"), ("unet.forward",), {"steps": 2}, 500.0),
    Configuration("ddim", "256, 50 steps", networks.pixel_diffusion("ddim"), ("unet.forward",), {"steps": 2}, 25.0),
    Configuration(
        "pndm", "256, 50 steps", networks.pixel_diffusion("pndm"), ("unet.forward",), {"steps": 2, "skip_prk_steps": True}, 51 / 3
    ),
    Configuration(
        "ldm", "256, 200 steps", networks.ldm, ("unet.forward", "first_stage.decode"), {"steps": 4}, 50.0, ("first_stage.decode",)
    ),
    Configuration(
        "stable_diffusion",
        "512, 50 steps",
        networks.stable_diffusion,
        ("pipeline.unet.forward", "pipeline.vae.decode", "pipeline.text_encoder.forward"),
        {"steps": 2, "safety": "off"},
        25.0,
        ("pipeline.vae.decode",),
    ),
    _diffface("256, 75 steps of 4 candidates", 256, "diffface_step"),
    _diffface("256, the same with half the channels", 128, "diffface_half_step"),  # both codes in 8 GiB instead of 24
]


def chosen(name: str) -> list[Configuration]:
    """The configuration of this name, or those whose name contains it. Ends the program with one line if there is none."""
    exact = [configuration for configuration in CONFIGURATIONS if name == configuration.name]
    found = exact or [configuration for configuration in CONFIGURATIONS if name in configuration.name]
    if not found:
        raise SystemExit(f"No configuration is called {name!r}. There are: {', '.join(known.name for known in CONFIGURATIONS)}")
    return found
