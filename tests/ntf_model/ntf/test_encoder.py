"""Encoders: what they give, that they come back from their configuration, and that nothing is fetched unasked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, ResNetConfig, ResNetModel, ViTConfig, ViTModel

from ntf_model.data.data import DetectionSplits
from ntf_model.errors import InputError
from ntf_model.ntf.config import NTFConfig, merge
from ntf_model.ntf.encoder import build_encoder, encoder_config, last_feature_map
from ntf_model.ntf.ntf import NTFDetector

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
