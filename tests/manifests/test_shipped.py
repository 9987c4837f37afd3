"""The manifests that ship with the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.data import find_manifest, plan_of
from pipelines.catalogue.catalogue import Catalogue
from pipelines.manifest.chains import ChainStep
from pipelines.manifest.load import load_manifest
from pipelines.plan.keys import prompts_of

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


def prompt_steps(name: str) -> list[tuple[str, ChainStep]]:
    """The subsets of a manifest that follow captions, each with its step."""
    manifest = load_manifest(find_manifest(name))
    return [(subset, part.chain[0]) for subset, _, part in manifest.walk() if part.chain[0].kind == "prompt"]


def test_todays_families_share_one_list_of_captions_without_repeats() -> None:
    steps = prompt_steps("today")
    assert len({step.prompts for _, step in steps}) == 1
    captions = prompts_of(steps[0][1])
    plain = ["".join(letter for letter in caption.lower() if letter.isalnum()) for caption in captions]
    assert len(set(plain)) == len(plain) >= 100
    assert set(prompts_of(prompt_steps("paper")[0][1])) <= set(captions)


def test_todays_manifest_has_at_least_16_families() -> None:
    """A family is a repository's own kind of model; the entries of one family are listed here, so that a new one must be thought about."""
    family = {
        "sdxl": ("sdxl-base-1.0", "sdxl-turbo", "playground-v2.5"),
        "sd3": ("sd3-medium", "sd3.5-large"),
        "flux1": ("flux1-dev", "flux1-schnell"),
        "pixart": ("pixart-alpha-1024", "pixart-sigma-1024"),
    }
    of = {name: title for title, names in family.items() for name in names}
    families = {of.get(step.checkpoint, step.checkpoint) for _, step in prompt_steps("today")}
    assert len(families) >= 16


def test_the_catalogue_knows_at_least_20_models_of_today_by_their_hub_id() -> None:
    entries = Catalogue.shipped().entries
    models = {name: entry for name, entry in entries.items() if "text_to_image" in entry.generators}
    assert len(models) >= 20
    assert all(entry.hub and entry.hub == entry.file and entry.licence and entry.resolution for entry in models.values())
    assert sum(entry.memory is not None for entry in models.values()) >= 20
    memory = entries["flux1-dev"].memory
    assert memory is not None and 31 < memory < 32, "16.9 billion weights of two bytes"


def test_todays_plan_names_every_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTF_CHECKPOINTS", str(tmp_path))
    plan = plan_of("today")
    missing = {item.what.removeprefix("checkpoint ") for item in plan.missing}
    assert {"flux1-dev", "codeformer", "parsenet", "real-esrgan-general-wdn-x4v3", "simswap-arcface", "real source laion"} <= missing
    assert all(item.origin and item.licence for item in plan.missing)
