"""Recipes by name stand for plain steps: the same manifest, written out by hand, has the same shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from flows.program import app
from generators.errors import InputError
from pipelines.manifest.load import load_manifest
from pipelines.manifest.recipes import RECIPES, expanded, written_out
from pipelines.plan.plan import make_plan
from tests.support import write_manifest

LDM, SD, VQ = "ldm/ldm-demo-32", "stable_diffusion/stable-diffusion-demo-32", "vqgan/vqgan-demo-32"
BY = {"aligned": VQ, "dda": VQ, "drct": LDM, "bfree": SD, "rem": LDM}
# What docs/recipes.md says that each recipe is, word for word.
WRITTEN: dict[str, dict[str, Any]] = {
    "aligned": {"edit": "vqgan", "checkpoint": "vqgan-demo-32", "target": "faces", "repeat_targets": False},
    "dda": {
        "edit": "vqgan",
        "checkpoint": "vqgan-demo-32",
        "target": "faces",
        "repeat_targets": False,
        "real_jpeg": 0.5,
        "mix": {
            "pixels": {"chance": 0.2, "real": [0.0, 0.8]},
            "frequency": {"chance": 0.2, "real": [0.0, 0.8], "above": 0.25},
        },
    },
    "drct": {
        "edit": "ldm",
        "checkpoint": "ldm-demo-32",
        "target": "faces",
        "repeat_targets": False,
        "strength": 0.5,
        "steps": 50,
    },
    "bfree": {
        "inpaint": "stable_diffusion",
        "checkpoint": "stable-diffusion-demo-32",
        "target": "faces",
        "repeat_targets": False,
        "mask": {"shape": "box", "area": [0.05, 0.5], "empty": 0.5},
        "keep": "exact",
        "strength": 1.0,
        "steps": 50,
        "safety": "off",
    },
    "rem": {
        "edit": "ldm",
        "checkpoint": "ldm-demo-32",
        "target": "faces",
        "repeat_targets": False,
        "strength": 0,
        "latent_noise": 0.1,
    },
}


def manifest(subsets: dict[str, Any]) -> dict[str, Any]:
    reals = {"faces": {"package": "faces", "count": 60, "licence": "test"}}
    return {"dataset": "recipes", "size": 32, "shard_size": 4, "reals": reals, "subsets": subsets}


def test_each_recipe_has_the_shards_of_the_manifest_written_by_hand(tmp_path: Path) -> None:
    assert WRITTEN.keys() == RECIPES.keys()
    short = {name: {"count": 6, "real": "faces", "recipe": name, "by": by} for name, by in BY.items()}
    long = {name: {"count": 6, "real": "faces", "chain": [step]} for name, step in WRITTEN.items()}
    file = write_manifest(tmp_path / "short.yaml", manifest(short))
    plans = [make_plan(load_manifest(path)) for path in (file, write_manifest(tmp_path / "long.yaml", manifest(long)))]
    assert plans[0].shards == plans[1].shards
    assert plans[0].missing == () and all(shard.key for shard in plans[0].shards)
    assert len({shard.key for shard in plans[0].shards}) == len(plans[0].shards)
    output = CliRunner().invoke(app, ["plan", str(file), "--expand"])
    assert output.exit_code == 0
    assert yaml.safe_load(output.stdout)["subsets"] == long
    (tmp_path / "expanded.yaml").write_text(output.stdout)
    assert make_plan(load_manifest(tmp_path / "expanded.yaml")).shards == plans[0].shards


def test_parameters_go_in_place_of_the_recipes_own_and_beside_them(tmp_path: Path) -> None:
    part = {"count": 2, "real": "faces", "recipe": "drct", "by": SD, "parameters": {"strength": 0.3, "prompt": "a street"}}
    step = expanded(part)["chain"][0]
    assert (step["strength"], step["prompt"], step["steps"], step["safety"]) == (0.3, "a street", 50, "off")
    parts = {"parts": [part, {**part, "recipe": "bfree", "parameters": {"prompt": "a street"}}]}
    file = write_manifest(tmp_path / "m.yaml", manifest({"Two": parts}))
    assert [next(iter(one["chain"][0])) for one in yaml.safe_load(written_out(file))["subsets"]["Two"]["parts"]] == ["edit", "inpaint"]
    assert [part.chain[0].kind for part in load_manifest(file).subsets["Two"].parts] == ["edit", "inpaint"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "alinged"}, "no recipe 'alinged'; known: aligned, dda"),
        ({"by": "vqgan"}, "needs `by: GENERATOR/CHECKPOINT`"),
        ({"by": None}, "needs `by: GENERATOR/CHECKPOINT`"),
        ({"by": "vqgaan/x"}, "no generator 'vqgaan'"),
        ({"by": "vqgan/nothing"}, "no checkpoint 'nothing'"),
        ({"by": "stylegan2/stylegan2-demo-32"}, "stylegan2 has no autoencoder"),
        ({"recipe": "drct"}, "vqgan does not noise and denoise"),
        ({"recipe": "bfree"}, "vqgan cannot inpaint"),
        ({"chain": [{"sample": "vqgan", "checkpoint": "vqgan-demo-32"}]}, "not both"),
        ({"parameters": {"latent_nose": 1}}, "latent_nose"),
        ({"parameters": [1]}, "keys and values"),
        ({"by": LDM, "recipe": "rem", "parameters": {"strength": 0.5}}, "set `strength: 0`"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    part = {"count": 2, "real": "faces", "recipe": "aligned", "by": VQ, **change}
    with pytest.raises(InputError, match=message) as caught:
        load_manifest(write_manifest(tmp_path / "m.yaml", manifest({"Wrong": part})))
    assert "m.yaml, line" in str(caught.value)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"sample": "vqgan", "checkpoint": "vqgan-demo-32", "repeat_targets": False}, "a `target` and without a `source`"),
        ({**WRITTEN["aligned"], "real_jpeg": 0}, "greater than 0"),
        ({**WRITTEN["aligned"], "mix": {}}, "has `pixels`, `frequency` or both"),
        ({**WRITTEN["aligned"], "mix": {"pixels": {"real": [0.5, 1.0]}}}, "less than 1"),
        ({**WRITTEN["aligned"], "mix": {"pixels": {"real": [0.5, 0.2]}}}, "smaller share"),
    ],
)
def test_a_step_that_brings_nothing_nearer_is_refused(tmp_path: Path, step: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_manifest(write_manifest(tmp_path / "m.yaml", manifest({"Wrong": {"count": 2, "real": "faces", "chain": [step]}})))


def test_a_fake_is_not_compressed_as_its_real_twice(tmp_path: Path) -> None:
    data = manifest({"DDA": {"count": 2, "real": "faces", "recipe": "dda", "by": VQ}}) | {"parity": {"jpeg": "reals"}}
    with pytest.raises(InputError, match="would compress it twice"):
        load_manifest(write_manifest(tmp_path / "m.yaml", data))


def test_a_parameter_that_came_later_leaves_the_keys_of_before(tmp_path: Path) -> None:
    def settings(**parameters: Any) -> dict[str, Any]:
        step = {**WRITTEN["rem"], **parameters}
        file = write_manifest(tmp_path / "m.yaml", manifest({"A": {"count": 2, "real": "faces", "chain": [step]}}))
        return load_manifest(file).subsets["A"].parts[0].chain[0].settings()

    assert "latent_noise" not in settings(latent_noise=0) and "strength" in settings(latent_noise=0)
    assert settings()["latent_noise"] == 0.1
