"""GANs whose images are no RGB pictures are refused by name when they are loaded, and leave nothing behind where they are added."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from generators import registry
from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError
from generators.networks.gan import progan, stylegan2
from generators.networks.vq.gpt import GPT
from generators.networks.vq.vqgan import FirstStage, FirstStageConfig
from pipelines.catalogue.catalogue import Catalogue
from pipelines.catalogue.registering import Registration, add_checkpoint
from tests.generators.methods.test_projected_gan import official

Tensors = dict[str, torch.Tensor]


def of_stylegan2(channels: int) -> Tensors:
    arguments = {"z_dim": 8, "c_dim": 0, "w_dim": 8, "img_resolution": 16, "channel_base": 64, "channel_max": 8}
    return dict(stylegan2.Generator(**arguments, img_channels=channels).state_dict())


def of_progan(channels: int) -> Tensors:
    return dict(progan.ProGAN(8, (8, 8), channels).state_dict())


def of_projected_gan(channels: int) -> Tensors:
    state = dict(official().state_dict())
    weight = state["synthesis.to_big.weight_orig"]
    state["synthesis.to_big.weight_orig"] = weight[torch.arange(channels) % len(weight)]
    state["synthesis.to_big.weight_u"], state["synthesis.to_big.bias"] = torch.ones(channels), torch.zeros(channels)
    return state


def of_vqgan(channels: int) -> Tensors:
    config = FirstStageConfig(32, (1, 1), 1, (1,), 8, 8, 16, out_ch=channels)
    parts = {"first_stage_model": FirstStage(config), "transformer": GPT(16, 16, 1, 2, 8)}
    return {f"{part}.{name}": value for part, network in parts.items() for name, value in network.state_dict().items()}


NETWORKS: dict[str, Callable[[int], Tensors]] = {
    "stylegan2": of_stylegan2,
    "diff_stylegan2": of_stylegan2,
    "progan": of_progan,
    "projected_gan": of_projected_gan,
    "vqgan": of_vqgan,
}


@pytest.mark.parametrize("method", NETWORKS)
def test_four_channels_are_refused_by_name(method: str, tmp_path: Path) -> None:
    options = {"n_head": 2} if method == "vqgan" else {}
    for channels in (3, 1):
        torch.save(NETWORKS[method](channels), tmp_path / "net.pt")
        assert registry.get(method).load(Checkpoint(tmp_path / "net.pt", options)).sample([0]).shape[-1] == 3
    torch.save(NETWORKS[method](4), tmp_path / "rgba.pt")
    with pytest.raises(CheckpointError, match=r"rgba\.pt makes images of 4 channels \(RGBA\)"):
        registry.get(method).load(Checkpoint(tmp_path / "rgba.pt", options))
    registration = Registration(name="x", generator=method, licence="MIT", options=options)
    with pytest.raises(CheckpointError, match=r"was not registered: .*4 channels"):
        add_checkpoint(tmp_path / "rgba.pt", registration, Catalogue.shipped(tmp_path / "ck"))
    assert not [file for file in (tmp_path / "ck").rglob("*") if file.is_file()]
