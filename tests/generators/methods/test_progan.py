from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from generators import registry
from generators.checkpoints import Checkpoint, write_safetensors
from generators.errors import CheckpointError, InputError
from generators.methods.progan import ProGAN
from generators.networks.gan.progan import ProGAN as Network
from generators.networks.gan.progan import pixel_norm

SEEDS = [5, 2**40 + 1, 7, 0, 123456789, 11, 12, 13]


@pytest.fixture
def demo(tmp_path: Path) -> Checkpoint:
    torch.manual_seed(0)
    network = Network(16, [16, 16, 8], label_size=3)
    write_safetensors(tmp_path / "demo.safetensors", network.state_dict(), {"label_size": 3})
    return Checkpoint(tmp_path / "demo.safetensors")


@pytest.fixture
def genforce() -> dict[str, torch.Tensor]:
    """A 16 px network in genforce's layout, the second doubling with a change of channels."""
    torch.manual_seed(1)
    shapes = {"layer0": (12, 10, 4, 4), "layer1": (12, 12, 3, 3), "layer2": (12, 12, 3, 3), "layer3": (12, 12, 3, 3)}
    shapes |= {"layer4": (6, 12, 3, 3), "layer5": (6, 6, 3, 3), "output0": (3, 12, 1, 1), "output1": (3, 12, 1, 1), "output2": (3, 6, 1, 1)}
    tensors = {f"{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    return tensors | {f"{name}.bias": torch.randn(shape[0]) for name, shape in shapes.items()} | {"lod": torch.tensor(0.0)}


def load(path: Path, content: object, **options: object) -> ProGAN:
    torch.save(content, path)
    return ProGAN.load(Checkpoint(path, options))


def test_same_seed_gives_same_image_whatever_the_batch_or_order(demo: Checkpoint) -> None:
    generator = registry.get("progan").load(demo)
    together = generator.sample(SEEDS).astype(int)
    assert together.shape == (8, 16, 16, 3)
    assert together.std() > 5
    for batch in (1, 3):
        generator.batch_size = batch
        assert np.abs(generator.sample(SEEDS[::-1])[::-1].astype(int) - together).max() <= 1


def test_class_comes_from_the_seed_or_the_manifest(demo: Checkpoint) -> None:
    generator = ProGAN.load(demo)
    by_class = [generator.sample([5], class_index=index) for index in range(3)]
    assert any(np.array_equal(generator.sample([5]), image) for image in by_class)
    assert not np.array_equal(by_class[0], by_class[1])
    with pytest.raises(InputError, match="class_index 3, but this checkpoint has 3 classes"):
        generator.sample([5], class_index=3)


def test_moving_average_is_preferred(tmp_path: Path, genforce: dict[str, torch.Tensor]) -> None:
    other = {name: value + 1 for name, value in genforce.items()} | {"lod": torch.tensor(0.0)}
    both = load(
        tmp_path / "both.pth", {"generator": other, "generator_smooth": genforce, "discriminator": {"layer0.weight": torch.ones(1)}}
    )
    alone = load(tmp_path / "alone.pth", {"generator": genforce})
    assert np.array_equal(both.sample([1]), alone.sample([1]))


def test_fused_kernels_are_told_by_their_shape(tmp_path: Path, genforce: dict[str, torch.Tensor]) -> None:
    fused = dict(genforce)
    for name in ("layer2.weight", "layer4.weight"):
        fused[name] = genforce[name].transpose(0, 1).flip(2, 3).contiguous()
    plain, told, said = (load(tmp_path / "f.pth", {"generator": state}, **options) for state, options in
                         ((genforce, {}), (fused, {}), (fused, {"fused_scale": True})))  # fmt: skip
    assert torch.allclose(plain.network.ups[1].weight, told.network.ups[1].weight, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(told.network.parameters(), said.network.parameters(), strict=True))


def test_tensorflow_pickle(tmp_path: Path, genforce: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"layer0": "4x4/Dense", "layer1": "4x4/Conv", "layer2": "8x8/Conv0", "layer3": "8x8/Conv1", "layer4": "16x16/Conv0"}
    names |= {"layer5": "16x16/Conv1", "output0": "ToRGB_lod2", "output1": "ToRGB_lod1", "output2": "ToRGB_lod0"}
    variables = [("lod", np.float32(0))]
    for ours, theirs in names.items():
        weight = genforce[f"{ours}.weight"]
        kept = weight.flip(2, 3).transpose(0, 1).reshape(10, -1) if ours == "layer0" else weight.permute(2, 3, 1, 0)
        variables += [(f"{theirs}/weight", kept.contiguous().numpy()), (f"{theirs}/bias", genforce[f"{ours}.bias"].numpy())]
    module = types.ModuleType("tfutil")
    module.Network = type("Network", (), {"__module__": "tfutil"})
    monkeypatch.setitem(sys.modules, "tfutil", module)

    def network(values: list[tuple[str, object]]) -> object:
        stored = module.Network()
        stored.__dict__ = {
            "version": 2,
            "name": "G",
            "static_kwargs": {"resolution": 16, "fused_scale": False},
            "build_module_src": "raise",
            "build_func_name": "G_paper",
            "variables": values,
        }
        return stored

    zeros = [(name, np.zeros_like(value)) for name, value in variables]
    (tmp_path / "tf.pkl").write_bytes(pickle.dumps((network(zeros), network(zeros), network(variables)), protocol=4))
    monkeypatch.undo()
    original = load(tmp_path / "genforce.pth", {"generator": genforce})
    assert np.array_equal(ProGAN.load(Checkpoint(tmp_path / "tf.pkl")).sample([3]), original.sample([3]))


def test_zoo_file_says_its_alpha_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    shapes = {"formatLayer": (128, 6), "groupScale0.0": (8, 8, 3, 3), "scaleLayers.0.0": (4, 8, 3, 3), "scaleLayers.0.1": (4, 4, 3, 3)}
    shapes |= {"toRGBLayers.0": (3, 8, 1, 1), "toRGBLayers.1": (3, 4, 1, 1)}
    state = {f"{name}.module.weight": torch.randn(shape) for name, shape in shapes.items()}
    state |= {f"{name}.module.bias": torch.randn(shape[0]) for name, shape in shapes.items()}
    for parent in ("models", "models.utils"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    module = types.ModuleType("models.utils.config")
    module.BaseConfig = type("BaseConfig", (), {"__module__": "models.utils.config"})
    monkeypatch.setitem(sys.modules, "models.utils.config", module)
    config = module.BaseConfig()
    config.__dict__ = {"alpha": 0.25, "leakyReluLeak": 0.1, "lossCriterion": "WGANGP", "depthOtherScales": [4]}
    torch.save({"config": config, "netG": {}, "avgG": state}, tmp_path / "zoo.pth")
    monkeypatch.undo()
    network = ProGAN.load(Checkpoint(tmp_path / "zoo.pth")).network
    assert (network.lod, network.leak, network.resolution) == (0.25, 0.1, 8)


def test_wrong_files_are_named(tmp_path: Path, genforce: dict[str, torch.Tensor]) -> None:
    with pytest.raises(CheckpointError, match=r"x\.pth holds no ProGAN generator"):
        load(tmp_path / "x.pth", {"a": torch.zeros(1)})
    del genforce["layer3.bias"]
    with pytest.raises(CheckpointError, match=r"x\.pth lacks generator\.layer3\.bias"):
        load(tmp_path / "x.pth", {"generator": genforce})


@pytest.mark.parametrize("value", [200.0, 1e-4])
def test_pixels_are_normalised_in_half_precision_whatever_their_size(value: float) -> None:
    """The sum of 512 squares of 200 is far above 65,504, and the square of 1e-4 below what float16 holds."""
    x = torch.full((1, 512, 2, 2), value, dtype=torch.float16)
    with torch.inference_mode():
        out = pixel_norm(x.clone())
    wanted = pixel_norm(x.float())
    assert out.dtype == torch.float16 and torch.allclose(out.float(), wanted, atol=2e-3)
    assert pixel_norm(x.clone().requires_grad_()).dtype == torch.float16
