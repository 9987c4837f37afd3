"""Gathers what the page shows from a version of the store, and writes it."""

from __future__ import annotations

import json
import platform
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from generators.errors import InputError
from pipelines.images import decode
from pipelines.manifest import ChainStep, Manifest
from pipelines.quality import FeatureNetwork, Quality, median_sharpness, subset_quality
from pipelines.report import charts, sheets
from pipelines.report.findings import Findings
from pipelines.report.strips import Cell, strip
from pipelines.store import Row, Store, Version

NOTHING = Findings()
SHEET_IMAGES = 24
STRIPS = 4
BATCH_IMAGES = 64
MEASURES = {
    "ap": "AP",
    "acc": "ACC",
    "fpr": "FPR",
    "fnr": "FNR",
    "acc_fixed": "ACC at the validation threshold",
    "auroc": "AUROC",
    "tpr_at_fpr_1": "TPR at 1 % FPR",
}


@dataclass(frozen=True)
class SubsetView:
    """What the page says of one subset."""

    name: str
    mode: str
    chain: str
    real: str
    images: int
    splits: dict[str, int]
    rejected: dict[str, int]
    sheet: str
    strips: list[list[Cell]]
    anchor: str
    quality: Quality


def write_report(
    store: Store,
    output: Path,
    version: int | str | None = None,
    findings: Findings = NOTHING,
    features: FeatureNetwork | None = None,
) -> Path:
    """Writes the page of a version to `output` and returns it. `evaluations` are detectors' results as plain data.

    An evaluation has `title`, `threshold`, `subsets` (rows with `name`, `n_real`, `n_fake` and `measures`, each `value`, `low`, `high`),
    `overall`, and `scores` (columns `id`, `label`, `subset`, `score`). `history` are the drifts between versions, oldest first, each with
    `from_version`, `to_version`, `time_to_detect`, `fallen` and `subsets`. With `features`, subsets also get FID and KID against their real
    images, as far as there are images enough. The file appears whole or not at all.
    """
    evaluations, history = [run.evaluation for run in findings.runs], findings.history
    found = store.version(version)
    manifest = Manifest.model_validate(json.loads(found.properties["manifest"]))
    rows = store.rows(version=found.number)
    real_features = {name: _features(store, found, features, f"role = 'real' AND subset = '{name}'") for name in manifest.reals}
    page = (
        _environment()
        .get_template("page.html.j2")
        .render(
            dataset=store.name,
            version=found,
            manifest=manifest,
            pipeline=_pipeline(rows, evaluations),
            subsets=[_subset(store, found, manifest, name, rows, features, real_features) for name in manifest.subsets],
            reals=[_reals(store, found, name, rows) for name in manifest.reals],
            ledger=_ledger(rows),
            detectors=[_detector(evaluation, manifest) for evaluation in evaluations],
            measures=MEASURES,
            features=features.name if features else "",
            history=list(history),
            lineage=_lineage(rows),
            environment={
                "ntf": found.properties.get("ntf", ""),
                "python": platform.python_version(),
                "device": found.properties.get("device", ""),
            },
        )
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".partial")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(output)
    except OSError as error:
        raise InputError(f"cannot write the report {output}: {error.strerror}", "Check the folder and its permissions") from None
    return output


def describe_chain(chain: Sequence[ChainStep]) -> str:
    """A chain in words: "sample ldm, then swap simswap with a source from faces"."""
    parts = []
    for step in chain:
        origin = f" on {step.target}" if step.target else ""
        source = f" with a source from {step.source}" if step.source else ""
        parts.append(f"{step.kind} {step.generator}{origin}{source}")
    return ", then ".join(parts)


def _environment() -> jinja2.Environment:
    loader = jinja2.FunctionLoader(lambda name: (resources.files("pipelines.report") / name).read_text(encoding="utf-8"))
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = lambda value, form="%.2f": "" if value is None else form % value
    environment.filters["percent"] = lambda value: "" if value is None else f"{value * 100:.1f}"
    return environment


def _pipeline(rows: Sequence[Row], evaluations: Sequence[Mapping[str, Any]]) -> str:
    roles = Counter(row.role for row in rows)
    stages = [
        ("reals", f"{roles['real']} images"),
        ("first steps", f"{sum(row.step == 0 and row.role in ('final', 'intermediate') for row in rows)} images"),
        ("later steps", f"{sum(row.step > 0 and row.role in ('final', 'intermediate') for row in rows)} images"),
        ("rejected", f"{roles['rejected']} tries"),
        ("store", f"{roles['final']} fakes"),
        ("detectors", f"{len(evaluations)} judged"),
    ]
    return charts.pipeline(stages, "The pipeline and what went through it")


def _subset(
    store: Store,
    version: Version,
    manifest: Manifest,
    name: str,
    rows: Sequence[Row],
    features: FeatureNetwork | None,
    real_features: Mapping[str, np.ndarray | None],
) -> SubsetView:
    subset = manifest.subsets[name]
    own = [row for row in rows if row.subset == name and row.label == 1]
    finals = [row for row in own if row.role == "final"]
    shown = finals[:: max(1, len(finals) // SHEET_IMAGES)][:SHEET_IMAGES]
    pixels = _pixels(store, version, [row.id for row in shown])
    by_id = {row.id: row for row in rows if row.subset == name or row.role == "real"}
    fakes = _features(store, version, features, f"role = 'final' AND subset = '{name}'")
    real_sets = [found for real in subset.reals if (found := real_features[real]) is not None]
    rejected = Counter(row.reason or "" for row in own if row.role == "rejected")
    chains = list(dict.fromkeys(describe_chain(part.chain) for part in subset.parts))
    return SubsetView(
        name,
        subset.mode,
        "; or ".join(chains),
        ", ".join(subset.reals),
        len(finals),
        dict(Counter(row.split for row in finals)),
        dict(rejected),
        sheets.contact_sheet([pixels[row.id] for row in shown]) if shown else "",
        [strip(row, by_id, lambda ids: _pixels(store, version, ids)) for row in shown[:STRIPS] if row.target_id or row.source_id],
        "".join(letter if letter.isalnum() else "-" for letter in name),
        subset_quality([row.measures for row in finals], rejected.total(), fakes, np.concatenate(real_sets) if real_sets else None),
    )


def _features(store: Store, version: Version, network: FeatureNetwork | None, where: str) -> np.ndarray | None:
    """The features of the images for which `where` holds, read a batch at a time. None without a network or without images."""
    if network is None:
        return None

    def pictures() -> Iterator[np.ndarray]:
        for batch in store.dataset(version.number).to_batches(columns=["id", "image"], filter=where, batch_size=BATCH_IMAGES):
            for row in batch.to_pylist():
                yield decode(row["image"], row["id"])

    return network.embed(pictures())


def _reals(store: Store, version: Version, name: str, rows: Sequence[Row]) -> dict[str, Any]:
    own = [row for row in rows if row.role == "real" and row.subset == name]
    shown = own[:: max(1, len(own) // SHEET_IMAGES)][:SHEET_IMAGES]
    pixels = _pixels(store, version, [row.id for row in shown])
    return {
        "name": name,
        "images": len(own),
        "groups": len({row.group for row in own}),
        "splits": dict(Counter(row.split for row in own)),
        "licence": own[0].licence if own else "",
        "sharpness": median_sharpness(row.measures for row in own),
        "sheet": sheets.contact_sheet([pixels[row.id] for row in shown]) if shown else "",
    }


def _pixels(store: Store, version: Version, ids: Sequence[str]) -> dict[str, np.ndarray]:
    listed = ", ".join("'" + each.replace("'", "''") + "'" for each in ids)
    found = store.rows(f"id IN ({listed})", version.number, images=True) if ids else []
    return {row.id: decode(row.image, row.id) for row in found if row.image is not None}


def _ledger(rows: Sequence[Row]) -> list[tuple[str, int, dict[str, int]]]:
    """For each subset: images written, and tries rejected by reason."""
    written = Counter(row.subset for row in rows if row.role == "final")
    rejected: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.role == "rejected":
            rejected[row.subset][row.reason or ""] += 1
    return [(name, written[name], dict(rejected[name])) for name in sorted(written | Counter(dict.fromkeys(rejected, 0)))]


def _detector(evaluation: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
    scores = evaluation["scores"]
    labels, values, names = np.array(scores["label"]), np.array(scores["score"]), np.array(scores["subset"])
    cards = []
    for row in evaluation["subsets"]:
        reals = manifest.subsets[row["name"]].reals if row["name"] in manifest.subsets else ()
        members = ((labels == 1) & (names == row["name"])) | ((labels == 0) & np.isin(names, reals))
        title = f"{evaluation['title']} on {row['name']}"
        cards.append(
            {
                "name": row["name"],
                "roc": charts.roc(labels[members], values[members], f"ROC of {title}"),
                "histogram": charts.score_histogram(labels[members], values[members], evaluation["threshold"], f"Scores of {title}"),
            }
        )
    ap = [row["measures"]["ap"] for row in evaluation["subsets"]]
    overview = charts.bars(
        [row["name"] for row in evaluation["subsets"]],
        [each["value"] for each in ap],
        [each["low"] for each in ap],
        [each["high"] for each in ap],
        f"AP of {evaluation['title']} by subset, with 95 % intervals",
    )
    return {**evaluation, "cards": cards, "overview": overview}


def _lineage(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Every checkpoint that made an image of this version, and how many."""
    used: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        if row.role == "final":
            for link in row.chain:
                used[(link["generator"], link["checkpoint"], link["identity"]["sha256"])] += 1
    return [
        {"generator": generator, "checkpoint": checkpoint, "sha256": sha256, "images": str(count)}
        for (generator, checkpoint, sha256), count in sorted(used.items())
    ]
