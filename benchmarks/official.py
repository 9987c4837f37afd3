"""The authors' own networks, for the comparison that `benchmarks/generators.py --official FOLDER` makes.

Their code is not part of this project: FOLDER holds clones of their repositories under the names of their owners and repositories
(`NVlabs+stylegan3`). Each function takes FOLDER and a batch size and returns a function that makes one batch, float32 on the CPU.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Batch = Callable[[], Any]


def _stylegan2(resolution: int, channel_base: int) -> Callable[[Path, int], Batch]:
    def build(folder: Path, batch: int) -> Batch:
        sys.path.insert(0, str(_clone(folder, "NVlabs+stylegan3")))
        if "pkg_resources" not in sys.modules:  # gone from setuptools; they compare versions with it
            versions = types.ModuleType("pkg_resources")
            versions.parse_version = lambda text: tuple(int(part) for part in text.partition("+")[0].split(".")[:2])
            sys.modules["pkg_resources"] = versions
        from training.networks_stylegan2 import Generator

        network = Generator(
            z_dim=512, c_dim=0, w_dim=512, img_resolution=resolution, img_channels=3, channel_base=channel_base, conv_clamp=256
        )
        network.eval().requires_grad_(False)
        z = torch.randn(batch, 512)
        return lambda: (network(z, None, noise_mode="const").permute(0, 2, 3, 1) * 127.5 + 128).clamp(0, 255).to(torch.uint8).numpy()

    return build


def _clone(folder: Path, name: str) -> Path:
    if not (folder / name).is_dir():
        raise SystemExit(f"There is no {folder / name}. Clone https://github.com/{name.replace('+', '/')} there.")
    return folder / name


stylegan2_256 = _stylegan2(256, 32768)
stylegan2_256_paper256 = _stylegan2(256, 16384)
stylegan2_1024 = _stylegan2(1024, 32768)
