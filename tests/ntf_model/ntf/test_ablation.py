"""The ablation: runs are shared, kept and compared on the same draws."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from ntf_model.comparing.rehearsal import few, one_epoch
from ntf_model.data.data import DetectionSplits
from ntf_model.data.sources import from_rows
from ntf_model.errors import InputError
from ntf_model.judging.evaluate import Evaluation
from ntf_model.ntf.ablation import (
    EVALUATION_FILE,
    LINE_TO_BEAT,
    VARIANTS,
    Variant,
    ablate,
    ablation_table,
    breadth_variants,
    chosen_variants,
    source_variants,
)
from ntf_model.ntf.config import NTFConfig, merge
from ntf_model.ntf.ntf import NTFDetector
from ntf_model.registry import load_detector


def test_variants_are_trained_once_compared_and_kept(
    splits: DetectionSplits, tiny: NTFConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = merge(tiny, {"stage1": {"epochs": 1}, "stage2": {"epochs": 1}})
    chosen = {name: VARIANTS[name] for name in ("ntf", LINE_TO_BEAT, "soft")}
    fits = []
    train = NTFDetector.train.__func__

    def counted(cls, data, config, run, stage1):
        fits.append(stage1)
        return train(cls, data, config, run, stage1)

    monkeypatch.setattr(NTFDetector, "train", classmethod(counted))
    ablation = ablate(splits, tmp_path, config, variants=chosen, train_on=["smooth"], seeds=(0, 1), bootstrap=50, device="cpu")
    assert len(fits) == 6
    assert fits[4] == tmp_path / "ntf" / "0" / "stage1"  # the soft variant takes over NTF's stage 1
    ntf, line, soft = ablation.results
    assert ntf.trained_on == ["smooth"]
    evaluations = [Evaluation.load(tmp_path / "ntf" / str(seed) / EVALUATION_FILE) for seed in (0, 1)]
    unseen = [row.measures["acc"].value for evaluation in evaluations for row in evaluation.subsets if row.name != "smooth"]
    assert ntf.unseen["acc"].value == pytest.approx(np.mean(unseen))
    assert line.gain is None
    assert soft.gain["ap"].value == pytest.approx(soft.unseen["ap"].value - line.unseen["ap"].value)
    assert soft.gain["ap"].low <= soft.gain["ap"].value <= soft.gain["ap"].high
    again = ablate(splits, tmp_path, config, variants=chosen, train_on=["smooth"], seeds=(0, 1), bootstrap=50, device="cpu")
    assert len(fits) == 6
    assert again == ablation
    assert len(ablation_table(ablation).rows) == 3
    assert "rehearsal" not in ablation_table(ablation).render("markdown").lower()
    tried = ablation_table(ablation.model_copy(update={"rehearsal": "one epoch"}))
    assert "Ablations (rehearsal)" in tried.render("markdown") and "one epoch" in tried.render("csv")
    (tmp_path / "soft" / "1" / EVALUATION_FILE).unlink()  # as if it had been stopped after training
    assert ablate(splits, tmp_path, config, variants=chosen, train_on=["smooth"], seeds=(0, 1), bootstrap=50, device="cpu") == ablation
    assert len(fits) == 6
    for file in (tmp_path / "soft" / "0" / "config.json", tmp_path / "soft" / "1" / "run.json"):
        saved = json.loads(file.read_text())
        del saved["config"]["stage2"]["prototypes"]  # as of a version that had no such setting
        file.write_text(json.dumps(saved))
    assert ablate(splits, tmp_path, config, variants=chosen, train_on=["smooth"], seeds=(0, 1), bootstrap=50, device="cpu") == ablation
    assert len(fits) == 6
    with pytest.raises(InputError, match=r"with other settings \(stage2\.gamma\)"):
        ablate(splits, tmp_path, merge(config, {"stage2": {"gamma": 1.0}}), variants=chosen, train_on=["smooth"], seeds=(0,), device="cpu")


def test_sources_with_the_same_reals_share_their_stage_1(tiny: NTFConfig, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    subsets = ["photos"] * 12 + ["a"] * 6 + ["b"] * 6
    rows = [
        {"image": rng.integers(0, 256, (20, 20, 3), dtype=np.uint8), "label": int(name != "photos"), "subset": name} for name in subsets
    ]
    splits = from_rows({"train": rows, "validation": rows, "test": rows})
    config = merge(tiny, {"stage1": {"epochs": 1}, "stage2": {"epochs": 1}})
    variants = {f"ntf:{name}": Variant(name, subsets=(name,)) for name in "ab"}
    ablation = ablate(splits, tmp_path, config, variants=variants, seeds=(0,), bootstrap=5, device="cpu")
    assert ablation.rehearsal == ""
    assert not (tmp_path / "ntf-b" / "0" / "stage1").exists()
    NTFDetector.fit(splits.only(["b"]), merge(config, {"seed": 0}), tmp_path / "alone", device="cpu")
    weights = [load_file(folder / "stage1" / "model.safetensors") for folder in (tmp_path / "ntf-a" / "0", tmp_path / "alone")]
    assert all(weights[0][name].equal(value) for name, value in weights[1].items())


def test_a_probe_stands_beside_ntf_on_the_same_encoder(splits: DetectionSplits, tiny: NTFConfig, tmp_path: Path) -> None:
    changes = {"image_size": 16, "seed": 7, "adaptation": "lora"}
    config = merge(tiny, {**changes, "encoder": "efficientnet-lite0", "encoder_layer": 3, "pooling": "mean_std", "test_crops": 2})
    variants = chosen_variants(splits, ["probe"])
    options = {"variants": variants, "train_on": ["smooth"], "seeds": (4,), "bootstrap": 5, "device": "cpu"}
    ablation = ablate(splits, tmp_path, config, **options)
    assert ablation.results[0].trained_on == ["smooth"]
    probe = load_detector(tmp_path / "probe" / "4")
    assert probe.name == "probe"
    asked = (probe.config.encoder, probe.config.encoder_layer, probe.config.image_size, probe.config.test_crops, probe.config.seed)
    assert asked == ("efficientnet-lite0", 3, 16, 2, 4)
    assert probe.config.adaptation == "frozen"
    (tmp_path / "probe" / "4" / EVALUATION_FILE).unlink()
    weights = (tmp_path / "probe" / "4" / "model.safetensors").stat().st_mtime_ns
    assert ablate(splits, tmp_path, config, **options) == ablation
    assert (tmp_path / "probe" / "4" / "model.safetensors").stat().st_mtime_ns == weights  # it was not trained again


def test_runs_on_a_few_pictures_mark_the_table_as_a_rehearsal(splits: DetectionSplits, tiny: NTFConfig, tmp_path: Path) -> None:
    """Also when they were trained and evaluated before, and only the table is made again."""
    said = "at most 8 images in each split, one epoch"
    config, variants = one_epoch(tiny, 8), {LINE_TO_BEAT: VARIANTS[LINE_TO_BEAT]}
    for _ in range(2):
        ablation = ablate(few(splits, 8), tmp_path, config, variants=variants, seeds=(0,), bootstrap=5, device="cpu")
        assert ablation.rehearsal == said
        table = ablation_table(ablation)
        assert f"Rehearsal, {said}" in table.render("markdown")
        assert [row["rehearsal"] for row in csv.DictReader(io.StringIO(table.render("csv")))] == [said]
    assert Evaluation.load(tmp_path / LINE_TO_BEAT / "0" / EVALUATION_FILE).rehearsal == said


def test_sources_and_breadths(splits: DetectionSplits) -> None:
    assert source_variants(splits)["ntf:smooth"].subsets == ("smooth",)
    assert breadth_variants(splits, [1, 2])["ntf:first-2"].subsets == ("blocky", "smooth")
    with pytest.raises(InputError, match="cannot train on 3"):
        breadth_variants(splits, [3])


def test_a_table_has_the_rows_that_are_asked_for(splits: DetectionSplits) -> None:
    assert list(chosen_variants(splits)) == list(VARIANTS)
    assert list(chosen_variants(splits, ["soft"], breadth=[1])) == ["soft", "ntf:first-1"]
    both = chosen_variants(splits, sources=True)
    assert list(both)[:2] == ["ntf", LINE_TO_BEAT]
    assert {variant.subsets for name, variant in both.items() if ":" in name} == {("blocky",), ("smooth",)}
    with pytest.raises(InputError, match="'sft'"):
        chosen_variants(splits, ["sft"])


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_is_a_configuration(tiny: NTFConfig, name: str) -> None:
    variant: Variant = VARIANTS[name]
    changed = merge(tiny, dict(variant.changes))
    assert (changed == tiny) == (name == "ntf")
