"""Keys change when, and only when, something that decides the pixels changes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from generators import registry
from generators.seeding import derive_seed
from pipelines.images import encode
from pipelines.manifest.deliveries import as_data, expanded
from pipelines.manifest.load import load_manifest
from pipelines.manifest.schema import Codec
from pipelines.plan.keys import DELIVERY_VERSION, key_of, key_of_delivered
from pipelines.plan.plan import Plan, make_plan
from pipelines.plan.shards import image_split, part_seed
from tests.support import stylegan2_checkpoint, write_manifest


def plan(folder: Path, data: dict[str, Any]) -> Plan:
    return make_plan(load_manifest(write_manifest(folder / "m.yaml", data)))


def keys(manifest_plan: Plan) -> dict[tuple[str, str, int, int], str]:
    return {(shard.role, shard.subset or shard.real, shard.step, shard.start): shard.key for shard in manifest_plan.shards}


def changed(folder: Path, data: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> set[tuple[str, str, int]]:
    """Which (role, subset, step) have a shard whose key a change of the manifest changes."""
    before = keys(plan(folder, data))
    change(data)
    after = keys(plan(folder, data))
    return {key[:3] for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


GAN, CHAIN_1, CHAIN_2 = ("final", "StyleGAN2", 0), ("intermediate", "SimSwap_Style2", 0), ("final", "SimSwap_Style2", 1)
DM, REALS = ("final", "DDIM", 0), ("real", "faces", 0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m["subsets"]["DDIM"]["chain"][0].update(steps=3), {DM}),
        (lambda m: m["subsets"]["DDIM"]["chain"][0].update(eta=0.5), {DM}),
        (lambda m: m["subsets"]["SimSwap_Style2"]["chain"][0].update(truncation_psi=0.7), {CHAIN_1, CHAIN_2}),
        (lambda m: m.update(seed=1), {GAN, DM, CHAIN_1, CHAIN_2}),
        (lambda m: m.update(size=48), {GAN, DM, CHAIN_2, REALS}),
        (lambda m: m.update(codec={"format": "jpeg", "quality": 90}), {GAN, DM, CHAIN_2, REALS}),
        # A row says its split, so other splits are other rows.
        (lambda m: m.update(splits={"train": 0.5, "validation": 0.2, "seed": 9}), {GAN, DM, CHAIN_1, CHAIN_2, REALS}),
        (lambda m: m.update(parity={"jpeg": "reals"}), {GAN, DM, CHAIN_2}),
        (lambda m: m.update(parity={"recompress": {"quality": [60, 95]}}), {GAN, DM, CHAIN_2, REALS}),
        (lambda m: m.update(parity={"reconstruct": "ldm/ldm-demo-32"}), {("final", "Reconstruction", 0)}),
        (lambda m: m.update(faces={"padding": 0.3}), {CHAIN_2}),
        (lambda m: m.update(faces={"min_similarity": 0.1}), {CHAIN_2}),
        (lambda m: m.update(faces={"detector": "cascade"}), set()),  # the default
        # What does not decide pixels changes nothing.
        (lambda m: m.update(dataset="other"), set()),
        (lambda m: m.update(attempts=9), set()),
        (lambda m: m.update(allow_missing=3), set()),
        (lambda m: m["reals"]["faces"].update(licence="another"), set()),
        (lambda m: m["checkpoints"]["sg2"].update(trained_on="faces"), set()),
        (lambda m: m.update(detector={"seed": 4}), set()),
        (lambda m: m.update(audit={"gate": False}), set()),
        (lambda m: m["subsets"]["StyleGAN2"]["chain"][0].update(truncation_psi=1.0), set()),  # the default, written out
        (lambda m: m["subsets"].update(dict(reversed(m["subsets"].items()))), set()),
    ],
)
def test_an_ingredient_changes_exactly_the_shards_it_decides(
    tmp_path: Path, manifest_data: dict[str, Any], change: Callable[[dict[str, Any]], None], expected: set[tuple[str, str, int]]
) -> None:
    assert changed(tmp_path, manifest_data, change) == expected


def test_a_key_is_the_sha256_of_canonical_json(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    """Sorted keys, no spaces, ASCII: another form of the same ingredients would make every shard of every store stale."""
    text = '{"a":{"c":null,"d":"x/y"},"b":[1,"\\u00e9"],"recipe":1}'
    assert key_of({"b": [1, "é"], "a": {"d": Path("x/y"), "c": None}}) == hashlib.sha256(text.encode()).hexdigest()
    manifest_data["deliveries"] = {"web": [{"encode": {"webp": [50, 80]}}]}
    planned = plan(tmp_path, manifest_data)
    clean, delivered = planned.shards[0], planned.delivered[0]
    assert delivered.inputs == (clean.key,) and delivered.role == "delivered"
    steps = json.dumps(as_data(expanded(planned.manifest.deliveries["web"])), sort_keys=True, separators=(",", ":"))
    seed = planned.manifest.seed
    text = f'{{"delivery":"web","inputs":["{clean.key}"],"recipe":1,"seed":{seed},"steps":{steps},"version":{DELIVERY_VERSION}}}'
    assert delivered.key == hashlib.sha256(text.encode()).hexdigest()
    assert key_of_delivered(replace(clean, key=""), planned.manifest, "web") == ""


def test_what_decides_the_pixels_of_a_step_is_named_in_its_key(
    tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renamed ingredient would make every shard stale, and one that is lost would keep shards that should be made again."""
    named: list[dict[str, Any]] = []

    def noted(ingredients: dict[str, Any]) -> str:
        named.append(ingredients)
        return key_of(ingredients)

    monkeypatch.setattr("pipelines.plan.keys.key_of", noted)
    plan(tmp_path, manifest_data)
    swap = next(ingredients for ingredients in named if ingredients.get("generator") == "simswap")
    step = {"generator", "output_version", "checkpoint", "kind", "parameters", "prompts"}
    assert swap.keys() == {*step, "faces", "seeds", "inputs", "splits", "draws", "size", "codec"}
    assert (swap["kind"], swap["size"], swap["prompts"]) == ("swap", 32, None)
    assert [len(swap[each]) for each in ("inputs", "splits", "draws")] == [1, 4, 4]
    assert swap["faces"].keys() > {"version", "networks"}
    gan = next(ingredients for ingredients in named if ingredients.get("generator") == "stylegan2")
    assert gan.keys() == {*step, "seeds", "inputs", "splits", "draws", "size", "codec"} and gan["draws"] == []
    assert gan["seeds"][1:] == [0, 0, 4]
    assert named[0].keys() == {"import", "images", "size", "codec"}


def test_the_past_in_a_key_is_that_of_the_drawn_donors(
    tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The donor of an image is the real that the image's own seed falls on among those of its split."""
    named: list[dict[str, Any]] = []

    def noted(ingredients: dict[str, Any]) -> str:
        named.append(ingredients)
        return key_of(ingredients)

    monkeypatch.setattr("pipelines.plan.keys.key_of", noted)
    planned = plan(tmp_path, {**manifest_data, "parity": {"jpeg": "reals", "recompress": {"quality": [60, 95]}}})
    gan = next(ingredients for ingredients in named if ingredients.get("generator") == "stylegan2")
    manifest, pool = planned.manifest, planned.pools["faces"]
    base = part_seed(manifest, "StyleGAN2", "faces", 0)
    splits = [image_split(manifest, "StyleGAN2", "faces", 0, index) for index in range(4)]
    donors = [next(pool.around(derive_seed(base, index, "parity"), split)).sha256 for index, split in enumerate(splits)]
    assert gan["donors"] == donors
    assert gan["parity"] == {"jpeg": "reals", "sizes": manifest.parity.model_dump(mode="json")["sizes"]}
    assert manifest.parity.recompress is not None
    assert gan["recompress"] == named[0]["recompress"] == [manifest.parity.recompress.model_dump(mode="json"), manifest.seed]


def test_another_checkpoint_changes_its_steps_and_what_stands_on_them(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    def swap_weights(data: dict[str, Any]) -> None:
        data["checkpoints"]["sg2"]["file"] = str(stylegan2_checkpoint(tmp_path / "other.safetensors", seed=5))

    assert changed(tmp_path, manifest_data, swap_weights) == {GAN, CHAIN_1, CHAIN_2}


def test_the_same_weights_elsewhere_change_nothing(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    def move(data: dict[str, Any]) -> None:
        data["checkpoints"]["sg2"]["file"] = str(shutil.copy(data["checkpoints"]["sg2"]["file"], tmp_path / "moved.safetensors"))

    assert changed(tmp_path, manifest_data, move) == set()


def test_a_new_output_version_of_the_code_changes_its_steps(
    tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    raised = registry.get("simswap").output_version + 1
    assert changed(tmp_path, manifest_data, lambda _: monkeypatch.setattr(registry.get("simswap"), "output_version", raised)) == {CHAIN_2}


def test_more_images_leave_whole_shards_as_they_were(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    before = keys(plan(tmp_path, manifest_data))
    manifest_data["subsets"]["StyleGAN2"]["count"] = 14
    after = keys(plan(tmp_path, manifest_data))
    gan = {key: value for key, value in before.items() if key[1] == "StyleGAN2"}
    same = [key for key, value in gan.items() if after.get(key) == value]
    assert [key[3] for key in same] == [0, 4]  # of 10 images in shards of 4, the last was partial


def test_one_more_real_changes_few_draws(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    """A source that is added touches only the swaps whose draw falls on it."""
    folder = tmp_path / "reals"
    folder.mkdir()
    rng_images = make_plan(load_manifest(write_manifest(tmp_path / "p.yaml", manifest_data))).pools["faces"].images
    for number, image in enumerate(rng_images):
        (folder / f"{number}.png").write_bytes(encode(image.load(), Codec()))
    manifest_data["reals"]["faces"] = {"path": str(folder), "licence": "test"}
    manifest_data["subsets"]["SimSwap_Style2"]["count"] = 40
    manifest_data["shard_size"] = 1
    before = keys(plan(tmp_path, manifest_data))
    (folder / "new.png").write_bytes(encode(255 - rng_images[0].load(), Codec()))
    after = keys(plan(tmp_path, manifest_data))
    swaps = [key for key in before if key[:2] == ("final", "SimSwap_Style2")]
    moved = sum(before[key] != after[key] for key in swaps)
    assert moved <= len(swaps) // 4
