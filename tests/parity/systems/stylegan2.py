"""StyleGAN2 in NVIDIA's layout: the weights go through a pickle as the releases have it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import torch

from generators import registry
from generators.checkpoints import Checkpoint
from generators.images import to_uint8
from generators.seeding import legacy_randn
from tests.lookalikes import write_nvidia_pickle
from tests.parity.cases import Case


@torch.inference_mode()
def check(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        released = case.folder / "network.pkl"
        path = released if released.is_file() else _write(case, Path(folder) / "network.pkl")
        network = registry.get("stylegan2").load(Checkpoint(path)).network
    z = case.tensor("z")
    if "generate.py --seeds=" in case.facts["arrays"]["z"].get("note", ""):
        seed = int(case.facts["arrays"]["z"]["note"].rpartition("=")[2])
        assert np.array_equal(legacy_randn(seed, z.shape).astype(np.float32), z.numpy())
    inputs = [name for name in case.arrays if name.partition("_")[0] not in ("w", "ws", "img", "uint8")]
    c = next((case.tensor(name) for name in inputs if name != "z"), None)
    for name in case.facts["arrays"]:
        if name.startswith("uint8_"):
            _compare_grey_levels(case, name, _compute(network, name.replace("uint8_", "img_"), z, c))
        elif name not in inputs:
            case.compare(name, _compute(network, name, z, c))


def _write(case: Case, path: Path) -> Path:
    """The pickle of stylegan2-ada-pytorch, synthesis arguments in a dict of their own, or of stylegan3, where they are loose."""
    (name,) = case.facts["weights"]
    outer = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs")
    kwargs = {"img_channels": 3} | {key: value for key, value in case.config.items() if key in outer}
    inner = {key: value for key, value in case.config.items() if key not in outer}
    kwargs |= inner if case.facts.get("official_repo") == "stylegan3" else {"synthesis_kwargs": inner}
    write_nvidia_pickle(path, {"G_ema": ("Generator", case.weights(name), kwargs)})
    return path


def _compute(network: torch.nn.Module, name: str, z: torch.Tensor, c: torch.Tensor | None) -> torch.Tensor:
    """What an array's name says: `w`, `ws` or `img`, then the truncation (`psi07`), its `cutoff4`, and the noise."""
    kind, *parts = name.split("_")
    ws = network.mapping(z, c, **truncation(parts))
    if kind == "w":
        return ws[:, 0]
    if kind == "ws":
        return ws[:, :, :64]  # the first components are stored
    return network.synthesis(ws, noise_mode="none" if {"none", "zeronoise"} & set(parts) else "const")


def truncation(parts: list[str]) -> dict[str, float | int]:
    """`psi07` and `cutoff4` as the mapping network's arguments."""
    settings: dict[str, float | int] = {}
    for part in parts:
        if match := re.fullmatch(r"psi(\d)(\d*)", part):
            settings["truncation_psi"] = float(f"{match[1]}.{match[2] or 0}")
        elif match := re.fullmatch(r"cutoff(\d+)", part):
            settings["truncation_cutoff"] = int(match[1])
    return settings


def _compare_grey_levels(case: Case, name: str, images: torch.Tensor) -> None:
    """The stored levels are those of an image within the tolerance for floats: a value at the border of two levels may fall on either."""
    tolerance = case.tolerance(name.replace("uint8_", "img_"))
    low, high = (to_uint8(images + off, rounding="half_up") for off in (-tolerance, tolerance))
    stored = case.arrays[name]
    assert np.all((low <= stored) & (stored <= high)), f"{case.id} {name}: {np.sum((stored < low) | (stored > high))} values differ"
