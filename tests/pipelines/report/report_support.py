"""A store of many subsets that takes seconds to make, and made-up results about it in the forms that real ones have."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pipelines.audit import Audit, Gate, Verdict, write_audit
from pipelines.build.build import run_build
from pipelines.report import Inputs, Run
from pipelines.store import Store
from tests.pipelines.store.fakes import fake_dataset, fake_generators, planned, write

MEASURES = ("ap", "acc", "fpr", "fnr", "acc_fixed", "auroc", "tpr_at_fpr_1", "tpr_at_fpr_5")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = ["--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--hide-scrollbars"]


def store_of(folder: Path, subsets: int, count: int = 5) -> Store:
    """A store of so many subsets, sampled, swapped and chained in turn, with one version."""
    manifest = fake_dataset(folder / "data", count=count)
    data = yaml.safe_load(manifest.read_text())
    kinds = list(data["subsets"].items())
    data["subsets"] = {f"{kinds[n % 3][0]}_{n:02d}": kinds[n % 3][1] for n in range(subsets)}
    store = Store(folder / "store", "fake")
    with fake_generators():
        run_build(planned(write(manifest, data)), store, "cpu")
    return store


def report_inputs(store: Store, folder: Path) -> Inputs:
    """One run with everything that a run can have, a comparison of three detectors, an ablation and two drifts. Audits the version too."""
    rng = np.random.default_rng(0)
    rows = [row for row in store.rows() if row.role in ("final", "real") and row.split == "test"]
    subsets = sorted({row.subset for row in rows if row.label})
    scores = rng.random(len(rows)) * 0.5 + 0.5 * np.array([row.label for row in rows])
    columns = {
        "id": [row.id for row in rows],
        "label": [row.label for row in rows],
        "subset": [row.subset for row in rows],
        "score": scores.tolist(),
    }
    evaluation = _evaluation("NTF", subsets, columns)
    folder.mkdir()
    run = Run(
        folder,
        evaluation,
        {
            "dataset": {"digest": "d" * 64, "train": {"digest": "e" * 64, "images": 40, "fakes": 20}},
            "seed": 0,
            "config": {"encoder": "small"},
            "environment": {"python": "3.11.7", "packages": {"torch": "2.13.0"}, "device": "cpu"},
        },
        {
            "detector": "ntf",
            "title": "NTF",
            "threshold": 0.4,
            "points": [_point("none", 0), *(_point(op, s) for op in ("blur", "jpeg") for s in (1, 2, 3))],
            "rehearsal": "",
        },
        _evaluation("NTF (distance to the trace)", subsets, columns),
        {"points": rng.normal(size=(len(rows), 2)).tolist(), **{f"{key}s": columns[key] for key in ("id", "label", "subset")}},
        _gradcam(folder, rows[:3]),
        {"detectors": [_delivered("ntf", "NTF", subsets)], "leading": "ap", "rehearsal": ""},
    )
    detectors = ("ntf", "wang2020", "xception")
    cells = {name: {c: _measures(0.6 + 0.1 * n) for c in [*subsets, "mean", "weighted mean"]} for n, name in enumerate(detectors)}
    known = {"parameters": 23_500_000, "images_per_second": 81.0, "training_seconds": 30.0, "memory_mib": 900.0}
    unknown = dict.fromkeys(known)
    comparison = {
        "data_digest": "f" * 64,
        "detectors": [{"name": name, "title": name.title(), "note": "", **(unknown if n else known)} for n, name in enumerate(detectors)],
        "columns": [*subsets, "mean", "weighted mean"],
        "families": dict.fromkeys(subsets, "GAN"),
        "measures": list(MEASURES[:7]),
        "lower_is_better": ["fpr", "fnr"],
        "cells": cells,
        "paired": [
            {"reference": "ntf", "other": o, "measures": {k: {**_measure(-0.1), "p": 0.01} for k in MEASURES}} for o in detectors[1:]
        ],
        "chance": dict.fromkeys([*subsets, "mean", "weighted mean"], 0.5),
        "rehearsal": "",
    }
    shared = {"trained_on": subsets, "seeds": [0, 1], "overall": _measures(0.8), "unseen": None}
    ablation = {
        "data_digest": "f" * 64,
        "rehearsal": "",
        "results": [
            {**shared, "variant": "ntf", "title": "NTF", "gain": _measures(0.05)},
            {**shared, "variant": "cross-entropy", "title": "cross-entropy alone", "gain": None},
        ],
    }
    drift = {
        "from_version": None,
        "to_version": 1,
        "created": "2026-11-20T12:00:00+00:00",
        "time_to_detect": 42.0,
        "gate": 0.9,
        "fallen": subsets[:1],
        "subsets": [
            {"name": name, "replaced": 3, "added": 0, "before": None, "old": _measures(0.7), "new": _measures(0.9), "below_gate": not n}
            for n, name in enumerate(subsets)
        ],
    }
    number = store.version().number
    container = (Verdict("bytes per pixel", 0.51, 0.46, 0.56, True), Verdict("quantisation tables", 0.9, 0.8, 0.95, False, "parity: jpeg"))
    traces = (Verdict("blockiness", 0.62, 0.55, 0.7, False, "give the fakes the reals' JPEG history"),)
    write_audit(store, Audit(number, 90, 60, container, traces, Gate(False, "quantisation tables tell fake from real"), 1.5))
    return Inputs([run], [drift, {**drift, "created": "2026-11-21T12:00:00+00:00", "fallen": []}], comparison, ablation)


def _measure(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.05, "high": min(1.0, value + 0.05)}


def _measures(value: float) -> dict[str, Any]:
    return {key: _measure(value) for key in MEASURES}


def _point(operation: str, strength: float) -> dict[str, Any]:
    return {"operation": operation, "strength": strength, "overall": _measures(0.9 - 0.1 * strength), "subsets": []}


def _delivered(name: str, title: str, subsets: list[str]) -> dict[str, Any]:
    rows = [{"name": subset, "family": "GAN", "n_real": 5, "n_fake": 5, "measures": _measures(0.9), "chance": None} for subset in subsets]
    results = [
        {"delivery": delivery, "overall": _measures(0.9 - 0.1 * place), "subsets": rows}
        for place, delivery in enumerate(("clean", "web", "hard"))
    ]
    return {"name": name, "title": title, "threshold": 0.4, "results": results}


def _evaluation(title: str, subsets: list[str], scores: dict[str, Any]) -> dict[str, Any]:
    rows = [{"name": n, "family": "GAN", "n_real": 5, "n_fake": 5, "measures": _measures(0.95 - 0.02 * p)} for p, n in enumerate(subsets)]
    means = {kind: {**rows[0], "name": f"all ({kind})"} for kind in ("unweighted", "weighted")}
    families = {"GAN": {kind: {**row, "name": f"GAN ({kind})"} for kind, row in means.items()}}
    known = {"title": title, "detector": "ntf", "threshold": 0.5, "worst": subsets[-1], "bootstrap": 100}
    known |= {"data_digest": "f" * 64, "validation_digest": "a" * 64, "fpr": 0.01, "reliability": _reliability()}
    known |= dict.fromkeys(("validation", "calibration", "trained_on", "seen"))
    known["exposure"] = {"held-out": {kind: {**row, "name": f"held-out ({kind})"} for kind, row in means.items()}}
    return {**known, "subsets": rows, "families": families, "overall": means, "scores": scores, "rehearsal": ""}


def _reliability() -> dict[str, Any]:
    """What calibration, thresholds and the band gave, with a bin that is empty and a wish that cannot be had."""
    bins = [
        {"low": n / 10, "high": (n + 1) / 10, "probability": n / 10 + 0.05, "fakes": n / 10, "weight": 0.1, "pictures": 3}
        for n in range(10)
    ]
    bins[4] |= {"probability": None, "fakes": None, "weight": 0.0, "pictures": 0}
    unknown = {"value": None, "low": None, "high": None}
    counts = {"temperature": 1.5, "validation_reals": 40, "validation_fakes": 41, "reals": 30, "fakes": 31}
    errors = {"brier_scores": 0.21, "brier": 0.2, "ece_scores": 0.11, "ece": 0.05}
    shares = dict.fromkeys(("real_as_fake", "fake_as_real", "unsure_reals", "unsure_fakes"), _measure(0.1))
    wishes = [
        {"wished": 0.01, "threshold": None, "fpr": unknown, "fnr": unknown},
        {"wished": 0.05, "threshold": 0.8, "fpr": _measure(0.06), "fnr": _measure(0.2)},
    ]
    return {**counts, **errors, "bins": bins, "wishes": wishes, "band": {"error": 0.05, "low": 0.3, "high": 0.8, **shares}}


def _gradcam(folder: Path, rows: list[Any]) -> dict[str, Any]:
    (folder / "gradcam").mkdir()
    noise = np.random.default_rng(1).integers(0, 255, (16, 2 * 16 * len(rows), 3), np.uint8)
    Image.fromarray(noise).save(folder / "gradcam" / "00.png")
    pictures = [{"id": row.id, "score": 0.75} for row in rows]
    return {"side": 16, "rows": [{"name": rows[0].subset, "label": rows[0].label, "strip": "gradcam/00.png", "pictures": pictures}]}


def dumped(page: Path, profile: Path, *more: str) -> str:
    """The page's DOM after its scripts have run. Skips where there is no Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    alone = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses to run as root
    command = [CHROMIUM, *FLAGS, *alone, f"--user-data-dir={profile}", "--window-size=1400,1000", "--virtual-time-budget=5000", *more]
    browser = subprocess.run([*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=250, check=True)
    return browser.stdout


def axe_violations(page: Path, folder: Path, width: int, *more: str) -> dict[str, Any]:
    """What axe-core says of the page, `width` px wide and with everything opened: `violations`, how `wide` its content is, and what the
    page's own policy `blocked`. Skips where axe-core-python is not installed."""
    package = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    axe = (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    text = page.read_text(encoding="utf-8").replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';")
    listen = "<script>blocked = []; document.addEventListener('securitypolicyviolation', event => blocked.push(event.blockedURI))</script>"
    run = """<script>
    document.querySelectorAll('details').forEach(each => each.open = true);
    const resources = performance.getEntriesByType('resource').map(each => each.name);
    const brief = v => ({id: v.id, impact: v.impact, count: v.nodes.length, nodes: v.nodes.slice(0, 5).map(n => n.html.slice(0, 200))});
    axe.run(document, {resultTypes: ['violations']}).then(result => {
      const found = {violations: result.violations.map(brief), passes: result.passes.length, blocked, resources};
      found.width = innerWidth;
      found.wide = document.documentElement.scrollWidth;
      found.dark = matchMedia('(prefers-color-scheme: dark)').matches;
      parent.postMessage(JSON.stringify(found), '*');
    });
    </script>"""
    text = text.replace("<head>", "<head>" + listen, 1).replace("</body>", f"<script>{axe}</script>{run}</body>", 1)
    (folder / "axe.html").write_text(text, encoding="utf-8")
    frame = folder / f"frame-{width}.html"  # no window of Chromium's is narrower than 500 px, but a frame is
    take = "addEventListener('message', event => document.getElementById('found').textContent = event.data)"
    frame.write_text(
        f'<script>{take}</script><iframe src="axe.html" width="{width}" height="900" frameborder="0"></iframe><pre id="found">'
    )
    dom = dumped(frame, folder / f"profile-{width}", *more)
    inside = dom.partition('<pre id="found">')[2].partition("</pre>")[0]
    for entity, plain in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        inside = inside.replace(entity, plain)
    return json.loads(inside)
