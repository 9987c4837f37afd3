"""Where the detector looks, where its features lie, and whether the distance to the natural trace is a score of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipelines.images import read_image
from pipelines.report import charts
from pipelines.report.inputs import Data, Run
from pipelines.report.source import Section, Source

SIDE = 96  # px of a picture and of its heat map
PICTURES = 4  # of each row of the sheet
POINTS = 1500  # in one map, evenly taken


def view(source: Source) -> dict[str, Any] | None:
    runs = [_run(source, run, number) for number, run in enumerate(source.inputs.runs) if run.gradcam or run.embeddings or run.distance]
    return {"runs": runs} if runs else None


def _run(source: Source, run: Run, number: int) -> dict[str, Any]:
    return {
        "title": run.evaluation["title"],
        "sheet": _sheet(source, run.folder, run.gradcam) if run.gradcam else [],
        "full": (run.gradcam or {}).get("full", 0.0),
        "bar": charts.heat_bar(f"heat-{number}"),
        "cloud": f"cloud-{number}",
        **(_maps(source, run.embeddings, f"cloud-{number}") if run.embeddings else {"ground": "", "maps": []}),
        "distance": _distance(run.evaluation, run.distance) if run.distance else [],
    }


def _sheet(source: Source, folder: Path, record: Data) -> list[dict[str, Any]]:
    """For each row its pictures, each beside its heat map."""
    rows, side = [], record["side"]
    for row in record["rows"]:
        strip = read_image(folder / "gradcam" / Path(row["strip"]).name)
        pairs = []
        for place, picture in enumerate(row["pictures"][:PICTURES]):
            crop, heat = (strip[:, (2 * place + half) * side : (2 * place + half + 1) * side] for half in (0, 1))
            if heat.shape[1] == side:
                pairs.append({**picture, "crop": source.album.add(crop, SIDE), "heat": source.album.add(heat, SIDE)})
        rows.append({"name": row["name"], "kind": "fake" if row["label"] else "real", "pairs": pairs})
    return rows


def _maps(source: Source, record: Data, cloud: str) -> dict[str, Any]:
    """A small map for each subset: everything as faint dots, its reals as rings, its fakes as crosses."""
    points = np.asarray(record["points"], float).reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    placed = (points - low) / np.maximum(high - low, 1e-9)
    labels, names = np.array(record["labels"]), np.array(record["subsets"])
    taken = np.zeros(len(points), bool)
    taken[:: max(1, -(-len(points) // POINTS))] = True
    maps = []
    for name, subset in source.manifest.subsets.items():
        fakes = (labels == 1) & (names == name)
        reals = (labels == 0) & np.isin(names, subset.reals)
        if not fakes.any() or not reals.any():
            continue
        spread = float(np.sqrt(points[reals].var(0).sum()))
        apart = float(np.linalg.norm(points[fakes].mean(0) - points[reals].mean(0))) / max(spread, 1e-9)
        said = f"{name}: the centre of {fakes.sum()} fakes is {apart:.1f} spreads from that of {reals.sum()} reals"
        maps.append(
            {
                "name": name,
                "fakes": int(fakes.sum()),
                "reals": int(reals.sum()),
                "apart": apart,
                "drawn": charts.embedding(cloud, placed[reals & taken], placed[fakes & taken], f"Map of embeddings, {said}"),
            }
        )
    return {"ground": charts.cloud(placed[taken]), "maps": maps}


def _distance(evaluation: Data, distance: Data) -> list[dict[str, Any]]:
    """AP of the classifier and of the distance, subset by subset and on average."""
    judged = {row["name"]: row["measures"]["ap"] for row in [*evaluation["subsets"], evaluation["overall"]["unweighted"]]}
    rows = [*distance["subsets"], distance["overall"]["unweighted"]]
    return [
        {"name": row["name"], "classifier": judged[row["name"]], "distance": row["measures"]["ap"]} for row in rows if row["name"] in judged
    ]


SECTION = Section("explanation", "Explanation", view, "`ntf explain {dataset} --run runs/ntf`, then this page again")
