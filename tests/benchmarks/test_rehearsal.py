"""The paper's dataset from a bare machine, with small stand-ins of every released form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.rehearsal.__main__ import rehearse
from benchmarks.rehearsal.commands import Run
from benchmarks.rehearsal.manifests import PAPER, few_steps, single_steps, subsets
from benchmarks.rehearsal.stand_ins import STAND_INS
from benchmarks.rehearsal.tables import Rehearsal, markdown


def test_there_is_a_stand_in_of_everything_that_the_paper_needs() -> None:
    from pipelines.catalogue.catalogue import Catalogue
    from pipelines.manifest.load import load_manifest
    from pipelines.plan.missing import needed_by_manifest

    catalogue = Catalogue.shipped()
    names = needed_by_manifest(load_manifest(PAPER))
    assert {part for name in names for part in (name, *catalogue.entries[name].components.values())} == set(STAND_INS)


def test_manifests_of_the_rehearsal(tmp_path: Path) -> None:
    from pipelines.manifest.load import load_manifest

    whole = load_manifest(PAPER)
    short = load_manifest(few_steps(tmp_path))
    assert list(short.subsets) == list(whole.subsets)
    assert [part.count for _, _, part in short.walk()] == [part.count for _, _, part in whole.walk()]
    ddpm, diffface = short.subsets["DDPM"].parts[0].chain[0], short.subsets["DiffFace_LDM"].parts[0].chain[1]
    assert (ddpm.parameters["steps"], diffface.parameters) == (2, {"steps": 100, "skip": 98})
    alone = single_steps(tmp_path)
    assert {step.checkpoint for _, _, part in whole.walk() for step in part.chain} == {title.partition("/")[2] for title in alone}
    for file in alone.values():
        load_manifest(file)
    assert sorted(subsets()) == sorted(whole.subsets)
    for subset in subsets():
        assert list(load_manifest(few_steps(tmp_path, subset)).subsets) == [subset]


def run(code: int = 0, data: object = None, err: str = "") -> Run:
    return Run(("x",), code, json.dumps(data), err, 1.0, 1.0, 2**30, 0.0)


def test_what_is_built_is_read_off_the_plan() -> None:
    shards = [
        {"title": f"{subset} step {step} faces 0-0", "present": present} for subset, step, present in (("A", 1, True), ("A", 2, False))
    ]
    shards += [{"title": "A_B step 1 faces 0-0", "present": True}, {"title": "reals faces 0-0", "present": True}]
    result = Rehearsal("small", 1, again=[run(), run(0, {"subsets": {"A": {}, "A_B": {}, "C": {}}, "shards": shards})])
    assert result.built() == {"A": False, "A_B": True, "C": False}
    assert "A is not whole" in result.problems()


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    fetched = [{"name": name, "path": f"checkpoints/{name}"} for name in STAND_INS]
    finding = {"what": "sample x", "problem": "no image", "load_seconds": 1.0, "image_seconds": None, "peak_bytes": 5, "size": ""}
    result = Rehearsal("small", 1, fetched={"all": run(0, {"fetched": fetched[1:], "not_taken": ["odd.pkl"]})})
    result.each["x"], result.build = run(1, [finding]), run(2, err="error: no space")
    result.save(tmp_path)
    again = Rehearsal.load(tmp_path, "full", 2)
    assert again == result
    problems = again.problems()
    for words in (f"{next(iter(STAND_INS))} was not recognised", "odd.pkl", "sample x: no image", "error: no space"):
        assert any(words in problem for problem in problems), words
    lying = tmp_path / "checkpoints" / fetched[1]["name"]
    lying.parent.mkdir()
    lying.write_bytes(bytes(2**25))
    table = markdown(again, tmp_path)
    assert f"| {fetched[1]['name']} | {STAND_INS[fetched[1]['name']].form} | 0.03 |" in table
    assert "| sample x | no image | 1.0 s |  | 1.00 |" in table
    assert "stylegan2-ffhq-1024" in table


@pytest.mark.slow
@pytest.mark.timeout(3600)  # thirty commands, each in a process of its own
def test_the_paper_from_a_bare_machine(tmp_path: Path) -> None:
    """Fetched, inspected, planned, checked as it ships, and built with few steps: 18 of 18 subsets."""
    result = rehearse(tmp_path)
    assert result.problems() == []
    assert sum(result.built().values()) == len(yaml.safe_load(PAPER.read_text())["subsets"]) == 18
    assert result.plans[1].hashing == result.again[0].hashing == 0
    assert set(result.places(tmp_path)) == set(STAND_INS)
