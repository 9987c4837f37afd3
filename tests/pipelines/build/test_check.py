"""A manifest tried out: one image of each step, all that is wrong and not the first, and nothing stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from generators import registry
from pipelines.build.check import Finding, cheapest, check
from pipelines.manifest.chains import ChainStep
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import make_plan
from tests.support import write_manifest


def findings(folder: Path, data: dict[str, Any]) -> dict[str, Finding]:
    plan = make_plan(load_manifest(write_manifest(folder / "m.yaml", data)))
    return {finding.what: finding for finding in check(plan)}


def test_every_different_step_is_tried_once(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    found = findings(tmp_path, manifest_data)
    steps = {
        f"{step.kind} {step.generator}/{step.checkpoint}"
        for subset in load_manifest(tmp_path / "m.yaml").subsets.values()
        for part in subset.parts
        for step in part.chain
    }
    assert set(found) == steps
    assert not [finding.problem for finding in found.values() if finding.problem]
    assert all(finding.size == "32x32" and finding.peak_bytes > 1e7 for finding in found.values())
    assert all(finding.load_seconds is not None and finding.image_seconds is not None for finding in found.values())
    assert {path.name for path in tmp_path.iterdir()} <= {"m.yaml", "weights"}, "nothing is stored"


def test_all_that_is_wrong_is_given(tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is missing, one that cannot be read, and a method that fails: three findings, and the rest is tried."""
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    names = list(manifest_data["checkpoints"])
    manifest_data["checkpoints"]["gone"] = {"generators": ["stylegan2"], "file": str(tmp_path / "gone.pt"), "licence": "MIT"}
    manifest_data["checkpoints"]["broken"] = {"generators": ["stylegan2"], "file": str(broken), "licence": "MIT"}
    for name in ("gone", "broken"):
        chain = [{"sample": "stylegan2", "checkpoint": name}]
        manifest_data["subsets"][name] = {"count": 1, "real": "faces", "chain": chain}

    def fail(self: Any, seeds: list[int], settings: Any) -> None:
        raise RuntimeError("The size of tensor a (9) must match\nmany lines")

    monkeypatch.setattr(registry.get("ddim"), "_sample", fail)
    found = findings(tmp_path, manifest_data)
    assert "gone.pt" in found["checkpoint gone"].problem
    assert "broken.safetensors" in found["sample stylegan2/broken"].problem
    ddim = next(finding for what, finding in found.items() if what.startswith("sample ddim/"))
    assert ddim.problem == "RuntimeError: The size of tensor a (9) must match"
    assert ddim.fix
    assert len([finding for finding in found.values() if not finding.problem]) >= 2, names


@pytest.mark.parametrize(
    ("generator", "parameters", "wanted"),
    [
        ("ddpm", {"steps": 1000}, {"steps": 2}),
        ("ddim", {}, {"steps": 2}),
        ("pndm", {"steps": 50}, {"steps": 4}),
        ("diffface", {"steps": 100}, {"steps": 2, "skip": 1, "candidates": 1}),
        ("stylegan2", {"truncation_psi": 0.7}, {"truncation_psi": 0.7}),
    ],
)
def test_the_least_that_still_runs_the_method(generator: str, parameters: dict[str, Any], wanted: dict[str, Any]) -> None:
    step = ChainStep(kind=registry.get(generator).kinds[0], generator=generator, checkpoint="c", parameters=parameters)
    assert cheapest(step) == wanted
