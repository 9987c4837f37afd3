"""Counts, names and padding of the released networks, and which files are read."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest
import torch
from torch import nn

from ntf_model.errors import InputError
from ntf_model.networks import caddm, resnet, xception
from ntf_model.networks.efficientnet import EfficientNet, same_padding
from ntf_model.networks.weights import count_parameters, load_into, official_state, read_state, without_prefix

META = torch.device("meta")


@pytest.mark.parametrize(
    ("backbone", "parameters"), [("resnet34", 44_003_162), ("efficientnet-b3", 210_970_178), ("efficientnet-b4", 289_736_546)]
)
def test_caddm_has_the_official_number_of_parameters(backbone: str, parameters: int) -> None:
    with META:
        network = caddm.CADDM(backbone)
    assert count_parameters(network) == parameters
    keys = {caddm.official_key(key) for key in network.state_dict()}
    assert {"adm.adm_extra_layers.3.conv2.bias", "adm.multi_scale_detection_module.ms_dets.3.weight", "fc.bias"} <= keys
    assert {"base_model.fc.weight", "base_model.layer4.2.bn2.running_var"} <= keys or {
        "base_model._fc.weight",
        "base_model._bn1.bias",
    } <= keys
    assert caddm.backbone_of({"fc.weight": network.fc.weight}) == backbone


def test_other_networks_have_the_official_number_of_parameters() -> None:
    with META:
        assert count_parameters(EfficientNet("efficientnet-b4", 2)) == 17_552_202
        assert count_parameters(EfficientNet("efficientnet-b0", 1000)) == 5_288_548
        assert count_parameters(xception.Xception()) == 20_811_050
        assert count_parameters(xception.Xception(adjust_channel=True)) == 21_861_162
        assert count_parameters(resnet.ResNet("resnet50", 1)) == 23_510_081
        assert count_parameters(resnet.ResNet("resnet18", 1000)) == 11_689_512


@pytest.mark.parametrize("name", resnet.DEPTHS)
def test_a_resnet_is_known_by_its_official_keys(name: str) -> None:
    with META:
        state = official_state(resnet.ResNet(name), resnet.official_key)
    assert {"conv1.weight", "bn1.running_mean", "layer2.0.downsample.0.weight", "layer4.1.bn2.bias", "fc.weight"} <= state.keys()
    assert resnet.name_of(state) == name
    with pytest.raises(InputError, match="no ResNet has"):
        resnet.name_of({key: value for key, value in state.items() if "layer3" not in key})


@pytest.mark.parametrize("size", [7, 32, 95, 380])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (1, 1)])
def test_same_padding_gives_the_size_that_tensorflow_gives(size: int, kernel: int, stride: int) -> None:
    before, after = same_padding(size, kernel, stride)
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride)
    assert 0 <= after - before <= 1


def test_fixed_padding_differs_only_where_a_map_is_odd() -> None:
    torch.manual_seed(0)
    fixed, free = EfficientNet("efficientnet-b0", 2, image_size=76).eval(), EfficientNet("efficientnet-b0", 2).eval()
    free.load_state_dict(fixed.state_dict())
    with torch.inference_mode():
        same, other = torch.rand(1, 3, 76, 76), torch.rand(1, 3, 64, 64)
        assert torch.equal(fixed(same), free(same))
        assert fixed.features(other).shape == free.features(other).shape
        assert not torch.allclose(fixed(other), free(other), atol=1e-7)


def test_drop_connect_leaves_out_whole_pictures() -> None:
    torch.manual_seed(0)
    block = EfficientNet("efficientnet-b0", 2)._blocks[2]
    block.drop = 0.5
    x = torch.rand(64, 24, 4, 4)
    block.train()
    unchanged = (block(x) == x).flatten(1).all(1)
    assert 10 < unchanged.sum() < 54


def test_xception_reads_every_known_layout() -> None:
    torch.manual_seed(0)
    network = xception.Xception()
    own = network.state_dict()
    layouts = {
        "FaceForensics++": {f"model.{key}": value for key, value in own.items()},
        "with dropout": {f"model.{key}".replace("last_linear.", "last_linear.1."): value for key, value in own.items()},
        "DeepfakeBench": {f"backbone.{key}": value for key, value in own.items()},
        "ImageNet": {key.replace("last_linear.", "fc."): value[:, :, 0, 0] if "pointwise" in key else value for key, value in own.items()},
    }
    for layout, state in layouts.items():
        renamed = xception.plain_keys(state)
        assert renamed.keys() == own.keys(), layout
        assert all(torch.equal(renamed[key], own[key]) for key in own), layout


def test_the_state_dict_is_found_where_training_scripts_put_it(tmp_path: Path) -> None:
    linear = nn.Linear(3, 2)
    state = linear.state_dict()
    wrapped = {f"module.{key}": value for key, value in state.items()}
    for number, contents in enumerate(
        [state, {"model": state, "optimizer": {"lr": 0.1}, "epoch": 3}, {"network": wrapped}, collections.OrderedDict(state_dict=wrapped)]
    ):
        torch.save(contents, tmp_path / f"{number}.pth", _use_new_zipfile_serialization=number % 2 == 0)
        read = read_state(tmp_path / f"{number}.pth")
        assert read.keys() == state.keys()
        assert torch.equal(read["weight"], state["weight"])


def test_a_pickled_module_is_refused_and_not_run(tmp_path: Path) -> None:
    file = tmp_path / "whole.p"
    torch.save(nn.Sequential(nn.Linear(3, 2)), file)
    with pytest.raises(InputError, match=r"whole\.p is a pickle that asks for more.*state_dict"):
        read_state(file)


@pytest.mark.parametrize(
    ("contents", "message"), [(b"", "cannot be read"), (b"PK\x03\x04 cut", "cannot be read"), (b"not a checkpoint at all", "read")]
)
def test_a_damaged_file_is_named(tmp_path: Path, contents: bytes, message: str) -> None:
    file = tmp_path / "damaged.pth"
    file.write_bytes(contents)
    with pytest.raises(InputError, match=rf"damaged\.pth.*{message}"):
        read_state(file)
    (tmp_path / "damaged.safetensors").write_bytes(contents)
    with pytest.raises(InputError, match=r"damaged\.safetensors is not a whole safetensors file"):
        read_state(tmp_path / "damaged.safetensors")
    with pytest.raises(InputError, match=r"no weights file .*missing\.pth"):
        read_state(tmp_path / "missing.pth")


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "model": {}}, tmp_path / "empty.pth")
    with pytest.raises(InputError, match="holds no state dict"):
        read_state(tmp_path / "empty.pth")


def test_keys_and_shapes_that_do_not_fit_are_named() -> None:
    state = nn.Linear(3, 2).state_dict()
    load_into(nn.Linear(3, 2), {**state, "extra.weight": torch.zeros(1)}, "f", unused=("extra.",))
    with pytest.raises(InputError, match="f lacks the key 'bias'"):
        load_into(nn.Linear(3, 2), {"weight": state["weight"]}, "f")
    with pytest.raises(InputError, match="f has an unexpected key 'other'"):
        load_into(nn.Linear(3, 2), {**state, "other": torch.zeros(1)}, "f")
    with pytest.raises(InputError, match=r"weight has the shape \[2, 3\], the network \[2, 4\]"):
        load_into(nn.Linear(4, 2), state, "f")


def test_an_old_file_without_batch_counters_is_read() -> None:
    norm = nn.BatchNorm2d(2)
    state = {key: value for key, value in norm.state_dict().items() if key != "num_batches_tracked"}
    load_into(norm, state, "f")
    assert norm.num_batches_tracked == 0


def test_a_prefix_comes_off_only_if_all_keys_have_it() -> None:
    value = torch.zeros(1)
    assert without_prefix({"net.a": value, "net.b": value}, "net.").keys() == {"a", "b"}
    assert without_prefix({"net.a": value, "b": value}, "net.").keys() == {"net.a", "b"}


def test_imagenet_weights_come_from_torchvisions_file_and_from_a_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, network = resnet.ResNet("resnet18", 1000), resnet.ResNet("resnet18", 1)
    head = network.fc.weight.clone()
    torch.save(official_state(source, resnet.official_key), tmp_path / "resnet18.pth")
    resnet.load_imagenet(network, str(tmp_path / "resnet18.pth"))
    assert torch.equal(network.body.state_dict()["embedder.embedder.convolution.weight"], source.body.embedder.embedder.convolution.weight)
    assert torch.equal(network.fc.weight, head)
    source.body.save_pretrained(tmp_path / "folder")
    other = resnet.ResNet("resnet18", 1)
    resnet.load_imagenet(other, str(tmp_path / "folder"))
    assert all(torch.equal(value, source.body.state_dict()[key]) for key, value in other.body.state_dict().items())
    with pytest.raises(InputError, match="is no ResNet of this size"):
        resnet.load_imagenet(resnet.ResNet("resnet34", 1), str(tmp_path / "folder"))
