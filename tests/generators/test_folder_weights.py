"""Networks in folders of diffusers and transformers, with their weights in every form that is on the Hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, rmtree

import pytest
import torch
from safetensors.torch import load_file, save_file

from generators import folder_weights, registry
from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError
from generators.methods.ddpm import DDPM
from generators.methods.stable_diffusion import StableDiffusion
from tests.generators.methods import tiny_diffusion as tiny

FILE = "diffusion_pytorch_model.safetensors"
State = dict[str, torch.Tensor]


def resaved(folder: Path, change: Callable[[Path, State], None]) -> Path:
    """A pipeline whose UNet's weights `change` writes anew."""
    unet = tiny.pixel_pipeline(folder) / "unet"
    state = load_file(unet / FILE)
    (unet / FILE).unlink()
    change(unet, state)
    return folder


def _prefixed(prefix: str) -> Callable[[Path, State], None]:
    return lambda unet, state: save_file({f"{prefix}{name}": value for name, value in state.items()}, unet / FILE)


def _sharded(unet: Path, state: State) -> None:
    names = list(state)
    parts = {f"diffusion_pytorch_model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, own in parts.items():
        save_file({name: state[name] for name in own}, unet / file)
    index = {"metadata": {}, "weight_map": {name: file for file, own in parts.items() for name in own}}
    (unet / f"{FILE}.index.json").write_text(json.dumps(index))


FORMS: dict[str, Callable[[Path, State], None]] = {
    "_orig_mod": _prefixed("_orig_mod."),
    "module": _prefixed("module."),
    "bin": lambda unet, state: torch.save(state, unet / "diffusion_pytorch_model.bin"),
    "lightning in a bin": lambda unet, state: torch.save({"state_dict": state, "epoch": 1}, unet / "diffusion_pytorch_model.bin"),
    "sharded": _sharded,
    "query, key, value": lambda unet, state: save_file({_as_before_2023(name): value for name, value in state.items()}, unet / FILE),
}


def _as_before_2023(name: str) -> str:
    for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        name = name.replace(new, old)
    return name


@pytest.mark.parametrize("form", FORMS)
def test_the_same_network_from_every_form(tmp_path: Path, form: str) -> None:
    wanted = tiny.pixel_unet().state_dict()
    network = DDPM.load(Checkpoint(resaved(tmp_path / "p", FORMS[form]))).unet
    assert all(torch.equal(value, wanted[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_half_precision_that_is_there_alone(tmp_path: Path, kind: str) -> None:
    def half(unet: Path, state: State) -> None:
        halved = {name: value.half() for name, value in state.items()}
        file = unet / f"diffusion_pytorch_model.fp16.{kind}"
        save_file(halved, file) if kind == "safetensors" else torch.save(halved, file)

    network = DDPM.load(Checkpoint(resaved(tmp_path / "p", half))).unet
    wanted = tiny.pixel_unet().state_dict()
    assert all(torch.equal(value, wanted[name].half().float()) for name, value in network.state_dict().items())


def test_what_is_missing_is_named_and_nothing_else_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def without_a_block(unet: Path, state: State) -> None:
        save_file({name: value for name, value in state.items() if not name.startswith("mid_block.resnets.0")}, unet / FILE)

    with pytest.raises(CheckpointError, match=r"unet does not fit UNet2DModel: lacks mid_block\.resnets\.0"):
        DDPM.load(Checkpoint(resaved(tmp_path / "p", without_a_block)))
    assert capfd.readouterr() == ("", "")


def test_a_part_of_the_weights_that_was_not_fetched_is_named(tmp_path: Path) -> None:
    folder = resaved(tmp_path / "p", _sharded)
    (folder / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="lacks diffusion_pytorch_model-00002-of-00002"):
        DDPM.load(Checkpoint(folder))


def test_a_text_to_image_pipeline_of_bin_files_is_read_by_our_reader_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = StableDiffusion.load(Checkpoint(tiny.stable_diffusion_pipeline(tmp_path / "p")))
    for file in list((tmp_path / "p").rglob("*.safetensors")):
        stem = "pytorch_model" if file.stem == "model" else file.stem
        torch.save(load_file(file), file.with_name(f"{stem}.bin"))
        file.unlink()
    capfd.readouterr()
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load unpickles"))
    pipeline = StableDiffusion.load(Checkpoint(tmp_path / "p")).pipeline
    for part in ("unet", "vae", "text_encoder"):
        expected = getattr(wanted.pipeline, part).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in getattr(pipeline, part).state_dict().items())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("method", ["ddpm", "ddim", "pndm", "ldm", "stable_diffusion", "text_to_image", "dit", "guided_diffusion", "janus"])
def test_a_folder_with_a_network_alone_is_one_line(tmp_path: Path, method: str, flat: bool) -> None:
    whole = tiny.pixel_pipeline(tmp_path / "p")
    copytree(whole / "unet", tmp_path / "part" if flat else tmp_path / "part" / "unet")
    with pytest.raises(CheckpointError, match=r"part( has no scheduler: there is no .*scheduler_config.json| is )") as refused:
        registry.get(method).load(Checkpoint(tmp_path / "part"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("part", ["scheduler", "vqvae"])
def test_the_part_of_a_pipeline_that_was_not_fetched_is_named(tmp_path: Path, part: str) -> None:
    folder = tiny.latent_pipeline(tmp_path / "p")
    rmtree(folder / part)
    with pytest.raises(CheckpointError, match=f"p has no {part}: there is no .*config.json. Fetch the whole repository"):
        registry.get("ldm").load(Checkpoint(folder))


def test_a_class_that_no_library_here_has(tmp_path: Path) -> None:
    folder = tiny.pixel_pipeline(tmp_path / "p")
    with pytest.raises(CheckpointError, match="diffusers has no class OfTomorrow"):
        folder_weights.load_networks(folder, {"unet": ["diffusers", "OfTomorrow"]})


def test_modules_that_half_precision_spoils_stay_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import UNet2DModel

    monkeypatch.setattr(UNet2DModel, "_keep_in_fp32_modules", ["time_embedding"], raising=False)
    network = folder_weights.load_network(tiny.pixel_pipeline(tmp_path / "p") / "unet", UNet2DModel, torch.bfloat16)
    kinds = {name: value.dtype for name, value in network.named_parameters()}
    assert kinds["conv_in.weight"] == torch.bfloat16
    assert kinds["time_embedding.linear_1.weight"] == torch.float32
