"""Inpainting from the manifest to the store, the exports, the report and the reader of masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from generators.errors import InputError
from pipelines.build.build import run_build, status
from pipelines.examine.verify import verify
from pipelines.export.export import Export, export
from pipelines.images import decode
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import Plan, make_plan
from pipelines.reading import MaskDataset, read_table
from pipelines.store import Store
from tests.support import write_manifest

PAINT = {"inpaint": "stable_diffusion", "checkpoint": "stable-diffusion-demo-32", "steps": 2, "strength": 1.0, "safety": "off"}
BOX = {"shape": "box", "area": [0.1, 0.3]}


def planned(folder: Path, subsets: dict[str, Any]) -> Plan:
    data = {
        "dataset": "painted",
        "size": 48,
        "audit": {"gate": False},
        "reals": {"faces": {"package": "faces", "count": 30, "licence": "research"}},
        "subsets": {name: {"count": 2, "real": "faces", "chain": chain} for name, chain in subsets.items()},
    }
    return make_plan(load_manifest(write_manifest(folder / "m.yaml", json.loads(json.dumps(data)))))


def test_outside_the_mask_the_original_stands_and_the_mask_goes_everywhere(tmp_path: Path) -> None:
    """The pictures of the dataset are larger than the model's, so that putting back in the model's size would not do."""
    first = {**PAINT, "target": "faces", "prompt": "a sky"}
    chains = {
        "Box": [{**first, "mask": dict(BOX)}],
        "Own": [{**first, "mask": dict(BOX), "keep": "pipeline"}],
        "Twice": [{"from": "Box"}, {**PAINT, "mask": "brush"}],
    }
    plan, store = planned(tmp_path, chains), Store(tmp_path / "store", "painted")
    assert run_build(plan, store, "cpu").short == {}
    rows = {row.id: row for row in store.rows(images=True)}
    pixels = {name: decode(row.image or b"", name).astype(int) for name, row in rows.items()}
    painted = [row for row in rows.values() if row.role == "final"]
    assert len(painted) == 6
    for row in painted:
        mask = decode(row.mask or b"", row.id)[..., 0] > 127
        assert mask.shape == (48, 48)
        assert mask.any() and not mask.all()
        assert row.measures["mask_share"] == pytest.approx(mask.mean(), abs=1e-3)
        changed = np.abs(pixels[row.id] - pixels[row.target_id or ""]).max(-1)
        assert changed[mask].mean() > 5
        assert (changed[~mask].max() == 0) == (row.subset != "Own")
        assert row.chain[-1]["mask"]["shape"] == ("brush" if row.subset == "Twice" else "box")
    assert status(plan, store).missing == ()
    assert set(verify(store, sample=6).remade.values()) <= {"bit-exact", "within one grey level"}

    table = read_table(store)
    for split in table.splits.values():
        for item in (MaskDataset(store, store.version().number, split)[index] for index in range(len(split))):
            assert item.known
            assert item.mask.any() == bool(item.label)

    folder = export(store, tmp_path / "folders", Export("folders")).folder
    index = {row["id"]: row for row in map(json.loads, (folder / "rows.jsonl").read_text().splitlines())}
    for row in painted:
        file = Path(index[row.id]["file"])
        mask = cv2.imread(str(folder / file.parent.parent / "mask" / f"{file.stem}.png"), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(mask > 127, decode(row.mask or b"", row.id)[..., 0] > 127)
        assert index[row.id]["partner"] == row.target_id
    for form in ("webdataset", "parquet", "imagefolder", "lance"):
        assert export(store, tmp_path / form, Export(form)).images == len(index)


def test_a_seed_and_an_area_decide_the_mask_and_the_key(tmp_path: Path) -> None:
    first = {**PAINT, "target": "faces"}
    kinds = [BOX, {"shape": "box", "area": [0.1, 0.2]}, {"shape": "ellipse"}]
    plans = [planned(tmp_path, {"Box": [{**first, "mask": dict(kind)}]}) for kind in kinds]
    plans.append(planned(tmp_path, {"Box": [{**first, "mask": dict(BOX), "keep": "pipeline"}]}))
    assert len({shard.key for plan in plans for shard in plan.shards if shard.role == "final"}) == 4


def test_prompts_in_a_file_have_the_key_of_the_same_prompts_in_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a sky\n\n  a wall\n")
    step = {"prompt": "stable_diffusion", "checkpoint": "stable-diffusion-demo-32", "steps": 2, "safety": "off"}
    said: list[Any] = [["a sky", "a wall"], str(tmp_path / "p.txt"), ["a wall", "a sky"]]
    keys = [[shard.key for shard in planned(tmp_path, {"Said": [{**step, "prompts": prompts}]}).shards] for prompts in said]
    assert all(keys[0]) and keys[0] == keys[1] != keys[2]


def test_masks_of_a_folder_are_those_of_the_reals_of_their_names(tmp_path: Path) -> None:
    """From the plan to the store: the left half of each picture is reworked and the right half is that of the real."""
    rng = np.random.default_rng(0)
    for number in range(12):
        for folder, pixels in (("reals", rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)), ("masks", np.zeros((48, 48), np.uint8))):
            if folder == "masks":
                pixels[:, :24] = 255
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    step = {**PAINT, "target": "faces", "mask": {"folder": str(tmp_path / "masks")}}
    data = {
        "dataset": "painted",
        "size": 48,
        "audit": {"gate": False},
        "reals": {"faces": {"path": str(tmp_path / "reals"), "licence": "own"}},
        "subsets": {"Half": {"count": 2, "real": "faces", "chain": [step]}},
    }
    plan = make_plan(load_manifest(write_manifest(tmp_path / "m.yaml", data)))
    store = Store(tmp_path / "store", "painted")
    assert run_build(plan, store, "cpu").short == {}
    painted = [row for row in store.rows(images=True) if row.role == "final"]
    assert len(painted) == 2
    for row in painted:
        mask = decode(row.mask or b"", row.id)[..., 0] > 127
        assert mask[:, :24].all() and not mask[:, 24:].any()


def test_the_pictures_of_a_folder_of_masks_decide_the_key(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    keys = []
    for colour in ("white", "black", "white"):
        Image.new("L", (48, 48), colour).save(tmp_path / "masks" / "a.png")
        plan = planned(tmp_path, {"Box": [{**PAINT, "target": "faces", "mask": {"folder": str(tmp_path / "masks")}}]})
        keys.append(next(shard.key for shard in plan.shards if shard.role == "final"))
    assert keys[0] == keys[2] != keys[1]
    (tmp_path / "masks" / "a.png").rename(tmp_path / "masks" / "a.txt")
    with pytest.raises(InputError, match=r"the folder of masks .* has no pictures"):
        planned(tmp_path, {"Box": [{**PAINT, "target": "faces", "mask": {"folder": str(tmp_path / "masks")}}]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "needs a `mask`"),
        ({"mask": {"face": "hair"}}, "a mask of a face needs a face parser"),
        ({"mask": "star"}, "star"),
        ({"mask": "box", "target": None}, "has nothing to work on"),
        ({"mask": {"folder": "nowhere"}}, "no folder of masks .*nowhere"),
    ],
)
def test_an_inpaint_step_that_cannot_be_made_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    step = {key: value for key, value in {**PAINT, "target": "faces", **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        planned(tmp_path, {"Box": [step]})
