"""Data by name: manifests that ship, files, datasets of the store, folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.data import deliveries_to_build, detector_settings, find_manifest, is_folder, plan_of, splits_of, splits_of_store, subject_of
from generators.errors import InputError
from pipelines.build.build import run_build
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import make_plan
from pipelines.store import Store
from tests.ntf_model.conftest import write_folders
from tests.support import write_manifest


@pytest.fixture
def store(tmp_path: Path, manifest_file: Path) -> Store:
    store = Store(tmp_path / "store", "tiny")
    run_build(make_plan(load_manifest(manifest_file)), store, "cpu")
    return store


def test_a_folder_called_demo_is_not_taken_for_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ntf demo` leaves such a folder, and must run a second time."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert find_manifest("demo").name == "demo.yaml"


def test_manifests_are_found_by_file_and_by_name(tmp_path: Path) -> None:
    assert find_manifest(tmp_path / "mine.yaml") == tmp_path / "mine.yaml"
    for name in ("nothing", "checkpoints"):  # the second ships, and is no manifest
        with pytest.raises(InputError, match=name):
            find_manifest(name)


def test_a_plan_is_limited_in_every_part(manifest_file: Path) -> None:
    plan = plan_of(manifest_file, 3)
    assert {name: subset.count for name, subset in plan.manifest.subsets.items()} == dict.fromkeys(plan.manifest.subsets, 3)


def test_the_store_goes_before_a_folder_and_a_manifest(
    store: Store, tmp_path: Path, manifest_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "store"
    data = str(write_folders(tmp_path / "pictures", count=10))
    assert is_folder(data, root)
    assert subject_of(data, root) == (data, {}, ())
    (tmp_path / "tiny").mkdir()
    assert not is_folder("tiny", root)
    assert subject_of("tiny", root) == ("tiny", {}, ())
    assert subject_of(str(manifest_file), root) == ("tiny", detector_settings(load_manifest(manifest_file)), ())
    assert splits_of("tiny", root).digest == splits_of_store(store).digest != splits_of(data, root).digest
    with pytest.raises(InputError, match="ntf build"):
        subject_of("paper", root)


def test_the_detector_of_a_manifest_learns_from_its_deliveries(tmp_path: Path, manifest_data: dict[str, Any], store: Store) -> None:
    manifest_data |= {"deliveries": {"web": "feed", "hard": "screenshot"}, "detector": {"deliveries": ["web"]}}
    file = write_manifest(tmp_path / "m.yaml", manifest_data)
    manifest = load_manifest(file)
    assert deliveries_to_build(manifest) == ("web",)
    assert deliveries_to_build(manifest, ["hard", "web"]) == ("hard", "web")
    assert subject_of(str(file), tmp_path / "store").deliveries == ("web",)
    manifest_data["detector"] = {"deliveries": ["web", "feed"]}
    with pytest.raises(InputError, match="no delivery 'feed' to learn from; known: web, hard"):
        load_manifest(write_manifest(tmp_path / "m.yaml", manifest_data))


def test_a_condition_on_rows_picks_the_fakes(store: Store) -> None:
    splits = splits_of_store(store, where="subset = 'DDIM' OR label = 0")
    assert {name for split in splits for name, label in zip(split.subsets, split.labels, strict=True) if label} == {"DDIM"}
