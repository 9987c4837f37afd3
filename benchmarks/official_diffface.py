"""One guided step of hxngiee/DiffFace, as its own code computes it: `p_sample` with the guidance and the blending of `ImageEditor`.

The repository runs on a GPU alone, reads four checkpoints while it is imported, and builds its guidance inside the function that walks
over a folder of pictures. So that function is run with networks of random weights until it asks for the first sample, and what it hands
over then is what a step consists of. The step lies outside the gaze term's range, whose landmarks need a further network.
"""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torch.utils.model_zoo
from torch import nn

from benchmarks.official_clones import enter, frozen, stand_in
from generators.networks.faces.arcface import ArcFace  # theirs cannot be built, only unpickled; this one is not folded

STEP = 60  # of 100, of which 75 are walked; from 49 on the official code looks at the gaze too


def step(folder: Path, batch: int, width: int = 256) -> Callable[[], Any]:
    """Float32 on the CPU; `width` is the channels of the UNet's first level. `batch` must be 1: more the official code does not support."""
    if batch != 1:
        raise SystemExit("The official DiffFace works on one image at a time: give --batch 1")
    enter(folder, "hxngiee+DiffFace")
    _stand_ins()
    with _without_gpu_and_files():
        from models.guided_diffusion import gaussian_diffusion, script_util
        from optimization import image_editor
        from utils.metrics_accumulator import MetricsAccumulator

        settings = script_util.model_and_diffusion_defaults()
        settings |= {"image_size": 256, "num_channels": width, "num_res_blocks": 2, "num_head_channels": 64, "resblock_updown": True}
        settings |= {"attention_resolutions": "32, 16, 8", "learn_sigma": True, "use_scale_shift_norm": True, "class_cond": False}
        settings |= {"diffusion_steps": 1000, "timestep_respacing": "100", "rescale_timesteps": True, "use_fp16": False}
        settings["noise_schedule"] = "linear"
        gaussian_diffusion.torch = types.SimpleNamespace(load=lambda path: {"model": types.SimpleNamespace(module=nn.Identity())})
        model, diffusion = script_util.create_model_and_diffusion(**settings)
        gaussian_diffusion.torch = torch
        parser = image_editor.BiSeNet(n_classes=19)
        norm = image_editor.SpecificNorm()
    frozen(model)
    for name, weights in model.named_parameters():  # their attention cannot be differentiated otherwise
        weights.requires_grad_(any(part in name for part in ("qkv", "norm", "proj")))
    editor = object.__new__(image_editor.ImageEditor)
    names = {"batch_size": 1, "skip_timesteps": 25, "iterations_num": 1, "masking_threshold": 30, "ddim": False, "enforce_background": True}
    editor.args = types.SimpleNamespace(**names, aug_num=8, output_path=".", output_file="output.png")
    editor.device, editor.model, editor.model_config = torch.device("cpu"), model, settings
    editor.netArc, editor.netSeg, editor.spNorm, editor.fa = ArcFace().eval(), parser.eval(), norm, None
    editor.image_augmentations, editor.metrics_accumulator = image_editor.ImageAugmentations(112, 8), MetricsAccumulator()
    handed: dict[str, Any] = {}
    editor.diffusion = _Handing(diffusion, handed)
    images = torch.rand(2, 1, 3, 256, 256)
    image_editor.VGGDataset = lambda path, img_size: [path]
    image_editor.DataLoader = lambda dataset, **rest: [images[0] if "src" in dataset[0] else images[1]]
    image_editor.os = types.SimpleNamespace(makedirs=lambda *names, **rest: None)
    editor.edit_image_by_prompt()

    noisy, timestep = torch.randn(1, 3, 256, 256), torch.tensor([STEP])

    @torch.no_grad()
    def make() -> Any:
        asked = {"clip_denoised": False, "cond_fn": handed["cond_fn"], "model_kwargs": {}}
        out = diffusion.p_sample(model, noisy, timestep, handed["img_id"], **asked)
        return handed["postprocess_fn"](out, timestep)["sample"].numpy()

    return make


class _Handing:
    """The diffusion, which keeps what it is asked to sample with, and samples nothing."""

    def __init__(self, diffusion: Any, handed: dict[str, Any]):
        self._diffusion, self._handed = diffusion, handed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._diffusion, name)

    def p_sample_loop_progressive(self, *sizes: Any, **asked: Any) -> list[Any]:
        self._handed.update(asked)
        return []


def _stand_ins() -> None:
    """Of torchvision and kornia what a step calls; of what only draws and reports, a name."""
    resize = {"mode": "bilinear", "align_corners": False}
    transforms = {
        "Resize": lambda size: lambda images: F.interpolate(images, size, **resize),
        "Normalize": lambda mean, std: lambda images: (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1),
        "Compose": list,
        "ToTensor": list,
    }
    stand_in("torchvision")
    stand_in("torchvision.transforms", **transforms)
    stand_in("torchvision.transforms.functional", to_tensor=None, to_pil_image=lambda image: image)
    stand_in("torchvision.utils", save_image=None, make_grid=None)
    stand_in("kornia")
    stand_in("kornia.augmentation", RandomAffine=_Warp, RandomPerspective=_Warp)
    for name in ("lpips", "face_alignment"):
        stand_in(name)
    importlib.import_module("utils")
    stand_in("utils.visualization", show_tensor_image=None, show_editied_masked_image=None)
    importlib.import_module("models.gaze_estimation")
    stand_in("models.gaze_estimation.gaze_estimator", Gaze_estimator=None)


class _Warp(nn.Module):
    """A warp of each picture by a random affine map, which costs what kornia's warps cost."""

    def __init__(self, *amounts: Any, **rest: Any):
        super().__init__()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.eye(2, 3) + 0.1 * torch.randn(len(images), 2, 3)
        return F.grid_sample(images, F.affine_grid(maps, list(images.shape), align_corners=False), align_corners=False)


@contextmanager
def _without_gpu_and_files() -> Iterator[None]:
    """While networks are built, nothing goes to a GPU and no backbone is fetched."""
    patched = [(nn.Module, "cuda"), (nn.Module, "to"), (torch.Tensor, "cuda"), (torch.utils.model_zoo, "load_url")]
    before = [getattr(owner, name) for owner, name in patched]
    for owner, name in patched[:3]:
        setattr(owner, name, lambda self, *place, **rest: self)
    torch.utils.model_zoo.load_url = lambda url: {}
    try:
        yield
    finally:
        for (owner, name), value in zip(patched, before, strict=True):
            setattr(owner, name, value)
