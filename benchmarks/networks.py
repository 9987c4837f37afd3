"""The diffusion models of the benchmark and INSwapper, at the sizes of their releases, with random weights."""

from __future__ import annotations

import string
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from generators import registry
from generators.base import Crop, Generator
from generators.checkpoints import Checkpoint

STEP = 60  # of DiffFace's 100: outside the range of the gaze term


def pixel_diffusion(method: str) -> Callable[[torch.device, torch.dtype], Generator]:
    """The UNet of google/ddpm-celebahq-256."""

    def make(device: torch.device, dtype: torch.dtype) -> Generator:
        from diffusers import UNet2DModel

        from generators.networks.diffusion.pixel_unet import HO_SCHEDULE

        down, up = ["DownBlock2D"] * 6, ["UpBlock2D"] * 6
        down[4], up[1] = "AttnDownBlock2D", "AttnUpBlock2D"
        unet = UNet2DModel(
            sample_size=256,
            block_out_channels=(128, 128, 256, 256, 512, 512),
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            attention_head_dim=None,
            downsample_padding=0,
            flip_sin_to_cos=False,
            freq_shift=1,
            norm_eps=1e-6,
        )
        return registry.get(method)(unet, HO_SCHEDULE, device, dtype)

    return make


def ldm(device: torch.device, dtype: torch.dtype) -> Generator:
    """CompVis/ldm-celebahq-256."""
    from diffusers import UNet2DModel, VQModel

    unet = UNet2DModel(
        sample_size=64,
        block_out_channels=(224, 448, 672, 896),
        down_block_types=("DownBlock2D", *["AttnDownBlock2D"] * 3),
        up_block_types=(*["AttnUpBlock2D"] * 3, "UpBlock2D"),
        attention_head_dim=32,
        norm_eps=1e-6,
    )
    vqvae = VQModel(
        block_out_channels=(128, 256, 512),
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=3,
        num_vq_embeddings=8192,
        vq_embed_dim=3,
        scaling_factor=1.0,
    )
    schedule = {
        "num_train_timesteps": 1000,
        "beta_start": 0.0015,
        "beta_end": 0.0195,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
    }
    return registry.get("ldm")(unet, vqvae, schedule, device, dtype)


def stable_diffusion(device: torch.device, dtype: torch.dtype) -> Generator:
    """Stable Diffusion v1 without its safety checker, and with letters for a vocabulary."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = string.ascii_lowercase
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = CLIPTokenizer({token: number for number, token in enumerate(tokens)}, [], model_max_length=77)
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            sample_size=512,
        ),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text, bos_token_id=0, eos_token_id=1, pad_token_id=1)),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        scheduler=PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return registry.get("stable_diffusion")(pipeline.to(device, dtype), None, 512, device)


def diffface(width: int = 256) -> Callable[[torch.device, torch.dtype], Generator]:
    """DiffFace, whose UNet has `width` channels at its first level: 256 in the release."""

    def make(device: torch.device, dtype: torch.dtype) -> Generator:
        from diffusers import UNet2DModel

        from generators.faces.guidance import FaceGuidance
        from generators.networks.faces.arcface import ArcFace
        from generators.networks.faces.bisenet import BiSeNet
        from generators.networks.faces.gaze import GazeNet

        down = ("ResnetDownsampleBlock2D",) * 3 + ("AttnDownBlock2D",) * 3
        unet = UNet2DModel(
            sample_size=256,
            out_channels=6,
            block_out_channels=tuple(width * factor for factor in (1, 1, 2, 2, 4, 4)),
            layers_per_block=2,
            down_block_types=down,
            up_block_types=tuple(name.replace("Down", "Up").replace("down", "up") for name in reversed(down)),
            downsample_type="resnet",
            upsample_type="resnet",
            attention_head_dim=64,
            attn_norm_num_groups=32,
            resnet_time_scale_shift="scale_shift",
            freq_shift=0,
            class_embed_type="identity",
        )
        id_embed = nn.Sequential(nn.Linear(512, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        guidance = FaceGuidance(ArcFace().to(device), BiSeNet().to(device), GazeNet(crop_statistics=True).to(device))
        return registry.get("diffface")(unet, id_embed, guidance, Crop("ffhq", 256), device, dtype)

    return make


def diffface_step(generator: Any, count: int) -> Callable[[], Any]:
    """One guided step of `count` candidates, blended with the target; what a pair needs once is not in it."""
    from generators.faces.guidance import Weights
    from generators.methods.diffface import mask_strength
    from generators.networks.diffusion.respaced import Respaced
    from generators.seeding import torch_rng

    schedule, rngs = Respaced(100), [torch_rng(seed) for seed in range(count)]
    images = torch.rand(2, count, 3, 256, 256, device=generator.device) * 2 - 1
    with torch.no_grad():
        scene = generator.guidance.prepare(images[0], images[1])
        embedded = generator.embed(scene.identities)

    def draw() -> torch.Tensor:
        return torch.stack([torch.randn(3, 256, 256, generator=rng) for rng in rngs]).to(generator.device)

    def guide(images: torch.Tensor, k: int) -> Iterator[torch.Tensor]:
        return (loss for _, loss in generator.guidance.parts(images, scene, Weights(), rngs, with_gaze=False))

    noisy = schedule.noised(scene.targets, STEP, draw())
    generator.fit_memory()  # as before each part of a batch

    def make() -> Any:
        x, _ = generator.step(noisy, STEP, embedded, schedule, draw, guide, ddim=False)
        soft = scene.masks * mask_strength(STEP, 75, 30)
        return x * soft + schedule.noised(scene.targets, STEP, draw()) * (1 - soft)

    return make


def inswapper(device: torch.device, dtype: torch.dtype) -> Generator:
    """A graph with the layers of inswapper_128.onnx: six blocks of 1024 channels at 32 px. The identity network that runs before it is left
    out: a mean over a grid takes its place."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    nodes: list[Any] = []
    weights: dict[str, np.ndarray] = {}

    def node(kind: str, *inputs: str, **settings: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [f"{kind}{len(nodes)}"], **settings))
        return nodes[-1].output[0]

    def weight(*shape: int) -> str:
        weights[f"weight{len(weights)}"] = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        return f"weight{len(weights) - 1}"

    def conv(x: str, before: int, after: int, side: int, stride: int = 1) -> str:
        return node("Conv", x, weight(after, before, side, side), kernel_shape=[side] * 2, strides=[stride] * 2, pads=[side // 2] * 4)

    x = node("LeakyRelu", conv("target", 3, 128, 7), alpha=0.2)
    for before, after, stride in ((128, 256, 1), (256, 512, 2), (512, 1024, 2)):
        x = node("LeakyRelu", conv(x, before, after, 3, stride), alpha=0.2)
    weights |= {"shape": np.array([-1, 1024, 1, 1]), "scales": np.array([1, 1, 2, 2], np.float32)}
    for _ in range(6):
        inner = x
        for last in (False, True):
            inner = node("InstanceNormalization", conv(inner, 1024, 1024, 3), weight(1024), weight(1024))
            inner = node("Mul", inner, node("Reshape", node("MatMul", "source", weight(512, 1024)), "shape"))
            inner = node("Add", inner, node("Reshape", node("MatMul", "source", weight(512, 1024)), "shape"))
            inner = inner if last else node("Relu", inner)
        x = node("Add", x, inner)
    for before, after, up in ((1024, 512, True), (512, 256, True), (256, 128, False)):
        x = node("Resize", x, "", "scales", mode="linear") if up else x
        x = node("LeakyRelu", conv(x, before, after, 3), alpha=0.2)
    nodes.append(helper.make_node("Tanh", [conv(x, 128, 3, 7)], ["output"]))
    pool = [helper.make_node("AveragePool", ["input"], ["grid"], kernel_shape=[7, 7], strides=[7, 7])]
    pool += [helper.make_node("Flatten", ["grid"], ["flat"]), helper.make_node("MatMul", ["flat", "weight0"], ["embedding"])]
    recognition = {"weight0": rng.standard_normal((768, 512)).astype(np.float32)}
    weights["emap"] = np.eye(512, dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        files = {
            "swapper.onnx": (nodes, weights, {"target": [1, 3, 128, 128], "source": [1, 512]}, {"output": [1, 3, 128, 128]}),
            "w600k_r50.onnx": (pool, recognition, {"input": ["batch", 3, 112, 112]}, {"embedding": ["batch", 512]}),
        }
        for name, (layers, arrays, *ends) in files.items():
            values = [[helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in end.items()] for end in ends]
            graph = helper.make_graph(layers, name, *values, [numpy_helper.from_array(array, key) for key, array in arrays.items()])
            save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), Path(folder) / name)
        identity = Checkpoint(Path(folder) / "w600k_r50.onnx")
        return registry.get("inswapper").load(Checkpoint(Path(folder) / "swapper.onnx", {}, {"identity": identity}), device)
