"""What a manifest says of its subsets and parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.manifest.load import load_manifest
from pipelines.manifest.schema import RECONSTRUCTION, Manifest
from tests.support import write_manifest


def test_a_chain_is_named_by_the_families_of_its_steps(manifest_file: Path) -> None:
    subsets = load_manifest(manifest_file).subsets
    assert (subsets["SimSwap_Style2"].mode, subsets["SimSwap_Style2"].family) == ("GAN-GAN", "multi-step")
    assert (subsets["DDIM"].mode, subsets["DDIM"].family) == ("DM", "DM")


def of_parts(manifest_data: dict[str, Any]) -> Manifest:
    part = manifest_data["subsets"]["DDIM"]
    manifest_data["reals"]["others"] = manifest_data["reals"]["faces"]
    parts = [{**part, "count": 5}, {**part, "real": "others"}, {**part, "count": 9}]
    return Manifest.model_validate({**manifest_data, "subsets": {"DDIM": {"parts": parts}}})


def test_parts_are_numbered_by_their_real_source(manifest_data: dict[str, Any]) -> None:
    manifest = of_parts(manifest_data)
    assert [(name, part.real, number) for name, number, part in manifest.walk()] == [
        ("DDIM", "faces", 0),
        ("DDIM", "others", 0),
        ("DDIM", "faces", 1),
    ]
    assert all(manifest.part(name, part.real, number) is part for name, number, part in manifest.walk())
    assert manifest.subsets["DDIM"].reals == ("faces", "others")
    with pytest.raises(IndexError):
        manifest.part("DDIM", "others", 1)


def test_a_limit_bounds_every_part(manifest_data: dict[str, Any]) -> None:
    assert [part.count for part in of_parts(manifest_data).limited(6).subsets["DDIM"].parts] == [5, 6, 6]


def test_reconstruction_takes_the_largest_part_of_each_source(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    manifest_data["parity"] = {"reconstruct": "ldm/ldm-demo-32"}
    largest = max(subset["count"] for subset in manifest_data["subsets"].values())
    manifest = load_manifest(write_manifest(tmp_path / "m.yaml", manifest_data))
    (part,) = manifest.subsets[RECONSTRUCTION].parts
    assert (part.real, part.count, part.chain[0].kind, part.chain[0].target) == ("faces", largest, "edit", "faces")
