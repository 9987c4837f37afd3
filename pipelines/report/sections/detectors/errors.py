"""The first detector's worst errors on the test split: reals that it calls fake and fakes that it calls real, the surest first."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.report.inputs import Data
from pipelines.report.source import Section, Source, anchor

SIDE = 128  # px of a picture: it can be enlarged
ALL_ERRORS = 120  # pictures on the whole page
MOST = 8  # of one subset or real source


def view(source: Source) -> dict[str, Any] | None:
    if not source.inputs.runs:
        return None
    evaluation = source.inputs.runs[0].evaluation
    groups = errors_of(evaluation)
    most = max(2, min(MOST, ALL_ERRORS // max(1, sum(bool(group["errors"]) for group in groups))))
    wanted = [name for group in groups for name, _ in group["errors"][:most]]
    pixels = source.pixels(wanted[:ALL_ERRORS])
    shown = [
        {
            **group,
            "anchor": f"errors-{group['kind']}-{anchor(group['name'])}",
            "all": len(group["errors"]),
            "pictures": [
                {"id": name, "score": score, "picture": source.album.add(pixels[name], SIDE)}
                for name, score in group["errors"][:most]
                if name in pixels
            ],
        }
        for group in groups
    ]
    return {
        "title": evaluation["title"],
        "threshold": evaluation["threshold"],
        "rehearsal": evaluation.get("rehearsal", ""),
        "alarms": [group for group in shown if group["kind"] == "alarm"],
        "misses": [group for group in shown if group["kind"] == "miss"],
    }


def errors_of(evaluation: Data) -> list[dict[str, Any]]:
    """The errors of each real source ("alarm": score above the threshold) and each subset of fakes ("miss": not above it), those that lie
    farthest from the threshold first, with the number of `judged` images. The groups with the largest share of errors come first."""
    scores, threshold = evaluation["scores"], evaluation["threshold"]
    ids, names = scores["id"], np.array(scores["subset"])
    labels, values = np.array(scores["label"]), np.array(scores["score"], float)
    groups = []
    for kind, label, sign in (("alarm", 0, 1), ("miss", 1, -1)):
        for name in dict.fromkeys(names[labels == label].tolist()):
            members = np.flatnonzero((labels == label) & (names == name))
            wrong = members[(values[members] > threshold) == (label == 0)]
            order = wrong[np.argsort(-sign * values[wrong], kind="stable")]
            errors = [(ids[row], float(values[row])) for row in order]
            groups.append({"kind": kind, "name": name, "judged": len(members), "errors": errors})
    return sorted(groups, key=lambda group: -len(group["errors"]) / group["judged"])


SECTION = Section("errors", "Worst errors", view, "`ntf evaluate {dataset}`, then `ntf report {dataset} --runs runs/ntf`")
