"""Real-ESRGAN, GFPGAN and CodeFormer as methods, with the small made-up weights of the parity cases."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError, InputError
from generators.methods.codeformer import CodeFormer
from generators.methods.gfpgan import GFPGAN
from generators.methods.real_esrgan import RealESRGAN
from generators.networks.restoration import gfpgan as gfpgan_network
from generators.networks.restoration.gfpgan_decoder import ModulatedConv
from generators.networks.restoration.rrdb import RRDBNet
from generators.networks.restoration.srvgg import SRVGGNetCompact
from tests.parity.cases import HERE, Case

CASES = HERE / "cases"
RNG = np.random.default_rng(0)


def released(folder: Path, case: str, key: str = "params_ema", legacy: bool = False) -> Path:
    """A torch file with a case's weights under the key of the releases."""
    file = folder / f"{case.replace('/', '-')}.pth"
    torch.save({key: Case(CASES / case).weights(key)}, file, _use_new_zipfile_serialization=not legacy)
    return file


def pictures(count: int, height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def x2(tmp_path_factory: pytest.TempPathFactory) -> RealESRGAN:
    return RealESRGAN.load(Checkpoint(released(tmp_path_factory.mktemp("x2"), "realesrgan/enhance_x2_small")))


@pytest.fixture(scope="module")
def gfpgan(tmp_path_factory: pytest.TempPathFactory) -> GFPGAN:
    return GFPGAN.load(Checkpoint(released(tmp_path_factory.mktemp("gfpgan"), "gfpgan/clean64_small", legacy=True)))


def test_the_full_networks_have_as_many_values_as_the_releases() -> None:
    with torch.device("meta"):
        counts = {
            "x4": RRDBNet(4),
            "x2": RRDBNet(2),
            "anime": RRDBNet(4, num_block=6),
            "general": SRVGGNetCompact(num_conv=32),
            "video": SRVGGNetCompact(num_conv=16),
            "gfpgan": gfpgan_network.GFPGAN((256,) * 5 + (128, 64, 32), (512,) * 5 + (256, 128, 64), 512, 8, True, True),
        }
    assert {name: (len(net.state_dict()), sum(value.numel() for value in net.state_dict().values())) for name, net in counts.items()} == {
        "x4": (702, 16_697_987),
        "x2": (702, 16_703_171),
        "anime": (192, 4_467_779),
        "general": (101, 1_213_296),
        "video": (53, 621_424),
        "gfpgan": (285, 87_143_276),
    }


@pytest.mark.parametrize("size", [(33, 47), (1, 5), (16, 16)])
def test_a_picture_of_any_size_comes_back_twice_as_large(x2: RealESRGAN, size: tuple[int, int]) -> None:
    assert x2.edit(pictures(1, *size), [0]).shape == (1, 2 * size[0], 2 * size[1], 3)
    assert x2.edit(pictures(1, *size), [0], outscale=1).shape == (1, *size, 3)


def test_tiles_with_enough_around_them_are_the_whole(x2: RealESRGAN) -> None:
    picture = pictures(1, 41, 37)
    whole = x2.edit(picture, [0]).astype(int)
    assert np.abs(x2.edit(picture, [0], tile=16, tile_pad=64) - whole).max() <= 1
    assert np.abs(x2.edit(picture, [0], tile=16, tile_pad=0) - whole).max() > 1
    assert x2.edit(picture, [0], tile=7, tile_pad=3).shape == whole.shape  # odd tiles, which the original cannot do


def test_denoise_strength_mixes_two_files(tmp_path: Path) -> None:
    case = Case(CASES / "realesrgan/enhance_general_dni")
    for name in ("params", "params_wdn"):
        torch.save({"params": case.weights(name)}, tmp_path / f"{name}.pth")
    general, wdn = Checkpoint(tmp_path / "params.pth"), Checkpoint(tmp_path / "params_wdn.pth")
    picture = pictures(1, 12, 12)
    both = RealESRGAN.load(Checkpoint(general.path, components={"wdn": wdn}))
    half = both.edit(picture, [0])
    assert np.array_equal(both.edit(picture, [0], denoise_strength=1), RealESRGAN.load(general).edit(picture, [0]))
    assert np.array_equal(both.edit(picture, [0], denoise_strength=0), RealESRGAN.load(wdn).edit(picture, [0]))
    assert np.array_equal(both.edit(picture, [0], denoise_strength=0.5), half)
    assert not np.array_equal(both.edit(picture, [0], denoise_strength=0.2), half)
    with pytest.raises(InputError, match="denoise_strength needs the component 'wdn'"):
        RealESRGAN.load(general).edit(picture, [0], denoise_strength=0.3)


def test_noise_comes_from_the_images_own_seed(gfpgan: GFPGAN) -> None:
    faces, seeds = pictures(3, 64, 64), [5, 6, 5]
    batch = gfpgan.edit(faces, seeds, region="picture").astype(int)
    for place, seed in enumerate(seeds):
        alone = gfpgan.edit(faces[place : place + 1], [seed], region="picture")[0]
        assert np.abs(alone - batch[place]).max() <= 1
    assert np.abs(gfpgan.edit(faces, [1, 2, 3], region="picture") - batch).max() > 1, "the seed changes nothing"
    still = gfpgan.edit(faces, [1, 2, 3], region="picture", noise_mode="const")
    assert np.array_equal(still, gfpgan.edit(faces, [4, 5, 6], region="picture", noise_mode="const"))


def test_codeformer_alone_and_in_a_batch(tmp_path: Path) -> None:
    model = CodeFormer.load(Checkpoint(released(tmp_path, "codeformer/small64"), {"n_head": 4}))
    faces = pictures(3, 64, 64)
    batch = model.edit(faces, [0, 1, 2], region="picture").astype(int)
    for place in range(3):
        assert np.abs(model.edit(faces[place : place + 1], [9], region="picture")[0] - batch[place]).max() <= 1
    faithful = model.edit(faces, [0, 1, 2], region="picture", fidelity_weight=1)
    assert not np.array_equal(faithful, batch)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"region": "picture", "upscale": 2}, "upscale is a setting of `region: face`"),
        ({"region": "picture", "mask": "square"}, "mask is a setting of `region: face`"),
        ({"fidelity_weight": 0.5}, "fidelity_weight"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        GFPGAN.parse_parameters(parameters)


def test_outscale_with_faces_is_refused() -> None:
    with pytest.raises(InputError, match="outscale is a setting of `region: picture`"):
        RealESRGAN.parse_parameters({"region": "face", "outscale": 2})


def test_files_of_other_networks_are_refused_by_name(tmp_path: Path) -> None:
    def saved(state: dict[str, torch.Tensor]) -> Checkpoint:
        torch.save({"params": state}, tmp_path / "other.pth")
        return Checkpoint(tmp_path / "other.pth")

    one = torch.zeros(1)
    with pytest.raises(CheckpointError, match=re.escape("GFPGANv1 (the paper's model)")):
        GFPGAN.load(saved({"conv_body_first.0.weight": one}))
    with pytest.raises(CheckpointError, match="RestoreFormer"):
        GFPGAN.load(saved({"encoder.conv_in.weight": one}))
    with pytest.raises(CheckpointError, match="no GFPGAN"):
        GFPGAN.load(saved({"conv0.weight": one}))
    with pytest.raises(CheckpointError, match="no CodeFormer"):
        CodeFormer.load(saved({"conv0.weight": one}))
    with pytest.raises(CheckpointError, match="no network of Real-ESRGAN's"):
        RealESRGAN.load(saved({"conv0.weight": one}))
    with pytest.raises(CheckpointError, match="older ESRGAN's names"):
        RealESRGAN.load(saved({"conv_first.weight": one, "RRDB_trunk.0.RDB1.conv1.weight": one}))
    with pytest.raises(CheckpointError, match="conv_first takes 5 channels"):
        RealESRGAN.load(saved({"conv_first.weight": torch.zeros(8, 5, 3, 3), "body.0.rdb1.conv1.weight": torch.zeros(4, 8, 3, 3)}))


def test_a_cut_network_and_wrong_heads_are_refused(tmp_path: Path) -> None:
    state = Case(CASES / "codeformer/small64").weights("params_ema")
    torch.save({"params_ema": state}, tmp_path / "whole.pth")
    with pytest.raises(CheckpointError, match="cannot have 7 heads"):
        CodeFormer.load(Checkpoint(tmp_path / "whole.pth", {"n_head": 7}))
    del state["fuse_convs_dict.32.shift.2.bias"]
    torch.save({"params_ema": state}, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match="lacks fuse_convs_dict"):
        CodeFormer.load(Checkpoint(tmp_path / "cut.pth", {"n_head": 4}))


def test_large_styles_are_taken_out_again_in_half_precision() -> None:
    """A style of 300 has a square that float16 does not hold; the demodulation would make the map 0, which is finite and not seen."""
    torch.manual_seed(0)
    conv = ModulatedConv(8, 4, 3, 6, demodulate=True).requires_grad_(False)
    torch.nn.init.normal_(conv.weight, std=0.1)
    conv.modulation.weight.zero_()
    conv.modulation.bias.fill_(300.0)
    x, style = torch.randn(2, 8, 5, 5), torch.randn(2, 6)
    wanted = conv(x, style)
    assert wanted.std() > 0.5 and torch.allclose(conv.half()(x.half(), style.half()).float(), wanted, atol=2e-2)
