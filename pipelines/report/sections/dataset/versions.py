"""The versions of the dataset, what the newest step changed, and what new checkpoints did to the detector."""

from __future__ import annotations

from typing import Any

from generators.errors import InputError
from pipelines.examine.diff import diff
from pipelines.report.source import Section, Source

SHOWN = 12  # versions, the newest
CAUSES = 3


def view(source: Source) -> dict[str, Any]:
    log = source.store.log()
    before = [version for version in log if version.number < source.version.number]
    changed: list[Any] = []
    if before:
        try:
            changed = diff(source.store, before[-1].number, source.version.number)
        except InputError:  # the earlier version is not whole any more
            before = []
    return {
        "log": log[-SHOWN:],
        "all": len(log),
        "before": before[-1].number if before else None,
        "changed": [
            {"diff": difference, "causes": [f"{cause} ({n})" for cause, n in difference.causes.most_common(CAUSES)]}
            for difference in changed
        ],
        "history": list(reversed(source.inputs.history)),
    }


SECTION = Section("versions", "Versions and drift", view)
