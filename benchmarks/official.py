"""The authors' own networks, for the comparison that `benchmarks/generators.py --official FOLDER` makes.

Their code is not part of this project: FOLDER holds clones of their repositories under the names of their owners and repositories
(`NVlabs+stylegan3`). Each function takes FOLDER and a batch size and returns a function that makes one batch, float32 on the CPU, from
drawing the latents or from `uint8` faces to `uint8` images. Where a repository wants a package that its networks do not use, or that does
not exist any more, a module of that name takes its place for this process.
"""

from __future__ import annotations

import importlib
import importlib.util
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.official_clones import enter, frozen, stand_in
from benchmarks.official_diffface import step

Batch = Callable[[], Any]
Build = Callable[[Path, int], Batch]


def _stylegan2(resolution: int, channel_base: int) -> Build:
    def build(folder: Path, batch: int) -> Batch:
        enter(folder, "NVlabs+stylegan3")
        # gone from setuptools; they compare versions with it
        stand_in("pkg_resources", parse_version=lambda text: tuple(int(part) for part in text.partition("+")[0].split(".")[:2]))
        from training.networks_stylegan2 import Generator

        sizes = {"z_dim": 512, "c_dim": 0, "w_dim": 512, "img_resolution": resolution, "img_channels": 3}
        network = frozen(Generator(**sizes, channel_base=channel_base, conv_clamp=256))
        return lambda: _picture(network(torch.randn(batch, 512), None, noise_mode="const"))

    return build


def _progan_genforce(resolution: int) -> Build:
    """The conversion of the authors' TensorFlow weights."""

    def build(folder: Path, batch: int) -> Batch:
        file = enter(folder, "genforce+genforce") / "models" / "pggan_generator.py"  # the package around it imports torchvision
        network = frozen(_module(file).PGGANGenerator(resolution=resolution))
        return lambda: _picture(network(torch.randn(batch, 512))["image"])

    return build


def progan_zoo_256(folder: Path, batch: int) -> Batch:
    """The training of pytorch_GAN_zoo, whose CelebA-HQ releases are of 256 and 512 px."""
    enter(folder, "facebookresearch+pytorch_GAN_zoo")
    from models.networks.progressive_conv_net import GNet

    network = GNet(512, 512)
    for depth in (512, 512, 512, 256, 128, 64):
        network.addScale(depth)
    frozen(network)
    return lambda: _picture(network(torch.randn(batch, 512)))


def _fastgan(lite: bool) -> Build:
    def build(folder: Path, batch: int) -> Batch:
        enter(folder, "autonomousvision+projected-gan")
        from pg_modules.networks_fastgan import Generator

        network = frozen(Generator(z_dim=256, img_resolution=256, ngf=128, synthesis_kwargs={"lite": lite}))
        return lambda: _picture(network(torch.randn(batch, 256), None))

    return build


def vqgan(folder: Path, batch: int) -> Batch:
    """What `scripts/sample_fast.py` does without classes: 256 codes with a cache, then the decoder."""
    enter(folder, "CompVis+taming-transformers")
    stand_in("einops", rearrange=None)
    import transformers

    transformers.top_k_top_p_filtering = _filtered  # gone from transformers
    from taming.modules.diffusionmodules.model import Decoder
    from taming.modules.transformer.mingpt import GPT, sample_with_past
    from taming.modules.vqvae.quantize import VectorQuantizer2

    with torch.device("meta"):  # filled below, in a quarter of the time that their initialisation takes
        transformer = GPT(vocab_size=1024, block_size=256, n_layer=24, n_head=16, n_embd=1664)
    transformer.to_empty(device="cpu")
    for weights in transformer.parameters():
        weights.data.uniform_(-0.03, 0.03)
    for mask in transformer.buffers():
        mask.copy_(torch.ones_like(mask).tril())
    quantize = VectorQuantizer2(1024, 256, beta=0.25)
    sizes = {"ch": 128, "out_ch": 3, "ch_mult": (1, 1, 2, 2, 4), "num_res_blocks": 2, "attn_resolutions": [16], "z_channels": 256}
    decoder = Decoder(**sizes, in_channels=3, resolution=256, double_z=False)
    decode = nn.Sequential(nn.Conv2d(256, 256, 1), decoder)
    for network in (transformer, quantize, decode):
        frozen(network)

    def make() -> Any:
        start = torch.zeros(batch, 1, dtype=torch.long)
        codes = sample_with_past(start, transformer, steps=256, temperature=1.0, top_k=250, top_p=1.0)
        pixels = decode(quantize.get_codebook_entry(codes.reshape(-1), shape=(batch, 16, 16, 256)))
        return [(255 * (image.numpy().transpose(1, 2, 0) + 1) / 2).clip(0, 255).astype(np.uint8) for image in pixels]

    return make


def _simswap(file: str, size: int) -> Build:
    """What `test_one_image.py` does, from both aligned faces to the swapped one."""

    def build(folder: Path, batch: int) -> Batch:
        enter(folder, "neuralchen+SimSwap")
        from models import arcface_models

        # used in that file and missing from it
        arcface_models.conv3x3 = lambda before, after, stride=1: nn.Conv2d(before, after, 3, stride, 1, bias=False)
        arcface = frozen(arcface_models.ResNet(arcface_models.IRBlock, [3, 4, 23, 3], use_se=False))
        generator = importlib.import_module(f"models.{file}").Generator_Adain_Upsample
        network = frozen(generator(input_nc=3, output_nc=3, latent_size=512, n_blocks=9, deep=False))
        faces = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
        mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

        def make() -> Any:
            pixels = torch.from_numpy(faces).permute(0, 3, 1, 2).contiguous().float() / 255
            identity = arcface(F.interpolate((pixels - mean) / std, size=(112, 112)))
            swapped = network(pixels, F.normalize(identity))
            return (swapped.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)

        return make

    return build


def diffface_step(folder: Path, batch: int) -> Batch:
    return step(folder, batch)


def diffface_half_step(folder: Path, batch: int) -> Batch:
    return step(folder, batch, width=128)


def _module(file: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _picture(pixels: torch.Tensor) -> np.ndarray:
    return (pixels.permute(0, 2, 3, 1) * 127.5 + 128).clamp(0, 255).to(torch.uint8).numpy()


def _filtered(logits: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    """All but the `top_k` largest made impossible; `top_p` is 1 in the official sampling."""
    return logits.masked_fill(logits < logits.topk(top_k).values[..., -1:], -torch.inf)


stylegan2_256 = _stylegan2(256, 32768)
stylegan2_256_paper256 = _stylegan2(256, 16384)
stylegan2_1024 = _stylegan2(1024, 32768)
progan_256 = _progan_genforce(256)
progan_1024 = _progan_genforce(1024)
fastgan_256 = _fastgan(lite=False)
fastgan_lite_256 = _fastgan(lite=True)
simswap_224 = _simswap("fs_networks", 224)
simswap_512 = _simswap("fs_networks_512", 512)
