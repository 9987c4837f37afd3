"""Each form in which a generator is released: read without its classes, to the tensors that its own code would have loaded."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.checkpoints import convert, inspect, read
from generators.errors import CheckpointError
from tests.lookalikes import stand_in, write_nvidia_pickle
from tests.parity.cases import Case

FIXTURE = Path(__file__).parents[2] / "parity" / "cases" / "stylegan2" / "pickle_structure"  # made by NVIDIA's code, its source blanked


def same(got: Any, wanted: dict[str, torch.Tensor]) -> bool:
    return set(got) == set(wanted) and all(
        got[name].dtype == value.dtype and torch.equal(got[name], value) for name, value in wanted.items()
    )


def test_nvidia_pickle_gives_every_tensor_and_the_arguments() -> None:
    contents = read(FIXTURE / "network.pkl")
    case = Case(FIXTURE)
    assert same(contents.under("G_ema."), case.weights("G_ema"))
    assert contents.form == "pickle"
    assert sorted(name.replace(".", " ") for name in contents.globals) == sorted(name.replace(".", " ") for name in case.facts["globals"])
    kwargs = contents.config["G_ema"]["init_kwargs"]
    assert kwargs | kwargs.pop("synthesis_kwargs") == case.config | {"img_channels": 3}
    assert contents.config["G_ema"]["modules"]["synthesis.b8.conv0"]["attributes"]["conv_clamp"] == 256


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_prefix_of_the_nvidia_pickle_is_an_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = (FIXTURE / "network.pkl").read_bytes()
    path = tmp_path_factory.getbasetemp() / "prefix_of_fixture.pkl"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(CheckpointError):
        read(path)


def test_nvidia_look_alike(tmp_path: Path) -> None:
    weights = {"mapping.fc0.weight": torch.randn(3, 3), "synthesis.b4.const": torch.randn(2, 4, 4), "steps": torch.tensor(7)}
    write_nvidia_pickle(tmp_path / "a.pkl", {"G": ("Generator", weights, {}), "G_ema": ("Generator", weights, {"z_dim": 3})})
    contents = read(tmp_path / "a.pkl")
    assert same(contents.under("G_ema."), weights)
    assert contents.config["G_ema"]["class_name"] == "Generator"
    assert contents.config["G_ema"]["init_kwargs"] == {"z_dim": 3}
    assert contents.config["training_set_kwargs"] == {"use_labels": False}


def test_modules_with_spectral_norm_hooks(tmp_path: Path) -> None:
    """ProjectedGAN's: ordinary modules, of classes that are not here, with the older spectral norm."""
    with stand_in("pg_modules.networks_fastgan", "Generator", made=lambda name: type(name, (torch.nn.Module,), {})) as classes:
        network = classes["Generator"]()
        network.img_resolution, network.z_dim, network.synthesis = 256, 64, torch.nn.Sequential()
        network.synthesis.add_module("up", torch.nn.utils.spectral_norm(torch.nn.ConvTranspose2d(4, 3, 4, bias=False)))
        network.synthesis.add_module("norm", torch.nn.BatchNorm2d(3))
        (tmp_path / "p.pkl").write_bytes(pickle.dumps({"G_ema": network, "D": None}, protocol=4))
        wanted = network.state_dict()
    contents = read(tmp_path / "p.pkl")
    assert same(contents.under("G_ema."), wanted)
    described = contents.config["G_ema"]
    assert described["class_name"] == "pg_modules.networks_fastgan.Generator"
    assert described["attributes"]["img_resolution"] == 256
    assert described["modules"]["synthesis.up"]["class_name"] == "torch.nn.modules.conv.ConvTranspose2d"
    (hook,) = described["modules"]["synthesis.up"]["hooks"]
    assert hook["class_name"].endswith("SpectralNorm")
    assert (hook["attributes"]["name"], hook["attributes"]["dim"]) == ("weight", 1)


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("wrapped", [False, True])
def test_whole_module_of_an_unknown_class(tmp_path: Path, is_zip: bool, wrapped: bool) -> None:
    """SimSwap's ArcFace: a module pickled whole, bare or as {"model": DataParallel}. torch's older stream names a module's class by a
    persistent id with the class's source in it."""
    with stand_in("models.arcface_models", "ResNet", made=lambda name: type(name, (torch.nn.Module,), {})) as classes:
        network = classes["ResNet"]()
        network.conv1, network.prelu = torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.PReLU()
        network.layer1 = torch.nn.Sequential(torch.nn.BatchNorm2d(4), network.prelu)
        network.register_buffer("scratch", torch.ones(2), persistent=False)
        saved = {"model": torch.nn.DataParallel(network)} if wrapped else network
        torch.save(saved, tmp_path / "arcface.tar", _use_new_zipfile_serialization=is_zip)
        wanted = network.state_dict()
    contents = read(tmp_path / "arcface.tar")
    assert same(contents.under("model.module." if wrapped else ""), wanted)
    assert contents.form == ("torch" if is_zip else "torch-stream")
    described = contents.config["model"]["modules"]["module"] if wrapped else contents.config
    assert described["class_name"] == "models.arcface_models.ResNet"


@pytest.mark.parametrize("is_zip", [True, False])
def test_objects_beside_the_weights_are_left_out(tmp_path: Path, is_zip: bool) -> None:
    """Lightning's callbacks, pytorch_GAN_zoo's configuration object, optimizers."""
    weights = OrderedDict({"transformer.head.weight": torch.randn(3, 4), "first_stage_model.quantize.weight": torch.randn(2).half()})
    with stand_in("pytorch_lightning.callbacks", "ModelCheckpoint") as callbacks, stand_in("models.utils.config", "BaseConfig") as configs:
        config = configs["BaseConfig"]()
        config.depthScales, config.lossMode = [512, 256], "WGANGP"
        state = {
            "callbacks": {callbacks["ModelCheckpoint"]: {"best": torch.ones(1), "path": Path("a/b")}},
            "config": config,
            "state_dict": weights,
        }
        state |= {
            "global_step": 12,
            "optimizer_states": [{"state": {0: {"step": 3}}}],
            "rng": np.float64(0.5),
            "device": torch.device("cuda", 0),
        }
        torch.save(state, tmp_path / "last.ckpt", _use_new_zipfile_serialization=is_zip)
    contents = read(tmp_path / "last.ckpt")
    assert same(contents.under("state_dict."), weights)
    assert contents.config["global_step"] == 12
    assert contents.config["rng"] == 0.5
    assert contents.config["device"] == "cuda:0"
    assert contents.config["config"] == {
        "class_name": "models.utils.config.BaseConfig",
        "attributes": {"depthScales": [512, 256], "lossMode": "WGANGP"},
    }


@pytest.mark.parametrize("protocol", [2, 4])
def test_tensorflow_triple(tmp_path: Path, protocol: int) -> None:
    """(G, D, Gs) of `dnnlib.tflib.network.Network`, whose source is in the file and whose variables are NumPy arrays."""
    with stand_in("dnnlib.tflib.network", "Network") as classes:

        def network(name: str, **state: Any) -> Any:
            record = classes["Network"]()
            record.__dict__ |= {
                "version": 4,
                "name": name,
                "build_module_src": "raise SystemExit\n" * 1000,
                "build_func_name": "G_main",
            } | state
            return record

        kernel = np.random.default_rng(0).standard_normal((3, 3, 2, 4)).astype(np.float32)
        turned = np.asfortranarray(kernel[:, :, 0])
        synthesis = network("G_synthesis", static_kwargs={}, variables=[("4x4/Conv/weight", kernel), ("turned", turned)], components={})
        gs = network(
            "Gs",
            static_kwargs={"resolution": 256, "fmap_base": np.int64(16384)},
            variables=[("dlatent_avg", np.ones(4))],
            components={"synthesis": synthesis},
        )
        empty = [network(name, static_kwargs={}, variables=[], components={}) for name in "GD"]
        triple = (*empty, gs)
        (tmp_path / "tf.pkl").write_bytes(pickle.dumps(triple, protocol=protocol))
    contents = read(tmp_path / "tf.pkl")
    assert set(contents.tensors) == {"Gs.dlatent_avg", "Gs.synthesis/4x4/Conv/weight", "Gs.synthesis/turned"}
    assert np.array_equal(contents.tensors["Gs.synthesis/4x4/Conv/weight"], kernel)
    assert np.array_equal(contents.tensors["Gs.synthesis/turned"], turned)
    assert contents.config["Gs"]["static_kwargs"] == {"resolution": 256, "fmap_base": 16384}
    assert contents.config["Gs"]["version"] == 4


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool])
def test_tensors_of_every_kind(tmp_path: Path, is_zip: bool, dtype: torch.dtype) -> None:
    base = torch.arange(24).reshape(4, 6).to(dtype)
    saved = {"whole": base, "turned": base.T, "part": base[1:3, ::2], "empty": base[:0], "scalar": base[1, 1], "tied": base}
    torch.save(saved, tmp_path / "t.pth", _use_new_zipfile_serialization=is_zip)
    contents = read(tmp_path / "t.pth")
    assert same(contents.tensors, saved)
    contents.tensors["whole"].zero_()
    assert same(read(tmp_path / "t.pth").tensors, saved), "writing to a tensor reached the file"


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    """Protocols 0 to 2 write an array's bytes as text that a call encodes, which is longer than the bytes, or nearly as long."""
    rng = np.random.default_rng(0)
    arrays = {"noise": rng.normal(size=(300, 20)), "zeros": np.zeros((64, 64), np.float32), "bytes": rng.integers(0, 256, 9_000, np.uint8)}
    arrays |= {"turned": np.asfortranarray(rng.normal(size=(40, 60)).astype(np.float32)), "lines": np.full(70_000, 10, np.uint8)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(arrays, protocol))
    assert same(read(tmp_path / "a.pkl").tensors, {name: torch.from_numpy(array) for name, array in arrays.items()})


def test_inspect_and_convert_keep_names_and_configuration(tmp_path: Path) -> None:
    weights = {"a.weight": torch.randn(2, 3), "b.weight": torch.randn(3).half()}
    write_nvidia_pickle(tmp_path / "n.pkl", {"G_ema": ("Generator", weights, {"z_dim": 5, "synthesis_kwargs": {"conv_clamp": None}})})
    convert(tmp_path / "n.pkl", tmp_path / "out" / "n.safetensors")
    again = read(tmp_path / "out" / "n.safetensors")
    assert same(again.under("G_ema."), weights)
    assert again.config == read(tmp_path / "n.pkl").config
    seen = inspect(tmp_path / "out" / "n.safetensors")
    assert seen["form"] == "safetensors"
    assert {"name": "G_ema.b.weight", "shape": [3], "dtype": "float16"} in seen["tensors"]


def test_tied_tensors_can_be_converted(tmp_path: Path) -> None:
    weight = torch.randn(4)
    torch.save({"a": weight, "b": weight, "c": weight[2:]}, tmp_path / "t.pth")
    convert(tmp_path / "t.pth", tmp_path / "t.safetensors")
    assert same(read(tmp_path / "t.safetensors").tensors, {"a": weight, "b": weight, "c": weight[2:]})
