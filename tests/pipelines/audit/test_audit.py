"""Planted biases are caught, and clean data passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.audit import BIASES, Bias, anything, crop, imported, plant, through_jpeg
from generators.errors import InputError
from pipelines.audit import Audit, audit_folder, classify, families
from pipelines.audit.audit import _gate, judge
from pipelines.audit.container import read_container
from pipelines.audit.families import APPEARANCE, CONTENT, TOGETHER
from pipelines.audit.formats import png

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


def unnoticed(audit: Audit) -> set[str]:
    return {verdict.name for verdict in (*audit.container, *audit.traces) if verdict.passed}


@pytest.mark.parametrize("name", [*PLANTED, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOWER)])
def test_a_planted_bias_is_caught(tmp_path: Path, name: str) -> None:
    bias = BIASES[name]
    audit = audit_folder(plant(bias, tmp_path, COUNT))
    verdict = next(verdict for verdict in (*audit.container, *audit.traces) if verdict.name == bias.family)
    assert (verdict.passed, verdict.low > 0.5) == (False, True)
    assert verdict.remedy
    in_the_files = bias.family in families.FILE_FAMILIES
    assert audit.gate.passed is not in_the_files, "files decide the gate, pixels are reported"
    assert not in_the_files or bias.family in audit.gate.reason


def test_a_smooth_generator_is_no_fault_of_the_files(tmp_path: Path) -> None:
    audit = audit_folder(plant(BIASES["no shortcut: fakes smoother"], tmp_path, COUNT))
    assert audit.gate.passed
    assert CONTENT not in unnoticed(audit), "the bytes tell the smooth ones all the same, which is said"


@pytest.mark.parametrize("writer", sorted(png.WRITERS))
def test_filters_are_no_fault_of_the_files(tmp_path: Path, writer: str) -> None:
    """One writer of PNG takes another filter for each row of a slope, and none for all rows of white dots on black."""
    rng = np.random.default_rng(0)
    slopes = np.add.outer(np.arange(32), np.arange(32))[..., None] * rng.uniform(0, 3, (40, 1, 1, 3)) + rng.normal(0, 4, (40, 32, 32, 3))
    dots = rng.choice([0, 255], (40, 32, 32, 3), p=[0.9, 0.1])
    for label, images in (("real", slopes.clip(0, 255)), ("fake", dots)):
        (tmp_path / label).mkdir()
        for number, image in enumerate(images.astype(np.uint8)):
            (tmp_path / label / f"{number}.png").write_bytes(png.WRITERS[writer](image))
    audit = audit_folder(tmp_path)
    assert audit.gate.passed, audit.gate.reason


def test_importing_fixes_what_the_files_tell(tmp_path: Path) -> None:
    folder = plant(BIASES["format: JPEG fakes among PNG reals"], tmp_path / "as-found", COUNT)
    assert audit_folder(imported(folder, tmp_path / "imported")).gate.passed


def failures(draws: range) -> int:
    """How many draws of labels that nothing in the files depends on fail; files come in every format, size and quality."""
    rng = np.random.default_rng(5)
    features = []
    for number in range(160):
        data, suffix = anything(crop(rng, 64), rng)
        features.append(read_container(data, str(number), suffix).families)
    failed = 0
    for draw in draws:
        chosen = np.random.default_rng([5, draw]).choice(160, 80, replace=False)
        labels = np.repeat([0, 1], 40)
        setup = classify.design(labels, [str(number) for number in chosen])
        assert setup is not None
        names = (families.DIMENSIONS, families.METADATA, families.ENCODER)
        files = {name: [features[number][name] for number in chosen] for name in names}
        failed += not _gate(judge({**files, TOGETHER: families.joined(files)}, setup), files, labels).passed
    return failed


@pytest.mark.slow
def test_clean_datasets_fail_as_often_as_they_may() -> None:
    failed = failures(range(200))
    assert 1 <= failed <= 19, f"{failed} of 200; 10 are nominal"


def test_a_folder_in_subsets(tmp_path: Path) -> None:
    clean = Bias("none", "", through_jpeg(), through_jpeg())
    for number, subset in enumerate(("LDM", "DDIM")):
        plant(clean, tmp_path / subset, 20, seed=number)
    audit = audit_folder(tmp_path)
    assert (audit.rows, audit.groups, audit.version, audit.gate.passed) == (80, 80, None, True)
    assert {verdict.name for verdict in audit.container} == {*families.FILE_FAMILIES, TOGETHER}


def test_too_few_images_are_not_judged(tmp_path: Path) -> None:
    audit = audit_folder(plant(BIASES["format: JPEG fakes among PNG reals"], tmp_path, 5))
    assert (audit.gate.passed, audit.gate.judged) == (False, False)
    assert "too few" in audit.gate.reason
    assert audit.container == ()


def test_grey_fakes_against_coloured_reals_are_told_with_a_fix(tmp_path: Path) -> None:
    def grey(image: np.ndarray) -> np.ndarray:
        return np.repeat(image.mean(2, keepdims=True), 3, axis=2).astype(np.uint8)

    rng = np.random.default_rng(0)
    for label in ("REAL", "Generated"):
        (tmp_path / label).mkdir()
        for number in range(30):
            picture = rng.integers(0, 255, (6, 6, 3)).repeat(6, 0).repeat(6, 1).astype(np.uint8)
            picture = grey(picture) if label == "Generated" else picture
            (tmp_path / label / f"{number}.png").write_bytes(png.WRITERS["Pillow"](picture))
    audit = audit_folder(tmp_path)
    verdict = next(verdict for verdict in audit.traces if verdict.name == APPEARANCE)
    assert not verdict.passed and verdict.auc > 0.99
    assert verdict.remedy.startswith("colourfulness is ") and "in the reals and 0 in the fakes" in verdict.remedy
    assert f"the pixels do, by {APPEARANCE} (AUC 1.00)" in audit.gate.reason


def test_a_class_that_is_numbered_is_not_one_group(tmp_path: Path) -> None:
    """`fake_0` to `fake_29`: as one group, a text in every fake went unnoticed."""
    folder = plant(BIASES["metadata: a text in the fakes' PNG"], tmp_path, 30)
    for number, file in enumerate(sorted((folder / "fake").iterdir())):
        file.rename(file.with_name(f"fake_{number}.png"))
    for number, file in enumerate(sorted((folder / "real").iterdir())):
        file.rename(file.with_name(f"{number:06d}.png"))
    audit = audit_folder(folder)
    assert audit.groups == 60
    assert (audit.gate.passed, audit.gate.judged) == (False, True) and families.METADATA in audit.gate.reason


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
