"""StyleGAN2 and Diff-StyleGAN2: one image for one seed whatever the batch, labels, truncation, and every layout of checkpoint."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators import registry
from generators.checkpoints import Checkpoint, Contents, write_safetensors
from generators.errors import CheckpointError, InputError
from generators.methods.stylegan2 import StyleGAN2
from generators.networks.gan import stylegan2, stylegan2_layouts
from tests.lookalikes import stand_in
from tests.support import STYLEGAN2_CONFIG

CONFIG = STYLEGAN2_CONFIG | {"z_dim": 12}
SEEDS = [3, 2**40 + 1, 0, 7, 8, 9, 123456, 5]


def network(**changes: Any) -> stylegan2.Generator:
    """A network whose every tensor matters: noise and biases are not zero."""
    torch.manual_seed(0)
    random = stylegan2.Generator(**CONFIG | changes).eval()
    with torch.no_grad():
        for name, value in random.named_parameters():
            if value.ndim < 2:
                value.add_(torch.randn_like(value) * (10 if "mapping" in name else 0.3))
        random.mapping.w_avg.normal_()
    return random.requires_grad_(False)


def load(tmp_path: Path, **changes: Any) -> StyleGAN2:
    write_safetensors(tmp_path / "g.safetensors", network(**changes).state_dict(), CONFIG | changes)
    return registry.get("stylegan2").load(Checkpoint(tmp_path / "g.safetensors"))


@pytest.mark.parametrize("noise_mode", ["const", "none", "random"])
@pytest.mark.parametrize("c_dim", [0, 5])
def test_a_seed_gives_its_image_in_any_batch_and_order(tmp_path: Path, noise_mode: str, c_dim: int) -> None:
    generator = load(tmp_path, c_dim=c_dim)
    reference = generator.sample(SEEDS, noise_mode=noise_mode).astype(int)
    assert len({image.tobytes() for image in reference}) == len(SEEDS)
    for batch_size in (1, 3, 8):
        generator.batch_size = batch_size
        turned = generator.sample(SEEDS[::-1], noise_mode=noise_mode)[::-1]
        assert np.abs(turned - reference).max() <= 1, f"batches of {batch_size}"


def test_parameters_decide_pixels(tmp_path: Path) -> None:
    generator = load(tmp_path)
    plain = generator.sample([1, 2])
    assert np.array_equal(plain, generator.sample([1, 2], truncation_psi=1.0, truncation_cutoff=3))
    for other in (
        {"truncation_psi": 0.5},
        {"truncation_psi": 0.5, "truncation_cutoff": 2},
        {"noise_mode": "none"},
        {"noise_mode": "random"},
    ):
        assert not np.array_equal(plain, generator.sample([1, 2], **other)), other
    mean = generator.sample([1, 2], truncation_psi=0.0)
    assert np.array_equal(mean[0], mean[1])


def test_classes(tmp_path: Path) -> None:
    generator = load(tmp_path, c_dim=4)
    by_class = [generator.sample([1], class_index=index) for index in range(4)]
    assert len({image.tobytes() for image in by_class}) == 4
    assert any(np.array_equal(generator.sample([1]), image) for image in by_class), "without a class, the seed chooses one"
    with pytest.raises(InputError, match="4 classes"):
        generator.sample([1], class_index=4)
    with pytest.raises(InputError, match="no classes"):
        load(tmp_path).sample([1], class_index=0)


def test_diff_stylegan2_is_the_same_randomunder_its_own_name(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "g.safetensors", network().state_dict(), CONFIG)
    generator = registry.get("diff_stylegan2").load(Checkpoint(tmp_path / "g.safetensors"))
    assert (generator.name, generator.title) == ("diff_stylegan2", "Diff-StyleGAN2")
    assert registry.get("stylegan2").name == "stylegan2"
    assert np.array_equal(generator.sample([4]), load(tmp_path).sample([4]))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"architecture": "orig"},
        {"architecture": "resnet", "c_dim": 3},
        {"img_resolution": 64, "img_channels": 1, "mapping_kwargs": {"num_layers": 3, "layer_features": 20}},
        {"c_dim": 3, "mapping_kwargs": {"num_layers": 2, "embed_features": 7}},
        {"use_noise": False, "resample_filter": [1, 2, 1]},
        {"channel_base": 1000, "channel_max": 64},
    ],
)
def test_a_bare_state_dict_tells_its_configuration(tmp_path: Path, changes: dict[str, Any]) -> None:
    wanted = network(**changes)
    torch.save(wanted.state_dict(), tmp_path / "g.pth")
    loaded = registry.get("stylegan2").load(Checkpoint(tmp_path / "g.pth")).network
    z, c = torch.randn(2, 12), torch.eye(3)[:2]
    assert torch.allclose(loaded(z, c), wanted(z, c), atol=1e-5)


def tensorflow_variables(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """A state dict under TensorFlow's names and in its order of axes."""
    variables: dict[str, np.ndarray] = {"dlatent_avg": state["mapping.w_avg"].numpy()}
    for name, value in state.items():
        if match := re.fullmatch(r"mapping\.fc(\d+)\.(weight|bias)", name):
            variables[f"mapping/Dense{match[1]}/{match[2]}"] = value.numpy().T
        elif name == "synthesis.b4.const":
            variables["synthesis/4x4/Const/const"] = value[None].numpy()
        elif match := re.fullmatch(r"synthesis\.b(\d+)\.(conv0|conv1|torgb|skip)\.(.+)", name):
            resolution, layer, what = int(match[1]), match[2], match[3]
            scope = {"conv0": "Conv0_up", "conv1": "Conv1" if resolution > 4 else "Conv", "torgb": "ToRGB", "skip": "Skip"}[layer]
            key = f"synthesis/{resolution}x{resolution}/{scope}"
            if what == "noise_const":
                variables[f"synthesis/noise{2 * int(np.log2(resolution)) - (5 if layer == 'conv0' else 4)}"] = value[None, None].numpy()
            elif what == "weight":
                kernel = value.permute(2, 3, 1, 0).numpy()
                variables[f"{key}/weight"] = kernel[::-1, ::-1] if layer in ("conv0", "skip") else kernel
            elif what.startswith("affine."):
                variables[f"{key}/mod_{what[7:]}"] = value.numpy().T if what == "affine.weight" else value.numpy() - 1
            elif what != "resample_filter":
                variables[f"{key}/{what}"] = value.numpy()
    return variables


@pytest.mark.parametrize("scalars", ["arrays", "numbers"])  # NumPy of before 2020 pickled a variable without dimensions as a number
@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_tensorflow_pickle(tmp_path: Path, architecture: str, scalars: str) -> None:
    wanted = network(architecture=architecture)
    variables: dict[str, Any] = tensorflow_variables(wanted.state_dict())
    if scalars == "numbers":
        variables = {name: value[()] if value.ndim == 0 else value for name, value in variables.items()}
        assert any(isinstance(value, np.float32) for value in variables.values())
    parts = {
        part: [(name[len(part) + 1 :], value) for name, value in variables.items() if name.startswith(f"{part}/")]
        for part in ("mapping", "synthesis")
    }
    with stand_in("dnnlib.tflib.network", "Network") as classes:

        def tf_network(static_kwargs: dict[str, Any], own: list[Any], **components: Any) -> Any:
            stored = classes["Network"]()
            stored.__dict__ |= {
                "version": 4,
                "static_kwargs": static_kwargs,
                "variables": own,
                "components": components,
                "build_module_src": "",
            }
            return stored

        gs = tf_network(
            {"resolution": 32, "fmap_base": 128, "truncation_psi": 0.5, "mapping_lrmul": 0.01},
            [("dlatent_avg", variables["dlatent_avg"]), ("lod", np.float32(0))],
            **{part: tf_network({}, parts[part]) for part in parts},
        )
        (tmp_path / "tf.pkl").write_bytes(pickle.dumps((tf_network({}, []), tf_network({}, []), gs), protocol=4))
        gs.static_kwargs["normalize_latents"] = False
        (tmp_path / "odd.pkl").write_bytes(pickle.dumps((tf_network({}, []), tf_network({}, []), gs), protocol=4))
    loaded = registry.get("stylegan2").load(Checkpoint(tmp_path / "tf.pkl")).network
    z = torch.randn(2, 12)
    assert torch.allclose(loaded(z, truncation_psi=0.7), wanted(z, truncation_psi=0.7), atol=1e-5)
    with pytest.raises(CheckpointError, match="normalize_latents"):
        registry.get("stylegan2").load(Checkpoint(tmp_path / "odd.pkl"))


def test_clamp_that_a_pickle_leaves_to_its_code_comes_from_its_layers() -> None:
    """stylegan3's pickles name no conv_clamp and mean 256; stylegan2-ada-pytorch's mean none. The layers' attributes tell them apart."""
    tensors = {f"G_ema.{name}": value for name, value in network().state_dict().items()}
    for clamp in (256, None):
        layer = {"class_name": "SynthesisLayer", "attributes": {"conv_clamp": clamp}}
        described = {"init_args": [], "init_kwargs": CONFIG | {"img_channels": 3}, "modules": {"synthesis.b4.conv1": layer}}
        built = stylegan2_layouts.build(Contents(tensors, {"G_ema": described}), Path("g.pkl"))
        assert built.synthesis.b8.conv0.conv_clamp == clamp


def test_mean_style_is_computed_for_a_file_without_one(tmp_path: Path) -> None:
    state = network().state_dict()
    del state["mapping.w_avg"]
    torch.save(state, tmp_path / "g.pth")
    loaded = registry.get("stylegan2").load(Checkpoint(tmp_path / "g.pth")).network
    ws = loaded.mapping(torch.randn(20_000, 12))[:, 0]
    assert torch.allclose(loaded.mapping.w_avg, ws.mean(0), atol=0.15 * ws.std().item())


def test_files_of_other_generators_are_refused(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"no StyleGAN2 generator .*layer\.weight"):
        registry.get("stylegan2").load(Checkpoint(tmp_path / "other.pth"))
    state = network().state_dict()
    state["synthesis.b8.conv1.extra"] = torch.ones(1)
    torch.save(state, tmp_path / "more.pth")
    with pytest.raises(CheckpointError, match=r"unknown synthesis\.b8\.conv1\.extra"):
        registry.get("stylegan2").load(Checkpoint(tmp_path / "more.pth"))
    write_safetensors(tmp_path / "wrong.safetensors", network().state_dict(), CONFIG | {"w_dim": 8})
    with pytest.raises(CheckpointError, match="do not fit"):
        registry.get("stylegan2").load(Checkpoint(tmp_path / "wrong.safetensors"))
    write_safetensors(tmp_path / "odd.safetensors", network().state_dict(), CONFIG | {"magnitude_ema": 1})
    with pytest.raises(CheckpointError, match="magnitude_ema"):
        registry.get("stylegan2").load(Checkpoint(tmp_path / "odd.safetensors"))


@pytest.mark.parametrize(("dtype", "off"), [(torch.float16, 2e-2), (torch.bfloat16, 1e-1)])
def test_half_precision_is_close_and_stays_in_range(tmp_path: Path, dtype: torch.dtype, off: float) -> None:
    generator = network(img_resolution=64, conv_clamp=256)
    generator.synthesis.b64.conv0.affine.bias.mul_(1e4)  # styles beyond half precision's range, which the demodulation takes out again
    z = torch.randn(2, 12)
    exact, half = generator(z), generator(z, dtype=dtype)
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().max() < off * exact.std()
