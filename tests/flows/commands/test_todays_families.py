"""One manifest with every small family, a picture reworked inside a mask, SimSwap then GFPGAN, and pairs of the same picture: from
`ntf build` to the report, with the bars that each family has to meet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.images import decode
from pipelines.make.regions import swaps
from pipelines.store import Row, Store
from tests.commands import Answer
from tests.generators.text_to_image import tiny_families as tiny
from tests.generators.text_to_image.tiny_further import ALL
from tests.parity.cases import HERE, Case
from tests.pipelines.make.regions.test_edits import Anywhere
from tests.support import simswap_checkpoint, write_manifest

SIZE = 64
PROMPTS = ["a cat", "a red dog that sits beside a cat on the wall of a garden", "a dog"]
STRENGTHS = {"Kept": 0, "Half": 0.5, "Whole": 1}
CANNOT_PAINT = ("sana-sprint", "kandinsky3")
Ntf = Callable[..., Answer]


def pictures(store: Store, role: str = "final") -> dict[str, np.ndarray]:
    return {row.id: decode(row.image or b"", row.id).astype(int) for row in store.rows(f"role = '{role}'", images=True)}


def entries(folder: Path) -> dict[str, Any]:
    """Every family's folder as a checkpoint, and what swaps and restores."""
    files: dict[str, dict[str, Any]] = {}
    for name in ALL:
        options = {"size": SIZE}
        files[name] = {"generators": ["text_to_image"], "file": str(tiny.save(name, folder / name, ALL)), "options": options}
    case = Case(HERE / "cases" / "gfpgan" / "clean64_small")
    torch.save({"params_ema": case.weights("params_ema")}, folder / "gfpgan.pth")
    swap = simswap_checkpoint(folder / "swap.safetensors")
    files["swap"] = {"generators": ["simswap"], "file": str(swap), "options": {"crop": "simswap"}}
    files["gfpgan"] = {"generators": ["gfpgan"], "file": str(folder / "gfpgan.pth")}
    return {name: {**entry, "licence": "test"} for name, entry in files.items()}


def manifest(folder: Path, dataset: str, subsets: dict[str, list[dict[str, Any]]], checkpoints: dict[str, Any], **more: Any) -> Path:
    data = {
        "dataset": dataset,
        "size": SIZE,
        "splits": {"train": 0.5, "validation": 0.2},
        "reals": {"faces": {"package": "faces", "licence": "test", "count": 60}},
        "checkpoints": checkpoints,
        "subsets": {name: {"count": 3, "real": "faces", "chain": chain} for name, chain in subsets.items()},
    }
    return write_manifest(folder / f"{dataset}.yaml", json.loads(json.dumps(data | more)))  # no object twice: YAML would write anchors


def first(name: str) -> dict[str, Any]:
    """The step that makes a family's images from texts."""
    return {"prompt": "text_to_image", "checkpoint": name, "steps": 3, "prompts": PROMPTS}


def again(name: str, kind: str, **settings: Any) -> dict[str, Any]:
    """A step that reworks real images with a family."""
    return {
        kind: "text_to_image",
        "checkpoint": name,
        "steps": 4,
        "prompt": "a dog",
        "target": "faces",
        **settings,
    }


def differences(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, int]:
    return {name: int(np.abs(one[name] - other[name]).max()) for name in one}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_family_meets_the_bars_through_builds(ntf: Ntf, tmp_path: Path) -> None:
    """Shards of one image and of three give the same pictures; all have the asked size; edits at 0, 0.5 and 1; painted inside alone."""
    subsets: dict[str, list[dict[str, Any]]] = {}
    for name in ALL:
        subsets[name] = [first(name)]
        for suffix, strength in STRENGTHS.items():
            subsets[f"{name}-{suffix}"] = [again(name, "edit", strength=strength)]
        if name not in CANNOT_PAINT:
            subsets[f"{name}-Painted"] = [again(name, "inpaint", strength=1.0, mask={"shape": "box", "area": [0.1, 0.3]})]
    checkpoints = entries(tmp_path)
    stores = {}
    for shard_size in (1, 3):
        dataset = f"bars{shard_size}"
        file = manifest(tmp_path, dataset, subsets, checkpoints, shard_size=shard_size, audit={"gate": False})
        built = ntf("build", str(file), "--device", "cpu")
        assert built.code == 0, built.err
        stores[shard_size] = Store(tmp_path / "store", dataset)
    alone, together = pictures(stores[1]), pictures(stores[3])
    assert alone.keys() == together.keys() and len(alone) == 3 * len(subsets) and len(ALL) >= 16
    assert {name: worst for name, worst in differences(alone, together).items() if worst > 1} == {}
    assert {picture.shape for picture in together.values()} == {(SIZE, SIZE, 3)}

    reals = pictures(stores[3], "real")
    rows = {row.id: row for row in stores[3].rows("role = 'final'", images=True)}
    assert {name: row.subset for name, row in rows.items() if together[name].std() < 5} == {}, "a flat picture shows nothing"
    for name, row in rows.items():
        if row.subset.endswith("-Painted"):
            mask = decode(row.mask or b"", name)[..., 0] > 127
            changed = np.abs(together[name] - reals[row.target_id or ""]).max(-1)
            assert mask.any() and changed[mask].any() and changed[~mask].max() == 0, name
    for family in ALL:
        kept, half, whole = (next(name for name, row in rows.items() if row.subset == f"{family}-{suffix}") for suffix in STRENGTHS)
        assert not np.array_equal(together[kept], together[half]) and not np.array_equal(together[half], together[whole]), family

    refused = manifest(tmp_path, "refused", {"P": [again("sana-sprint", "inpaint", mask="box")]}, checkpoints)
    answer = ntf("build", str(refused), "--device", "cpu")
    assert answer.code == 2 and "Traceback" not in answer.err
    assert "cannot inpaint" in answer.err and len(answer.err.strip().splitlines()) <= 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_one_manifest_from_the_build_to_the_report(ntf: Ntf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swaps, "load_detector", lambda *_: Anywhere((12, 12)))
    swap = {"swap": "simswap", "checkpoint": "swap", "source": "faces"}
    restore = {"edit": "gfpgan", "checkpoint": "gfpgan", "mask": "square"}
    subsets: dict[str, list[dict[str, Any]]] = {name: [first(name)] for name in ALL}
    subsets["Painted"] = [again("sd3", "inpaint", strength=1.0, mask={"shape": "ellipse", "area": [0.1, 0.3]})]
    subsets["SimSwap"] = [{**swap, "target": "faces"}]
    subsets["SimSwap_GFPGAN"] = [{"from": "SimSwap"}, restore]
    subsets["SimSwap_sd3"] = [{"from": "sd3"}, swap]
    file = manifest(tmp_path, "today", subsets, entries(tmp_path), shard_size=3)
    built = ntf("build", str(file), "--device", "cpu")
    assert built.code == 0, built.err + built.out
    store = Store(tmp_path / "store", "today")
    rows = store.rows("role = 'final'", images=True)
    by_subset: dict[str, list[Row]] = {}
    for row in rows:
        by_subset.setdefault(row.subset, []).append(row)
    assert {name: len(those) for name, those in by_subset.items()} == dict.fromkeys(subsets, 3)
    assert {row.width for row in rows} == {SIZE}
    for subset in ("Painted", "SimSwap", "SimSwap_GFPGAN", "SimSwap_sd3"):
        assert all(row.mask for row in by_subset[subset]), subset

    verified = ntf("store", "verify", "today", "--sample", "20", "--device", "cpu")
    assert verified.code == 0, verified.out
    assert ntf("audit", "today").code == 0
    exported = ntf("export", "today", str(tmp_path / "out"))
    assert exported.code == 0, exported.err
    index = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    partners = {row["id"]: row["partner"] for row in index if row.get("partner")}
    assert {row["subset"] for row in index if row.get("mask_sha256")} == {"Painted", "SimSwap", "SimSwap_GFPGAN", "SimSwap_sd3"}
    assert len([name for name in partners if name.startswith("SimSwap_sd3/")]) == 3
    pairs = ntf("store", "pairs", "today")
    assert pairs.code == 0 and "SimSwap_sd3/faces/000002" in pairs.out and "sd3/faces/000002" in pairs.out
    assert ntf("report", "today", "--output", str(tmp_path / "report.html")).code == 0
    page = (tmp_path / "report.html").read_text()
    assert all(name in page for name in subsets)
