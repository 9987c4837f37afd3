"""What is made of the paper's manifest: fewer denoising steps, a detector that sees a face everywhere, and one step alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from benchmarks.rehearsal.stand_ins import DETECTOR

PAPER = Path(__file__).resolve().parents[2] / "manifests" / "paper.yaml"
FEW = {"ddpm": {"steps": 2}, "ddim": {"steps": 2}, "pndm": {"steps": 4}, "ldm": {"steps": 2}, "stable_diffusion": {"steps": 2}}
FEW["diffface"] = {"steps": 100, "skip": 98}  # the two last steps: after one, random weights have changed too little for a swap
KINDS = ("sample", "prompt", "swap")


def few_steps(work: Path, subset: str | None = None) -> Path:
    """paper.yaml with few denoising steps and the stand-in detector, in the folder `work`; of it one subset, as a dataset of its own."""
    data = yaml.safe_load(PAPER.read_text(encoding="utf-8"))
    if subset is not None:
        data["subsets"] = {subset: data["subsets"][subset]}
        data["dataset"] = f"row-{subset.lower().replace('_', '-')}"
        used = {name for part in _parts(data) for name in (part["real"], *(step.get("source") for step in part["chain"]))}
        data["reals"] = {name: source for name, source in data["reals"].items() if name in used}
    for step in _steps(data):
        step.update(FEW.get(_method(step), {}))
    data["faces"] = {"detector": "stand-in-detector"}
    data["checkpoints"] = {"stand-in-detector": {"file": str(work / DETECTOR), "licence": "a stand-in of the rehearsal"}}
    data["audit"] = {"gate": False}  # random weights are no pictures that an audit could pass
    file = work / (f"few-steps-{subset}.yaml" if subset else "paper-few-steps.yaml")
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    return file


def single_steps(work: Path) -> dict[str, Path]:
    """A manifest for each different step of paper.yaml, as it ships, by the step's title."""
    whole = yaml.safe_load(PAPER.read_text(encoding="utf-8"))
    files: dict[str, Path] = {}
    for part in _parts(whole):
        for step in part["chain"]:
            title = f"{_method(step)}/{step['checkpoint']}"
            if title in files:
                continue
            chain = [{"target": part["real"], **step}] if "swap" in step else [step]
            reals = {name: source for name, source in whole["reals"].items() if name in (part["real"], step.get("source"))}
            data = {**whole, "reals": reals, "subsets": {"Step": {"count": part["count"], "real": part["real"], "chain": chain}}}
            files[title] = work / f"step-{title.replace('/', '-')}.yaml"
            files[title].write_text(yaml.safe_dump(data, sort_keys=False))
    return files


def subsets() -> list[str]:
    """The paper's subsets, those without DiffFace first, because a step of it takes minutes."""
    data = yaml.safe_load(PAPER.read_text(encoding="utf-8"))
    return sorted(data["subsets"], key=lambda name: "DiffFace" in name)


def _parts(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for subset in data["subsets"].values() for part in subset.get("parts", [subset])]


def _steps(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for part in _parts(data) for step in part["chain"]]


def _method(step: dict[str, Any]) -> str:
    return next(step[kind] for kind in KINDS if kind in step)
