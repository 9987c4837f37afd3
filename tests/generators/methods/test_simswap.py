from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from generators import registry
from generators.base import Crop
from generators.checkpoints import Checkpoint, write_safetensors
from generators.errors import CheckpointError
from generators.networks.faces.arcface import ArcFace, load_arcface
from generators.networks.faces.simswap import SimSwapGenerator

SEEDS = list(range(8))


def small_networks(first_stage: int = 1, stages: int = 2) -> tuple[SimSwapGenerator, ArcFace]:
    """Random weights, with BatchNorm statistics that are not the identity, so that folding them can go wrong."""
    torch.manual_seed(0)
    generator = SimSwapGenerator((8, 12, 16, 16, 16)[: stages + 1], 24, 2, first_stage=first_stage)
    arcface = ArcFace((1, 1, 1), False, (8, 12, 16), 24, 32)
    for network in (generator, arcface):
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias, 0, 0.3)
    return generator.eval(), arcface.eval()


@pytest.fixture
def demo(tmp_path: Path) -> Checkpoint:
    generator, arcface = small_networks()
    tensors = {f"generator.{k}": v for k, v in generator.state_dict().items()} | {
        f"arcface.{k}": v for k, v in arcface.state_dict().items()
    }
    config = {"form": "fs_networks", "size": 32, "crop": "aligned", "arcface_input_size": 32}
    write_safetensors(tmp_path / "demo.safetensors", tensors, config)
    return Checkpoint(tmp_path / "demo.safetensors")


@pytest.fixture
def faces() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8), rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)


def test_one_file_with_both_networks_is_the_unfolded_networks(demo: Checkpoint, faces: tuple[np.ndarray, np.ndarray]) -> None:
    sources, targets = faces
    swapper = registry.get("simswap").load(demo)
    assert swapper.crop == Crop("aligned", 32)
    generator, arcface = small_networks()
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        pixels = torch.from_numpy(sources).permute(0, 3, 1, 2) / 255
        features = arcface((pixels - mean) / std)
        want = generator(torch.from_numpy(targets).permute(0, 3, 1, 2) / 255, features / features.norm(dim=1, keepdim=True))
    want = (want * 255).round().permute(0, 2, 3, 1).numpy()
    got = swapper.swap(sources, targets, SEEDS)
    assert want.std() > 2, "the reference must not be flat"
    assert np.abs(got - want).max() <= 1


@pytest.mark.parametrize("batch_size", [1, 3])
def test_same_image_for_any_batch_and_order(demo: Checkpoint, faces: tuple[np.ndarray, np.ndarray], batch_size: int) -> None:
    sources, targets = faces
    swapper = registry.get("simswap").load(demo)
    whole = swapper.swap(sources, targets, SEEDS).astype(int)
    assert np.abs(whole[0] - whole[1]).max() > 1
    swapper.batch_size = batch_size
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    assert np.abs(swapper.swap(sources[order], targets[order], order) - whole[order]).max() <= 1


def test_a_source_is_embedded_once_for_batches_of_a_size_and_the_swaps_are_the_same_to_the_bit(
    demo: Checkpoint, faces: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, targets = faces
    draws = np.random.default_rng(2).permuted(np.tile(np.arange(8), (6, 1)), axis=1).reshape(-1)  # six batches of the same people
    plain, keeping = (registry.get("simswap").load(demo) for _ in range(2))
    plain.batch_size = keeping.batch_size = 8
    monkeypatch.setattr(plain._sources, "of", lambda images, embed, precision: embed(images))
    seen: list[int] = []
    embed = keeping.identities
    monkeypatch.setattr(keeping, "identities", lambda images: seen.append(len(images)) or embed(images))
    for _ in range(2):
        given = sources[draws], np.resize(targets, (48, 32, 32, 3)), range(48)
        assert np.array_equal(plain.swap(*given), keeping.swap(*given))
    assert seen == [8]
    keeping.swap(sources[:3], targets[:3], range(3))
    assert seen == [8, 3], "a batch of another size may round in another way"


def test_another_source_gives_another_image(demo: Checkpoint, faces: tuple[np.ndarray, np.ndarray]) -> None:
    sources, targets = faces
    swapper = registry.get("simswap").load(demo)
    first = swapper.swap(sources[:1], targets[:1], [0]).astype(int)
    assert np.abs(first - swapper.swap(sources[1:2], targets[:1], [0])).max() > 0


def save_parts(folder: Path, generator: SimSwapGenerator, arcface: ArcFace, **options: object) -> Checkpoint:
    """As the official files are: a plain state dict, and the identity network in a file of its own."""
    torch.save(generator.state_dict(), folder / "latest_net_G.pth")
    torch.save({f"module.{key}": value for key, value in arcface.state_dict().items()}, folder / "arcface.pth")
    parts = {"arcface": Checkpoint(folder / "arcface.pth", {"input_size": 32})}
    return Checkpoint(folder / "latest_net_G.pth", options, parts)


def test_form_from_keys_where_they_tell_and_from_the_option_where_not(tmp_path: Path) -> None:
    swapper = registry.get("simswap").load(save_parts(tmp_path, *small_networks()))
    assert (swapper.form, swapper.network.head, swapper.crop) == ("fs_networks", "tanh", Crop("simswap", 224))
    swapper = registry.get("simswap").load(save_parts(tmp_path, *small_networks(), form="fs_networks_fix"))
    assert (swapper.form, swapper.network.head, swapper.crop) == ("fs_networks_fix", "raw", Crop("simswap", 224))
    swapper = registry.get("simswap").load(save_parts(tmp_path, *small_networks(0, 4)))
    assert (swapper.form, swapper.network.head, swapper.crop) == ("fs_networks_512", "tanh", Crop("ffhq", 512))


def test_fix_form_takes_and_gives_imagenet_range(tmp_path: Path) -> None:
    generator, arcface = small_networks()
    torch.nn.init.zeros_(generator.last_layer[1].weight)
    generator.last_layer[1].bias.data.zero_()
    swapper = registry.get("simswap").load(save_parts(tmp_path, generator, arcface, form="fs_networks_fix", size=32))
    grey = np.full((1, 32, 32, 3), 90, np.uint8)
    out = swapper.swap(grey, grey, [0])  # a head of zeros is the ImageNet mean
    assert np.array_equal(np.unique(out.reshape(-1, 3), axis=0), [[124, 116, 104]])


@pytest.mark.parametrize("form", ["fs_networks_512", "simswap"])
def test_a_form_that_cannot_be_is_refused(tmp_path: Path, form: str) -> None:
    with pytest.raises(CheckpointError, match=form):
        registry.get("simswap").load(save_parts(tmp_path, *small_networks(), form=form))


def test_a_missing_identity_network_is_named(tmp_path: Path) -> None:
    checkpoint = save_parts(tmp_path, *small_networks())
    with pytest.raises(CheckpointError, match="arcface"):
        registry.get("simswap").load(Checkpoint(checkpoint.path))


def test_wrong_files_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    checkpoint = save_parts(tmp_path, *small_networks())
    arcface = checkpoint.component("arcface")
    with pytest.raises(CheckpointError, match="not a SimSwap generator"):
        registry.get("simswap").load(Checkpoint(arcface.path, {}, {"arcface": arcface}))
    with pytest.raises(CheckpointError, match="not SimSwap's ArcFace"):
        registry.get("simswap").load(Checkpoint(checkpoint.path, {}, {"arcface": Checkpoint(checkpoint.path)}))
    with pytest.raises(CheckpointError, match=r"fc\.weight is \[24, 256\] instead of"):
        registry.get("simswap").load(Checkpoint(checkpoint.path, {}, {"arcface": Checkpoint(arcface.path)}))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_the_official_identity_files_are_read_without_their_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapped: bool, zipped: bool
) -> None:
    """A whole pickled module of a class that is not there, or {"model": DataParallel}, in torch's zip form or the older stream."""
    monkeypatch.setitem(sys.modules, "models", types.ModuleType("models"))
    home = types.ModuleType("models.arcface_models")
    home.ResNet = type("ResNet", (ArcFace,), {"__module__": home.__name__, "__qualname__": "ResNet"})
    monkeypatch.setitem(sys.modules, home.__name__, home)
    _, arcface = small_networks()
    whole = home.ResNet((1, 1, 1), False, (8, 12, 16), 24, 32)
    whole.load_state_dict(arcface.state_dict())
    saved = {"epoch": 3, "model": torch.nn.DataParallel(whole)} if wrapped else whole
    torch.save(saved, tmp_path / "arcface_checkpoint.tar", _use_new_zipfile_serialization=zipped)
    monkeypatch.undo()

    network = load_arcface(Checkpoint(tmp_path / "arcface_checkpoint.tar", {"input_size": 32}))
    assert set(network.state_dict()) == set(arcface.state_dict())
    assert all(torch.equal(value, arcface.state_dict()[key]) for key, value in network.state_dict().items())
