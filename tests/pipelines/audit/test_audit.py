"""Planted biases are caught, clean data passes, and the result lies beside the version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.audit import BIASES, Bias, anything, crop, imported, plant, through_jpeg
from generators.errors import InputError
from pipelines.audit import Audit, audit_folder, audit_version, classify, container, read_audit, write_audit
from pipelines.audit.audit import CONTENT, TOGETHER, _gate, _verdicts
from pipelines.build.build import require_gate, run_build
from pipelines.errors import CheckFailed
from pipelines.make.make import Picture
from pipelines.manifest.load import load_manifest
from pipelines.manifest.schema import Codec
from pipelines.plan.plan import make_plan
from pipelines.store import Row, Store
from pipelines.store.garbage import collect_garbage
from tests.support import write_manifest

COUNT = 36
PLANTED = [
    "quality: 92 against 88",
    "encoder: PNG level 1 against 6",
    "encoder: OpenCV against Pillow",
    "8x8 grid phase: cut by (3, 5)",
    "resampling: fakes enlarged by 4/3",
]
SLOWER = [
    "format: JPEG fakes among PNG reals",
    "chroma: half of the fakes 4:4:4",
    "metadata: EXIF in half of the reals",
    "PNG stored against packed",
    "dimensions: fakes all of one size",
    "blockiness: quality 50 against 85",
    "double JPEG: 60 then 80, against 80",
]


@pytest.fixture(autouse=True)
def _fewer_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is planted here shows with small forests too."""
    monkeypatch.setattr(classify, "TREES", 6)
    monkeypatch.setattr(classify, "RESAMPLES", 400)


def unnoticed(found: Audit) -> set[str]:
    return {each.name for each in (*found.container, *found.traces) if each.passed}


@pytest.mark.parametrize("name", [*PLANTED, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOWER)])
def test_a_planted_bias_is_caught(tmp_path: Path, name: str) -> None:
    bias = BIASES[name]
    found = audit_folder(plant(bias, tmp_path, COUNT))
    finding = next(each for each in (*found.container, *found.traces) if each.name == bias.family)
    assert (finding.passed, finding.low > 0.5) == (False, True)
    assert finding.remedy
    in_the_files = bias.family in container.FAMILIES
    assert found.gate.passed is not in_the_files, "files decide the gate, pixels are reported"
    assert not in_the_files or bias.family in found.gate.reason


def test_a_smooth_generator_is_no_fault_of_the_files(tmp_path: Path) -> None:
    found = audit_folder(plant(BIASES["no shortcut: fakes smoother"], tmp_path, COUNT))
    assert found.gate.passed
    assert CONTENT not in unnoticed(found), "the bytes tell the smooth ones all the same, which is said"


@pytest.mark.parametrize("writer", sorted(container.WRITERS))
def test_filters_are_no_fault_of_the_files(tmp_path: Path, writer: str) -> None:
    """One writer of PNG takes another filter for each row of a slope, and none for all rows of white dots on black."""
    rng = np.random.default_rng(0)
    slopes = np.add.outer(np.arange(32), np.arange(32))[..., None] * rng.uniform(0, 3, (40, 1, 1, 3)) + rng.normal(0, 4, (40, 32, 32, 3))
    dots = rng.choice([0, 255], (40, 32, 32, 3), p=[0.9, 0.1])
    for label, images in (("real", slopes.clip(0, 255)), ("fake", dots)):
        (tmp_path / label).mkdir()
        for number, image in enumerate(images.astype(np.uint8)):
            (tmp_path / label / f"{number}.png").write_bytes(container.WRITERS[writer](image))
    found = audit_folder(tmp_path)
    assert found.gate.passed, found.gate.reason


def test_importing_mends_what_the_files_tell(tmp_path: Path) -> None:
    folder = plant(BIASES["format: JPEG fakes among PNG reals"], tmp_path / "found", COUNT)
    assert audit_folder(imported(folder, tmp_path / "imported")).gate.passed


def failures(draws: range) -> int:
    """How many draws of labels that nothing in the files depends on fail; files come in every format, size and quality."""
    rng = np.random.default_rng(5)
    families = []
    for number in range(160):
        data, suffix = anything(crop(rng, 64), rng)
        families.append(container.read_container(data, str(number), suffix).families)
    failed = 0
    for draw in draws:
        chosen = np.random.default_rng([5, draw]).choice(160, 80, replace=False)
        labels = np.repeat([0, 1], 40)
        setup = classify.design(labels, [str(number) for number in chosen])
        assert setup is not None
        names = (container.DIMENSIONS, container.METADATA, container.ENCODER)
        files = {name: [families[number][name] for number in chosen] for name in names}
        failed += not _gate(_verdicts({**files, TOGETHER: container.joined(files)}, setup), files, labels).passed
    return failed


@pytest.mark.slow
def test_clean_datasets_fail_as_often_as_they_may() -> None:
    failed = failures(range(200))
    assert 1 <= failed <= 19, f"{failed} of 200; 10 are nominal"


def test_groups_stay_whole_and_folds_hold_both_classes() -> None:
    labels = np.array([0] * 90 + [1] * 60)
    groups = [f"real{number // 3}" for number in range(90)] + [f"fake{number}" for number in range(60)]
    setup = classify.design(labels, groups)
    assert setup is not None
    for group in set(groups):
        assert len({fold for fold, name in zip(setup.folds, groups, strict=True) if name == group}) == 1
    for fold in range(setup.count):
        assert set(labels[setup.folds == fold]) == {0, 1}
    assert classify.design(labels, [f"{label}" for label in labels]) is None


def test_an_interval_holds_a_shortcut_and_its_absence() -> None:
    labels = np.repeat([0, 1], 100)
    setup = classify.design(labels, [str(number) for number in range(200)])
    assert setup is not None
    assert classify.auc_interval(labels.astype(float), setup, 0.05) == (1.0, 1.0, 1.0)
    assert classify.auc_interval(np.zeros(200), setup, 0.05) == (0.5, 0.5, 0.5)
    auc, low, high = classify.auc_interval(np.random.default_rng(0).normal(size=200), setup, 0.05)
    assert low < auc < high
    assert low < 0.5 < high
    assert high - low == pytest.approx(2 * 1.645 * np.sqrt(2) * np.sqrt(201 / (12 * 100 * 100)), rel=0.3)


def test_what_is_missing_tells_nothing() -> None:
    rows: list[container.Family] = [{"a": 1.0, "b": "x"}, {"a": None, "b": None}, {"a": 1.0, "b": "x"}]
    assert classify.matrix(rows).shape == (3, 0)


def test_a_folder_in_subsets(tmp_path: Path) -> None:
    clean = Bias("none", "", through_jpeg(), through_jpeg())
    for number, subset in enumerate(("LDM", "DDIM")):
        plant(clean, tmp_path / subset, 20, seed=number)
    found = audit_folder(tmp_path)
    assert (found.rows, found.groups, found.version, found.gate.passed) == (80, 80, None, True)
    assert {each.name for each in found.container} == {*container.FAMILIES, TOGETHER}


def test_too_few_images_are_not_judged(tmp_path: Path) -> None:
    found = audit_folder(plant(BIASES["format: JPEG fakes among PNG reals"], tmp_path, 5))
    assert found.gate.passed
    assert "too few" in found.gate.reason
    assert found.container == ()


def test_a_folder_that_cannot_be_audited(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        audit_folder(tmp_path / "nowhere")
    folder = plant(Bias("none", "", through_jpeg(), through_jpeg()), tmp_path / "data", COUNT)
    (folder / "fake" / "fake0.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    with pytest.raises(InputError, match=r"fake0\.png is not an image"):
        audit_folder(folder)
    (tmp_path / "empty" / "real").mkdir(parents=True)
    with pytest.raises(InputError, match="no pictures of the class real"):
        audit_folder(tmp_path / "empty")


def built(folder: Path, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch, biased: bool = False) -> tuple[Any, Store]:
    """A build of 30 fakes against 40 reals; with the fakes as JPEG if `biased`."""
    data["subsets"] = {"StyleGAN2": {**data["subsets"]["StyleGAN2"], "count": 30}}
    if biased:
        encoded = Picture.encoded

        def by_label(self: Picture, codec: Codec) -> Row:
            return encoded(self, Codec(format="jpeg") if self.row.label else codec)

        monkeypatch.setattr(Picture, "encoded", by_label)
    plan, store = make_plan(load_manifest(write_manifest(folder / "m.yaml", data))), Store(folder / "store", "tiny")
    run_build(plan, store, "cpu")
    return plan, store


def test_a_build_is_audited_and_the_result_kept_beside_the_version(
    tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = built(tmp_path, manifest_data, monkeypatch)
    found = read_audit(store)
    assert found is not None
    assert (found["version"], found["rows"], found["gate"]["passed"]) == (1, 60, True)
    assert set(found) == {"version", "rows", "groups", "container", "traces", "gate", "seconds"}
    assert set(found["traces"][0]) == {"name", "auc", "low", "high", "passed", "remedy"}
    require_gate(plan, store)
    again = audit_version(store, 1).as_data()
    assert {**again, "seconds": 0} == {**found, "seconds": 0}, "the same version, the same figures"
    collect_garbage(store)
    assert read_audit(store) == found
    assert store.digest() == store.version().digest
    write_audit(store, audit_version(store))
    assert store.digest() == store.version().digest


def test_a_failing_gate_keeps_the_version_and_says_why(
    tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = built(tmp_path, manifest_data, monkeypatch, biased=True)
    assert store.version().number == 1
    with pytest.raises(CheckFailed, match=r"version 1 is kept.*format: real PNG, fake JPEG.*remedy"):
        require_gate(plan, store)
    manifest_data["audit"] = {"gate": False}
    require_gate(make_plan(load_manifest(write_manifest(tmp_path / "free.yaml", manifest_data))), store)


def test_an_audit_goes_with_its_version(tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    _, store = built(tmp_path, manifest_data, monkeypatch)
    with store.building():
        store.without([store.rows("role = 'final'")[0].id])
    assert store.audits.read("1.json")
    assert read_audit(store) is None
    collect_garbage(store, keep=1)
    assert store.audits.read("1.json") is None
    assert json.dumps(audit_version(store).as_data())
