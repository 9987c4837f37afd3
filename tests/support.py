"""Small checkpoints with random weights, in the forms that real ones have, and a manifest that uses them. For the mechanics only: what
they make is noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from generators.checkpoints import write_safetensors

STYLEGAN2_CONFIG = {
    "z_dim": 16,
    "c_dim": 0,
    "w_dim": 16,
    "img_resolution": 32,
    "mapping_kwargs": {"num_layers": 2},
    "channel_base": 256,
    "channel_max": 16,
}


def stylegan2_checkpoint(path: Path, seed: int = 0) -> Path:
    """A StyleGAN2 with a few thousand weights, under NVIDIA's names."""
    from generators.networks.gan.stylegan2 import Generator

    torch.manual_seed(seed)
    write_safetensors(path, Generator(**STYLEGAN2_CONFIG).state_dict(), STYLEGAN2_CONFIG)
    return path


def ddpm_checkpoint(path: Path, seed: int = 0) -> Path:
    """A diffusers UNet with a few thousand weights and its scheduler's configuration, for DDPM, DDIM and PNDM."""
    from diffusers import DDPMScheduler, UNet2DModel

    torch.manual_seed(seed)
    unet = UNet2DModel(
        sample_size=32,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    config = {"unet": dict(unet.config), "scheduler": dict(DDPMScheduler().config)}
    write_safetensors(
        path, {f"unet.{name}": value for name, value in unet.state_dict().items()}, json.loads(json.dumps(config, default=str))
    )
    return path


def simswap_checkpoint(path: Path, seed: int = 0) -> Path:
    """A SimSwap for aligned 32 px images with its identity network in the same file."""
    from generators.networks.faces.arcface import ArcFace
    from generators.networks.faces.simswap import SimSwapGenerator

    torch.manual_seed(seed)
    generator = SimSwapGenerator((8, 16, 16), 32, 1)
    for parameter in generator.parameters():
        parameter.data *= 3  # fresh weights give a nearly flat picture, which a build rejects as blank
    arcface = ArcFace((1, 1, 1, 1), False, (8, 8, 16, 16), 32, 32)
    tensors = {f"generator.{name}": value for name, value in generator.state_dict().items()}
    tensors |= {f"arcface.{name}": value for name, value in arcface.state_dict().items()}
    write_safetensors(path, tensors, {"size": 32, "crop": "aligned", "arcface_input_size": 32})
    return path


def vqgan_checkpoint(path: Path) -> Path:
    """A VQGAN for 8 px images with its transformer."""
    from tests.generators.methods.test_vqgan import tensors

    write_safetensors(path, tensors(), {"n_head": 2, "sos_token": 3})
    return path


def projected_gan_checkpoint(path: Path) -> Path:
    """A 64 px ProjectedGAN as a state dict under the official names; its checkpoint needs the option `img_resolution: 64`."""
    from tests.generators.methods.test_projected_gan import official

    torch.save({"G_ema": official().state_dict()}, path)
    return path


def diffface_checkpoints(folder: Path) -> dict[str, dict[str, Any]]:
    """A DiffFace for aligned 32 px images with its three components, as entries of a manifest's `checkpoints`."""
    from generators.networks.faces.arcface import ArcFace
    from generators.networks.faces.gaze import GazeNet
    from tests.parity.cases import HERE, Case

    folder.mkdir(parents=True, exist_ok=True)
    cases = HERE / "cases" / "diffface"
    torch.manual_seed(0)
    torch.save(Case(cases / "tiny32").weights("model"), folder / "Model.pt")
    torch.save({"model": ArcFace((1, 1, 1, 1), widths=(8, 8, 8, 8), input_size=32).state_dict()}, folder / "Arcface.tar")
    torch.save(Case(cases / "guidance_and_loop_tiny32").weights("netSeg"), folder / "FaceParser.pth")
    torch.save({"nstack": 1, "model_state_dict": GazeNet(1, 8, 4).state_dict()}, folder / "GazeEstimator.pt")
    options = {"num_head_channels": 16, "image_size": 32, "crop": "aligned"}
    parts = {"arcface": "diffface-arcface-32", "face_parser": "diffface-parser-32", "gaze": "diffface-gaze-32"}
    return {
        "diffface": {
            "generators": ["diffface"],
            "file": str(folder / "Model.pt"),
            "licence": "test",
            "options": options,
            "components": parts,
        },
        parts["arcface"]: {"file": str(folder / "Arcface.tar"), "licence": "test", "options": {"input_size": 32}},
        parts["face_parser"]: {"file": str(folder / "FaceParser.pth"), "licence": "test"},
        parts["gaze"]: {"file": str(folder / "GazeEstimator.pt"), "licence": "test"},
    }


def six_chains(folder: Path, count: int = 2) -> dict[str, Any]:
    """A manifest, as data, with the paper's six chains from small checkpoints that are written to `folder`."""
    from tests.generators.methods.tiny_diffusion import latent_pipeline

    entries = {
        "sg2": {"generators": ["stylegan2"], "file": str(stylegan2_checkpoint(folder / "sg2.safetensors"))},
        "vq": {"generators": ["vqgan"], "file": str(vqgan_checkpoint(folder / "vq.safetensors"))},
        "proj": {
            "generators": ["projected_gan"],
            "file": str(projected_gan_checkpoint(folder / "proj.pth")),
            "options": {"img_resolution": 64},
        },
        "ldm": {"generators": ["ldm"], "file": str(latent_pipeline(folder / "ldm"))},
        "swap": {"generators": ["simswap"], "file": str(simswap_checkpoint(folder / "swap.safetensors"))},
    }
    checkpoints = {name: {**entry, "licence": "test"} for name, entry in entries.items()} | diffface_checkpoints(folder / "diffface")
    first = {
        "Style2": {"sample": "stylegan2", "checkpoint": "sg2"},
        "VQ": {"sample": "vqgan", "checkpoint": "vq"},
        "Proj": {"sample": "projected_gan", "checkpoint": "proj"},
        "LDM": {"sample": "ldm", "checkpoint": "ldm", "steps": 2},
    }
    short = {"steps": 4, "skip": 2, "masking_threshold": 1, "candidates": 1, "parsing": 0, "gaze": 0}
    swaps = {
        "SimSwap": {"swap": "simswap", "checkpoint": "swap", "source": "faces"},
        "DiffFace": {"swap": "diffface", "checkpoint": "diffface", "source": "faces", **short},
    }
    names = ("SimSwap_Style2", "SimSwap_VQ", "SimSwap_LDM", "DiffFace_Style2", "DiffFace_Proj", "DiffFace_LDM")
    chains = {name: [first[name.split("_")[1]], swaps[name.split("_")[0]]] for name in names}
    subsets = {name: {"count": count, "real": "faces", "chain": chain} for name, chain in chains.items()}
    return _manifest("chains", 2, checkpoints, subsets)


def checkpoint_folder(folder: Path) -> Path:
    """A folder with one small checkpoint of each of the methods above."""
    stylegan2_checkpoint(folder / "stylegan2.safetensors")
    ddpm_checkpoint(folder / "ddpm.safetensors")
    simswap_checkpoint(folder / "simswap.safetensors")
    return folder


def small_manifest(checkpoints: Path) -> dict[str, Any]:
    """A manifest, as data, with a GAN, a diffusion model and a chain, of a few images each."""
    return _manifest(
        "tiny",
        4,
        checkpoints={
            "sg2": {"generators": ["stylegan2"], "file": str(checkpoints / "stylegan2.safetensors"), "licence": "test"},
            "unet": {"generators": ["ddpm", "ddim", "pndm"], "file": str(checkpoints / "ddpm.safetensors"), "licence": "test"},
            "swap": {"generators": ["simswap"], "file": str(checkpoints / "simswap.safetensors"), "licence": "test"},
        },
        subsets={
            "StyleGAN2": {"count": 10, "real": "faces", "chain": [{"sample": "stylegan2", "checkpoint": "sg2"}]},
            "DDIM": {"count": 6, "real": "faces", "chain": [{"sample": "ddim", "checkpoint": "unet", "steps": 2}]},
            "SimSwap_Style2": {
                "count": 6,
                "real": "faces",
                "chain": [{"sample": "stylegan2", "checkpoint": "sg2"}, {"swap": "simswap", "checkpoint": "swap", "source": "faces"}],
            },
        },
    )


def _manifest(dataset: str, shard_size: int, checkpoints: dict[str, Any], subsets: dict[str, Any]) -> dict[str, Any]:
    """A manifest of 32 px images over forty of the packaged faces."""
    return {
        "dataset": dataset,
        "size": 32,
        "shard_size": shard_size,
        "splits": {"train": 0.5, "validation": 0.2},
        "reals": {"faces": {"package": "faces", "licence": "test", "count": 40}},
        "checkpoints": checkpoints,
        "subsets": subsets,
    }


def write_manifest(path: Path, data: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path
