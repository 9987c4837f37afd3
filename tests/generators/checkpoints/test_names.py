"""What programs put around the names of a network's tensors comes off, for every method; what is a release's own stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from generators import registry
from generators.checkpoints import Checkpoint, read, read_weights
from generators.checkpoints.names import plain_names
from tests.support import simswap_checkpoint, stylegan2_checkpoint

NETWORK = ["conv_in.weight", "mid.attn.to_q.weight", "mid.attn.to_q.bias"]
WRAPPERS = [
    *("module.", "_orig_mod.", "state_dict.", "model_state_dict.", "params_ema.", "state_dict.module.", "module._orig_mod."),
    *("_orig_mod.module.", "state_dict._orig_mod.module."),
]


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_come_off_in_any_order(wrapper: str) -> None:
    assert plain_names([f"{wrapper}{name}" for name in NETWORK]) == {name: f"{wrapper}{name}" for name in NETWORK}


def test_a_compiled_part_inside_a_network() -> None:
    assert plain_names(["a.weight", "blocks.0._orig_mod.attn.weight"]).keys() == {"a.weight", "blocks.0.attn.weight"}


@pytest.mark.parametrize(
    ("trained", "average"),
    [
        ("state_dict", "state_dict_ema"),
        ("params", "params_ema"),
        ("model", "ema"),
        ("model", "model_ema"),
        ("state_dict", "ema_state_dict"),
    ],
)
def test_of_weights_that_are_there_twice_the_average_stays(trained: str, average: str) -> None:
    names = [f"{top}.{name}" for top in (trained, average) for name in NETWORK] + ["optimizer.state.0.exp_avg", "epoch"]
    assert plain_names(names) == {name: f"{average}.{name}" for name in NETWORK}


def test_a_training_programs_model() -> None:
    names = [*(f"model.module.{name}" for name in NETWORK), "optimizer.state.0.exp_avg"]
    assert plain_names(names) == {name: f"model.module.{name}" for name in NETWORK}


@pytest.mark.parametrize(
    "names",
    [
        ["formatLayer.module.weight", "formatLayer.module.bias", "scaleLayers.0.0.module.weight"],  # pytorch_GAN_zoo's own
        ["model.diffusion_model.a.weight", "first_stage_model.b.weight", "model_ema.diffusion_modelaweight"],  # latent-diffusion's own
        ["G_ema.synthesis.b4.const", "G.synthesis.b4.const", "D.b4.fc.weight"],
        ["model.layer1.weight", "head.weight"],
        ["module.a.weight", "module.b.weight", "other.weight"],  # not all that there is
        ["params.a.weight", "params_ema.b.weight"],
        ["_orig_mod.a", "a"],  # two names would become one
    ],
)
def test_what_is_a_releases_own_stays(names: list[str]) -> None:
    assert plain_names(names) == {name: name for name in names}


@given(st.lists(st.text("am._module", min_size=1, max_size=12), max_size=8, unique=True))
def test_no_tensor_is_ever_named_by_two_names(names: list[str]) -> None:
    plain = plain_names(names)
    assert set(plain.values()) <= set(names)
    assert len(set(plain.values())) == len(plain)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("method", ["stylegan2", "simswap"])
def test_methods_read_wrapped_weights(tmp_path: Path, method: str, wrapper: str) -> None:
    make: Any = {"stylegan2": stylegan2_checkpoint, "simswap": simswap_checkpoint}[method]
    plain = read(make(tmp_path / "plain.safetensors"))
    nested: Any = {name: value.clone() for name, value in plain.tensors.items()}
    for part in reversed(wrapper.rstrip(".").split(".")):
        nested = (
            {part: nested} if part.endswith(("state_dict", "params_ema")) else {f"{part}.{name}": value for name, value in nested.items()}
        )
    torch.save(nested, tmp_path / "wrapped.pt")
    assert read_weights(tmp_path / "wrapped.pt").tensors.keys() == plain.tensors.keys()
    registry.get(method).load(Checkpoint(tmp_path / "wrapped.pt", plain.config))
