"""The whole page in a paragraph, and the pipeline with what went through it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipelines.audit import read_audit
from pipelines.manifest.sizes import preparation, said
from pipelines.report import charts
from pipelines.report.source import Section, Source
from pipelines.report.words import CHANCE, count, listed, percent, size, spoken

SHORTCUTS = 4  # features shown
MADE = ("final", "intermediate")


def view(source: Source) -> dict[str, Any]:
    return {
        "dataset": _dataset(source),
        "contents": _contents(source),
        "audit": _audit(source),
        "shortcuts": _shortcuts(source),
        "result": _result(source),
        "figures": _figures(source),
        "stages": _stages(source),
    }


def _contents(source: Source) -> list[tuple[str, str]]:
    """The largest numbers, each with what it counts."""
    fakes = sum(row.label for rows in source.finals.values() for row in rows)
    others = sum(not row.label for rows in source.finals.values() for row in rows)
    reals = sum(len(rows) for rows in source.reals.values()) + others
    return [(f"{fakes:,}", "fakes"), (f"{reals:,}", "reals"), (f"{len(source.manifest.subsets):,}", "subsets")]


def _shortcuts(source: Source) -> dict[str, Any] | None:
    """The gate, and the features besides forgery that tell most, the strongest first; None where nobody audited."""
    audit = read_audit(source.store, source.version.number)
    if audit is None:
        return None
    verdicts = [{**verdict, "gate": True} for verdict in audit["container"]] + [{**verdict, "gate": False} for verdict in audit["traces"]]
    found = sorted((verdict for verdict in verdicts if not verdict["passed"]), key=lambda verdict: -verdict["auc"])
    return {
        "gate": audit["gate"],
        "rows": [
            {**verdict, "drawn": charts.interval({**verdict, "value": verdict["auc"]}, as_bar=False)} for verdict in found[:SHORTCUTS]
        ],
        "all": len(found),
        "judged": len(verdicts),
        "images": audit["rows"],
    }


def _figures(source: Source) -> dict[str, Any] | None:
    """What the first detector reaches on average over the subsets, beside chance, and how many test images that rests on."""
    if not source.inputs.runs:
        return None
    evaluation = source.inputs.runs[0].evaluation
    mean = evaluation["overall"]["unweighted"]
    rows = [
        ("AUROC", "auroc", CHANCE["auroc"]),
        ("AP", "ap", mean.get("chance")),
        ("reals called fake, at 0.5", "fpr", None),
        ("fakes called real, at 0.5", "fnr", None),
    ]
    labels = evaluation["scores"]["label"]
    smallest = min(evaluation["subsets"], key=lambda row: min(row["n_real"], row["n_fake"]), default=None)
    return {
        "title": evaluation["title"],
        "rehearsal": evaluation.get("rehearsal", ""),
        "rows": [
            {"name": name, "measure": measure, "chance": chance, "drawn": charts.interval(measure, guide=chance)}
            for name, key, chance in rows
            if (measure := mean["measures"].get(key)) is not None
        ],
        "fakes": sum(labels),
        "reals": len(labels) - sum(labels),
        "smallest": smallest,
    }


def _dataset(source: Source) -> str:
    """What this is, in three sentences."""
    manifest = source.manifest
    fakes = {name: own for name, rows in source.finals.items() if (own := [row for row in rows if row.label])}
    retouched = {name: own for name, rows in source.finals.items() if (own := [row for row in rows if not row.label])}
    families = Counter(rows[0].family for rows in fakes.values())
    steps = [step for _, _, part in manifest.walk() for step in part.chain]
    reals = [f"{len(rows):,} of {name}" for name, rows in source.reals.items()]
    reals += [f"{len(rows):,} retouched ones ({name})" for name, rows in retouched.items()]
    subsets = count(sum(subset.fakes > 0 for subset in manifest.subsets.values()), "subset")
    kinds = listed([f"{number} {family}" for family, number in families.items()])
    generators = count(len({step.generator for step in steps}), "generator")
    checkpoints = count(len({step.checkpoint for step in steps}), "checkpoint")
    return (
        f"{source.dataset} is a dataset of {count(sum(map(len, fakes.values())), 'fake image')} at {said(manifest.size)} in "
        f"{subsets} ({kinds}), made by {generators} from {checkpoints}, and of the real images that they "
        f"are compared with: {listed(reals)}. Fakes and reals went through the same decoder, framing and encoder "
        f"({preparation(manifest.size).lower()}; {manifest.codec.format.upper()})."
    )


def _result(source: Source) -> str:
    """The first detector's mean result, its weakest subset, and how it compares."""
    if not source.inputs.runs:
        return "No detector has been evaluated on it yet."
    evaluation = source.inputs.runs[0].evaluation
    mean = evaluation["overall"]["unweighted"]["measures"]
    worst = next((row for row in evaluation["subsets"] if row["name"] == evaluation["worst"]), None)
    text = (
        f"{evaluation['title']}, evaluated on the test split, whose photographs and people are in no other split, reaches a mean average "
        f"precision (AP) of {spoken(mean['ap'])} over {count(len(evaluation['subsets']), 'subset')}, and an accuracy of "
        f"{spoken(mean['acc_fixed'])} at the threshold that validation fixed."
    )
    if worst is not None:
        text += f" Its weakest subset is {worst['name']}: AP {spoken(worst['measures']['ap'])}."
    comparison = source.inputs.comparison
    if comparison:
        cells = comparison["cells"]
        ranked = sorted(comparison["detectors"], key=lambda detector: -(cells[detector["name"]]["mean"]["ap"]["value"] or 0))
        best, ap = ranked[0], cells[ranked[0]["name"]]["mean"]["ap"]
        text += f" Of the {len(ranked)} detectors compared, {best['title']} has the highest mean AP: {spoken(ap)}."
    return text


def _audit(source: Source) -> str:
    audit = read_audit(source.store, source.version.number)
    if audit is None:
        return "The shortcut audit has not been run on this version."
    gate = audit["gate"]
    state = "passed" if gate["passed"] else "failed" if gate["judged"] else "could not judge this version"
    return f"The shortcut audit {state}: {gate['reason'].rstrip('.')}."


def _stages(source: Source) -> list[dict[str, Any]]:
    """The boxes of the pipeline, each with the section that says more."""
    manifest, rows, runs = source.manifest, source.rows, source.inputs.runs
    roles = Counter(row.role for row in rows)
    fakes, retouched = (sum(getattr(subset, side) for subset in manifest.subsets.values()) for side in ("fakes", "retouched"))
    planned = [count(fakes, "fake") + " planned"]
    if retouched:
        planned.append(count(retouched, "retouched real") + " planned")
    first = sum(row.step == 0 and row.role in MADE for row in rows)
    later = sum(row.step > 0 and row.role in MADE for row in rows)
    stages = [
        ("Manifest", "subsets", [count(len(manifest.subsets), "subset"), *planned, f"seed {manifest.seed}"]),
        (
            "Generate",
            "ledger",
            [f"{first:,} first steps", f"{later:,} later steps", count(roles["rejected"], "try", "tries") + " rejected"],
        ),
        (
            "Store",
            "versions",
            [f"version {source.version.number}", count(len(rows), "row"), size(sum(row.bytes or 0 for row in rows)) + " of images"],
        ),
    ]
    if runs:
        evaluation = runs[0].evaluation
        learnt = (runs[0].record or {}).get("dataset", {}).get("train")
        mean = evaluation["overall"]["unweighted"]["measures"]["ap"]
        taught = [f"{learnt['images']:,} images", f"{learnt['fakes']:,} of them fake"] if learnt else []
        stages.append(("Train", "detectors", [evaluation["title"], *taught]))
        judged = count(len(evaluation["scores"]["score"]), "test image")
        stages.append(("Evaluate", "detectors", [judged, f"mean AP {percent(mean['value'])} %", count(len(runs), "detector")]))
    else:
        stages += [("Train", "detectors", ["no detector yet"]), ("Evaluate", "detectors", ["not evaluated yet"])]
    return [{"name": name, "section": section, "facts": facts} for name, section, facts in stages]


SECTION = Section("overview", "Overview", view)
