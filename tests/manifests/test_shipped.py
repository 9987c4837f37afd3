"""The manifests that ship with the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.data import find_manifest, plan_of
from pipelines.catalogue.catalogue import Catalogue
from pipelines.manifest.load import load_manifest

# Table 1 of the paper: subset, fakes, training sources.
TABLE_1 = {
    "ProGAN": (4000, 1),
    "StyleGAN2": (12000, 3),
    "ProjectedGAN": (12000, 3),
    "VQGAN": (4000, 1),
    "Diff-StyleGAN2": (8000, 2),
    "SimSwap": (4000, 1),
    "DDPM": (8000, 2),
    "DDIM": (4000, 1),
    "PNDM": (12000, 2),
    "DiffFace": (2000, 1),
    "LDM": (8000, 2),
    "StableDM": (4000, 1),
    "SimSwap_Style2": (2000, 1),
    "SimSwap_VQ": (2000, 1),
    "SimSwap_LDM": (2000, 1),
    "DiffFace_Style2": (2000, 1),
    "DiffFace_Proj": (2000, 1),
    "DiffFace_LDM": (2000, 1),
}


def test_the_papers_manifest_is_table_1() -> None:
    manifest = load_manifest(find_manifest("paper"))
    assert {name: (subset.count, len(subset.reals)) for name, subset in manifest.subsets.items()} == TABLE_1
    assert sum(subset.count for subset in manifest.subsets.values()) == 94_000


def test_hybrid_modes_are_the_true_ones() -> None:
    manifest = load_manifest(find_manifest("paper"))
    modes = {name: subset.mode for name, subset in manifest.subsets.items() if "_" in name}
    assert modes == {
        "SimSwap_Style2": "GAN-GAN",
        "SimSwap_VQ": "GAN-GAN",
        "SimSwap_LDM": "GAN-DM",
        "DiffFace_Style2": "DM-GAN",
        "DiffFace_Proj": "DM-GAN",
        "DiffFace_LDM": "DM-DM",
    }


def test_without_checkpoints_the_plan_names_every_file_and_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTF_CHECKPOINTS", str(tmp_path))
    plan = plan_of("paper")
    catalogue = Catalogue.shipped()
    needed = {step.checkpoint for _, _, part in plan.manifest.walk() for step in part.chain}
    needed |= {role for name in needed for role in catalogue.entries[name].components.values()}
    named = {missing.what.removeprefix("checkpoint ") for missing in plan.missing if missing.what.startswith("checkpoint ")}
    assert named == needed
    assert all(
        missing.path.startswith(str(tmp_path)) and missing.origin for missing in plan.missing if missing.what.startswith("checkpoint")
    )
    assert {missing.what for missing in plan.missing} - {f"checkpoint {name}" for name in named} == {
        f"real source {name}" for name in plan.manifest.reals
    }


def test_the_demo_is_complete_and_every_split_has_reals() -> None:
    plan = plan_of("demo")
    assert plan.missing == ()
    assert plan.warnings == ()
    assert all(shard.key for shard in plan.shards)
