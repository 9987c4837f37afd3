"""Encoders: what they give, that they come back from their configuration, and that nothing is fetched unasked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, ConvNextConfig, ConvNextModel, ResNetConfig, ResNetModel, ViTConfig, ViTModel

from ntf_model.data.data import DetectionSplits
from ntf_model.encoders.build import build_encoder, encoder_config, encoder_of, last_feature_map
from ntf_model.encoders.crop import fit_to_pictures
from ntf_model.errors import InputError
from ntf_model.ntf.config import NTFConfig, merge
from ntf_model.ntf.network import new_encoder
from ntf_model.ntf.ntf import NTFDetector
from ntf_model.own_code import VARIABLE
from ntf_model.registry import load_detector

VISION = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 16, "patch_size": 8}


def small_resnet() -> ResNetModel:
    return ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))


@pytest.mark.parametrize(
    ("make", "dim"),
    [(small_resnet, 16), (lambda: ViTModel(ViTConfig(**VISION)), 32), (lambda: CLIPVisionModel(CLIPVisionConfig(**VISION)), 32)],
    ids=["resnet", "vit", "clip"],
)
def test_a_folder_of_transformers_is_an_encoder(tmp_path: Path, make, dim: int) -> None:
    model = make().eval()
    model.save_pretrained(tmp_path)
    encoder = build_encoder("resnet50", str(tmp_path)).eval()
    pixels = torch.randn(2, 3, 16, 16)
    out = encoder(pixels)
    assert out.shape == (2, dim)
    assert encoder.dim == dim
    assert torch.allclose(out, model(pixel_values=pixels).pooler_output.flatten(1), atol=1e-6)
    again = build_encoder("anything", None, encoder_config(encoder)).eval()
    again.load_state_dict(encoder.state_dict())
    assert again(pixels).equal(out)


def test_patches_that_an_encoder_cannot_take_are_refused_before_training(splits: DetectionSplits, tiny: NTFConfig, tmp_path: Path) -> None:
    ConvNextModel(ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])).save_pretrained(tmp_path / "model")
    config = merge(tiny, {"encoder": str(tmp_path / "model"), "image_size": 32, "stage2": {"patch": 8}})
    with pytest.raises(InputError, match=r"takes no patches of 8 px.*Give a larger stage2\.patch"):
        NTFDetector.fit(splits, config, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "stage1").exists()
    assert new_encoder(merge(config, {"stage2": {"patch": 16}}), splits.train).training


def test_resnet50_needs_no_weights_and_has_maps() -> None:
    encoder = build_encoder("resnet50").eval()
    assert encoder.dim == 2048
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 23_508_032
    with torch.no_grad():
        assert encoder(torch.zeros(1, 3, 64, 64)).shape == (1, 2048)
    assert last_feature_map(encoder) is encoder.backbone.encoder.stages[-1]


def test_a_small_picture_has_an_embedding_that_does_not_depend_on_its_batch() -> None:
    encoder = build_encoder("small")
    pixels = torch.randn(3, 3, 32, 32)
    assert torch.allclose(encoder(pixels)[1:2], encoder(pixels[1:2]), atol=1e-5)


@pytest.mark.parametrize("name", ["no/such-model", "/no/such/folder"])
def test_an_unknown_encoder_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=name):
        build_encoder(name)


def test_weights_for_the_small_encoder_are_refused() -> None:
    with pytest.raises(InputError, match="no pretrained weights"):
        build_encoder("small", "microsoft/resnet-50")


def test_a_detector_on_a_transformers_backbone_is_saved_whole(splits: DetectionSplits, tiny: NTFConfig, tmp_path: Path) -> None:
    small_resnet().save_pretrained(tmp_path / "weights")
    changes = {"encoder": "resnet50", "encoder_weights": str(tmp_path / "weights"), "stage1": {"epochs": 1}, "stage2": {"epochs": 1}}
    detector = NTFDetector.fit(splits, merge(tiny, changes), tmp_path / "run", device="cpu")
    for file in (tmp_path / "weights").iterdir():
        file.unlink()  # the run must not need them any more
    images = [splits.test.dataset[row].image for row in range(3)]
    assert (NTFDetector.from_pretrained(tmp_path / "run", device="cpu").score(images) == detector.score(images)).all()


def test_the_room_imports_without_what_it_must_not_need() -> None:
    forbidden = ("prefect", "lance", "insightface", "generators", "pipelines", "flows", "datasets", "webdataset", "transformers")
    code = (
        "import pkgutil, importlib, sys, ntf_model\n"
        f"for name in {forbidden!r}: sys.modules[name] = None\n"
        "names = [m.name for m in pkgutil.walk_packages(ntf_model.__path__, 'ntf_model.') if not m.ispkg]\n"
        "assert len(names) > 40\n"
        "for name in names: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr


RESNET = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")


def tiny_model(kind: str) -> Any:
    from transformers import (
        ConvNextConfig,
        ConvNextModel,
        Dinov2Config,
        Dinov2Model,
        DINOv3ViTConfig,
        DINOv3ViTModel,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    torch.manual_seed(0)
    dino = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    makers = {
        "dinov2": lambda: Dinov2Model(Dinov2Config(**dino)),
        "dinov3": lambda: DINOv3ViTModel(DINOv3ViTConfig(**dino, intermediate_size=64, num_register_tokens=4)),
        "siglip": lambda: SiglipVisionModel(SiglipVisionConfig(**VISION)),
        "clip": lambda: CLIPVisionModel(CLIPVisionConfig(**VISION)),
        "convnext": lambda: ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, layer_scale_init_value=0.5)),
        "resnet": lambda: ResNetModel(RESNET),
    }
    return makers[kind]().eval()


KINDS = ("dinov2", "dinov3", "siglip", "clip", "convnext", "resnet")


def encoder_in(folder: Path, kind: str, **settings: Any) -> Any:
    """A random model of `kind`, saved by transformers and read again as an encoder."""
    tiny_model(kind).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "size": {"height": 16}}'
    )
    return encoder_of(NTFConfig(encoder=str(folder), **settings))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_pooled_normalised_and_sized_as_it_says(kind: str, tmp_path: Path) -> None:
    encoder = encoder_in(tmp_path, kind).eval()
    pixels = torch.randn(2, 3, 16, 16)
    out = tiny_model(kind)(pixel_values=pixels)
    assert torch.allclose(encoder(pixels), out.pooler_output.flatten(1), atol=1e-5)
    assert encoder(torch.randn(1, 3, 24, 24)).shape == (1, encoder.dim)  # another size than it was made for
    assert (encoder.mean, encoder.std, encoder.input_size) == ((0.5,) * 3, (0.25,) * 3, 16)
    again = encoder_of(NTFConfig(encoder=str(tmp_path)), json.loads(json.dumps(encoder_config(encoder)))).eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(pixels), encoder(pixels))
    assert (again.mean, again.std, again.input_size) == (encoder.mean, encoder.std, encoder.input_size)


@pytest.mark.parametrize(("kind", "prefix"), [("dinov2", 1), ("dinov3", 5), ("siglip", 0)])
def test_the_mean_over_places_leaves_class_and_register_tokens_out(kind: str, prefix: int, tmp_path: Path) -> None:
    encoder = encoder_in(tmp_path, kind, pooling="mean_std", encoder_layer=1).eval()
    pixels = torch.randn(2, 3, 16, 16)
    hidden = tiny_model(kind)(pixel_values=pixels, output_hidden_states=True).hidden_states[1][:, prefix:]
    assert hidden.shape[1] == 4
    assert torch.allclose(encoder(pixels), torch.cat([hidden.mean(1), hidden.std(1, unbiased=False)], 1), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_lora_begins_as_the_model_and_only_its_matrices_learn(kind: str, tmp_path: Path) -> None:
    plain = encoder_in(tmp_path, kind).eval()
    encoder = encoder_of(NTFConfig(encoder=str(tmp_path), adaptation="lora", lora={"rank": 2, "alpha": 4})).eval()
    pixels = torch.randn(2, 3, 16, 16)
    assert torch.allclose(encoder(pixels), plain(pixels), atol=1e-6)
    learning = {name for name, value in encoder.named_parameters() if value.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning)
    frozen = {name: value.clone() for name, value in encoder.named_parameters() if name not in learning}
    optimizer = torch.optim.SGD([value for value in encoder.parameters() if value.requires_grad], 1.0)
    direction = torch.randn(encoder.dim)
    for _ in range(2):  # the first step moves only one of the two matrices, which began at zero
        optimizer.zero_grad()
        (encoder(pixels) * direction).sum().backward()
        optimizer.step()
    assert not torch.equal(encoder(pixels), plain(pixels))
    assert all(torch.equal(frozen[name], value) for name, value in encoder.named_parameters() if name in frozen)


def test_targets_of_lora_are_the_ends_of_names(tmp_path: Path) -> None:
    encoder = encoder_in(tmp_path, "dinov2", adaptation="lora", lora={"targets": ["q_proj", "v_proj"]})
    names = [name for name, value in encoder.named_parameters() if value.requires_grad]
    assert len(names) == 2 * 2 * 2  # two layers, two targets, two matrices
    with pytest.raises(InputError, match=r"no layer of the encoder ends in nothing_such.*q_proj"):
        encoder_of(NTFConfig(encoder=str(tmp_path), adaptation="lora", lora={"targets": ["nothing_such"]}))


def test_weights_that_are_missing_are_not_filled_at_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tiny_model("dinov2").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop(next(key for key in tensors if "layer.1" in key))
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="lacks 1 tensor"):
        build_encoder(str(tmp_path))


@pytest.mark.parametrize("text", ["{", '{"image_mean": [1]}', "[]", '{"image_mean": "red"}'])
def test_a_damaged_preprocessor_is_named(tmp_path: Path, text: str) -> None:
    tiny_model("resnet").save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(InputError, match=r"preprocessor_config\.json is damaged"):
        build_encoder(str(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": "mine:build"},
        {"encoder": "FOLDER", "adaptation": "lora", "image_size": 16},
        {"encoder": "FOLDER", "adaptation": "frozen"},
        {"encoder": "efficientnet-lite0", "encoder_layer": 3, "pooling": "mean_std", "frozen_statistics": True},
    ],
    ids=["own", "lora", "frozen", "lite0"],
)
def test_ntf_is_trained_on_it_saved_and_loaded(
    changes: dict[str, Any], splits: DetectionSplits, tiny: NTFConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    tiny_model("dinov2").save_pretrained(tmp_path / "model")
    changes = {key: str(tmp_path / "model") if value == "FOLDER" else value for key, value in changes.items()}
    one = {"stage1": {"epochs": 1}, "stage2": {"epochs": 1}}
    detector = NTFDetector.fit(splits, merge(tiny, {"image_size": None, **changes, **one}), tmp_path / "run", device="cpu")
    assert detector.network.encoder.crop == (20 if changes["encoder"] not in (str(tmp_path / "model"),) else 16)
    images = [splits.test.dataset[row].image for row in range(3)]
    again = load_detector(tmp_path / "run", "cpu")
    assert np.array_equal(again.score(images), detector.score(images))
    for fact in ("name", "crop", "upscale"):
        assert encoder_config(again.network.encoder)[fact] == encoder_config(detector.network.encoder)[fact]


def test_a_stopped_training_with_lora_goes_on_as_if_it_had_not_stopped(splits: DetectionSplits, tiny: NTFConfig, tmp_path: Path) -> None:
    tiny_model("dinov2").save_pretrained(tmp_path / "model")
    config = merge(tiny, {"encoder": str(tmp_path / "model"), "adaptation": "lora", "image_size": 16, "checkpoint_every": 1})
    whole = NTFDetector.fit(splits, config, tmp_path / "whole", device="cpu")
    seen = []

    def stop(done: int, total: int, message: str) -> None:
        seen.append(message)
        if sum("stage2" in text for text in seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        NTFDetector.fit(splits, config, tmp_path / "parts", device="cpu", on_progress=stop)
    parts = NTFDetector.fit(splits, config, tmp_path / "parts", device="cpu", resume=True)
    state = parts.network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in whole.network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine:no_module", "gives no torch module"),
        ("mine:fails", "cannot be built .RuntimeError: out of clay"),
        ("mine:nothing", "defines no function 'nothing'"),
        ("mine:nn", "defines no function 'nn'"),
        ("no_such_module_of_mine:build", "cannot be imported"),
    ],
)
def test_an_own_encoder_that_is_wrong_is_named(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    with pytest.raises(InputError, match=message):
        build_encoder(name)


def test_small_pictures_are_enlarged_and_large_ones_cropped(splits: DetectionSplits) -> None:
    encoder = fit_to_pictures(build_encoder("efficientnet-lite0"), splits.train)
    assert (encoder.crop, encoder.upscale) == (20, 3)  # pictures of 20 px, brought to nearly 64
    assert encoder.enlarge(torch.zeros(1, 3, 20, 20)).shape[-1] == 60
    assert fit_to_pictures(encoder, splits.train, 16, 2).upscale == 2
    assert fit_to_pictures(build_encoder("small"), splits.train).upscale == 1


def test_statistics_that_are_frozen_stay_as_they_were() -> None:
    for frozen in (True, False):
        encoder = encoder_of(NTFConfig(encoder="efficientnet-lite0", encoder_layer=2, frozen_statistics=frozen)).train()
        before = encoder.backbone._bn0.running_mean.clone()
        encoder(torch.randn(4, 3, 32, 32))
        assert torch.equal(before, encoder.backbone._bn0.running_mean) is frozen


def test_a_run_imports_no_code_that_nobody_has_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither from the current folder nor from what is installed, wherever its settings name it."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.py").write_text("from pathlib import Path\nPath('ran').touch()\ndef build(): pass\n")
    for number, settings in enumerate(
        [
            {"config": {"encoder": "theirs:build"}},
            {"config": {}, "backbone": {"name": "theirs:build"}},
            {"config": {"stage1": {"encoder": "webbrowser:main"}}},
            {"config": {"encoder": "posix:abort"}},
        ]
    ):
        (tmp_path / f"run{number}").mkdir()
        (tmp_path / f"run{number}" / "config.json").write_text(json.dumps({"detector": "ntf", **settings}))
        with pytest.raises(InputError, match="which loading it would run") as caught:
            load_detector(tmp_path / f"run{number}", "cpu")
        assert f"{VARIABLE}=" in caught.value.fix
    assert not (tmp_path / "ran").exists()
    monkeypatch.setenv(VARIABLE, "theirs:build")
    with pytest.raises(InputError) as caught:  # it goes on, to what the run lacks
        load_detector(tmp_path / "run0", "cpu")
    assert "would run" not in str(caught.value)
