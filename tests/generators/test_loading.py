"""What a checkpoint's options say about speed: they change pixels by rounding, and half precision a little more."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._inductor.cpp_builder import cpp_compiler_search

from generators import registry
from generators.base import Generator, SampleRequest
from generators.checkpoints import Checkpoint
from generators.errors import InputError
from generators.loading import compile_networks, find_networks, load_generator
from tests.support import ddpm_checkpoint, projected_gan_checkpoint, simswap_checkpoint, stylegan2_checkpoint

FACES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
SMALL: dict[str, tuple[Any, dict[str, Any]]] = {
    "stylegan2": (stylegan2_checkpoint, {}),
    "projected_gan": (projected_gan_checkpoint, {"img_resolution": 64}),
    "simswap": (simswap_checkpoint, {}),
    "ddim": (ddpm_checkpoint, {}),
}


def checkpoint(folder: Path, name: str, **options: Any) -> Checkpoint:
    write, own = SMALL[name]
    return Checkpoint(write(folder / (f"{name}.pth" if name == "projected_gan" else f"{name}.safetensors")), own | options)


def made(generator: Generator, count: int = 3) -> np.ndarray:
    steps = {} if "steps" not in generator.Parameters.model_fields else {"steps": 2}
    if generator.name == "simswap":
        return generator.swap(FACES[:count], FACES[:count][::-1], list(range(count))).astype(int)
    return generator.sample(list(range(count)), **steps).astype(int)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["projected_gan", "simswap", "stylegan2"])
def test_compiled_networks_make_the_same_pictures(tmp_path: Path, name: str) -> None:
    """Through dynamo, which is what meets a network's Python; the compiler behind it is another test's."""
    generator = load_generator(name, checkpoint(tmp_path, name))
    wanted = made(generator)
    calls: list[int] = []

    def counting(graph: Any, inputs: Any) -> Any:
        calls.append(1)
        return graph.forward

    torch._dynamo.reset()
    compile_networks(generator, counting)  # type: ignore[arg-type]
    assert find_networks(generator)
    assert np.abs(made(generator) - wanted).max() <= 1
    assert calls, "nothing was compiled"
    generator.batch_size = 2  # another shape
    assert np.abs(made(generator) - wanted).max() <= 1


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++ on a CPU")
def test_the_option_compiles(tmp_path: Path) -> None:
    assert [network._compiled_call_impl for network in find_networks(load_generator("simswap", checkpoint(tmp_path, "simswap")))] == [
        None
    ] * 2
    compiled = load_generator("simswap", checkpoint(tmp_path, "simswap", compile=True))
    assert all(network._compiled_call_impl for network in find_networks(compiled))


def test_a_cpu_without_a_compiler_is_said_before_weights_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    cpp_compiler_search.cache_clear()
    source = checkpoint(tmp_path, "simswap", compile=True)
    source.path.write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"simswap.safetensors: compile needs a C\+\+ compiler on a CPU") as raised:
        load_generator("simswap", source)
    assert "g++" in raised.value.fix
    with pytest.raises(InputError, match="is not a whole safetensors file") as other:  # which `exact` does not need
        load_generator("simswap", Checkpoint(source.path, {"compile": True, "exact": True}, source.components))
    assert "compile needs" not in str(other.value)


def test_exact_does_not_compile(tmp_path: Path) -> None:
    exact = load_generator("simswap", checkpoint(tmp_path, "simswap", compile=True, exact=True))
    assert exact.exact and [network._compiled_call_impl for network in find_networks(exact)] == [None] * 2


@pytest.mark.parametrize("option", ["load_in_8bit", "quantization", "step_cache"])
def test_what_changes_traces_is_no_option_of_a_checkpoint(tmp_path: Path, option: str) -> None:
    """8-bit weights and step caches are generators of their own name: here they are refused, and not left out silently."""
    with pytest.raises(InputError, match=rf"stylegan2.safetensors: .*{option}"):
        load_generator("stylegan2", checkpoint(tmp_path, "stylegan2", **{option: True}))


def test_cuda_graphs_are_of_networks_that_repeat_and_of_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"stylegan2.safetensors: cuda_graphs needs an NVIDIA GPU, and this is cpu"):
        load_generator("stylegan2", checkpoint(tmp_path, "stylegan2", cuda_graphs=True))
    with pytest.raises(InputError, match=r"in every batch \(diff_stylegan2, progan, projected_gan, stylegan2\)"):
        load_generator("ddim", checkpoint(tmp_path, "ddim", cuda_graphs=True))
    exact = load_generator("stylegan2", checkpoint(tmp_path, "stylegan2", cuda_graphs=True, exact=True))
    assert not exact.graphs and find_networks(exact)[0]._compiled_call_impl is None


def test_cuda_graphs_have_batches_of_one_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the check of the device left out: what `torch.compile` is asked for, and what the network is then given."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("generators.loading.require_graphs", lambda *_: None)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: asked.append(options))
    generator = load_generator("stylegan2", checkpoint(tmp_path, "stylegan2", cuda_graphs=True, batch_size=4), remembered={})
    assert asked == [{"backend": "inductor", "mode": "reduce-overhead", "dynamic": False}]
    assert generator.graphs and generator.growth is None
    marks: list[bool] = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marks.append(True))
    plain, sizes = generator.network.forward, []
    monkeypatch.setattr(generator.network, "forward", lambda z, *rest, **named: sizes.append(len(z)) or plain(z, *rest, **named))
    result = generator.run(SampleRequest(range(6)))
    assert sizes == [4, 4] and marks == [True, True]
    assert len(result.images) == 6 and result.columns["made_with"] == [{"batch": 4}] * 6


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["simswap", "ddim"])
def test_the_option_sets_the_precision(tmp_path: Path, name: str, precision: str) -> None:
    wanted = made(load_generator(name, checkpoint(tmp_path, name)))
    halved = load_generator(name, checkpoint(tmp_path, name, precision=precision))
    assert {weight.dtype for network in find_networks(halved) for weight in network.parameters()} == {getattr(torch, precision)}
    difference = np.abs(made(halved) - wanted)
    assert difference.max() > 0
    assert difference.mean() < 4


def test_options_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"precision: .*'float32'.*, not 'float8'"):
        load_generator("stylegan2", checkpoint(tmp_path, "stylegan2", precision="float8"))
    with pytest.raises(InputError, match=r"compile: .*, not .yes."):
        load_generator("stylegan2", checkpoint(tmp_path, "stylegan2", compile="yes"))


def test_every_method_names_its_networks() -> None:
    assert all(registry.get(name).networks for name in registry.names() if name != "inswapper")


def test_a_network_that_repeats_a_block_compiles_the_block_and_others_are_compiled_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import FluxTransformer2DModel, UNet2DConditionModel

    heads = {"attention_head_dim": 8, "num_attention_heads": 2, "axes_dims_rope": (2, 2, 4)}
    blocks = FluxTransformer2DModel(
        in_channels=4, num_layers=2, num_single_layers=1, joint_attention_dim=8, pooled_projection_dim=8, **heads
    )
    widths = {"block_out_channels": (8, 8), "norm_num_groups": 4, "cross_attention_dim": 8, "attention_head_dim": 2}
    unet = UNet2DConditionModel(
        sample_size=8, down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2, **widths
    )
    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, *_, **__: compiled.append(type(self).__name__))

    class Holder:
        networks = ("first", "second", "third")
        first, second, third = blocks, unet, torch.nn.Linear(2, 2)

    compile_networks(Holder())  # type: ignore[arg-type]
    assert compiled == ["FluxTransformerBlock"] * 2 + ["FluxSingleTransformerBlock", "UNet2DConditionModel", "Linear"]
