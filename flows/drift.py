"""What new checkpoints did to the detector: for each subset, images replaced, and AP and ACC before and after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foreign.json_files import read_json
from foreign.text import markdown_text
from generators.errors import InputError
from generators.files import write_json
from pipelines.examine.diff import changed_checkpoints, diff
from pipelines.plan.plan import Plan
from pipelines.store import Store

if TYPE_CHECKING:
    from ntf_model.judging.evaluate import Evaluation

HISTORY_FILE = "drift.json"


@dataclass(frozen=True)
class SubsetDrift:
    """One subset. A measure is `{value, low, high}`; `old` is the detector as it was, on the new images; `new` the retrained one.

    `before` is the old detector on the old images. All are None where they were not measured.
    """

    name: str
    replaced: int
    added: int
    removed: int
    before: dict[str, Any] | None
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    below_gate: bool


@dataclass(frozen=True)
class Drift:
    """One refresh: the versions that it lies between, how well the detector does before and after, and how long it took to know that.

    `time_to_detect` is in seconds, from the registration of the newest checkpoint until the detector had been evaluated on its images; None
    where no registered checkpoint was involved.
    """

    from_version: int | None
    to_version: int
    created: str
    retrained: bool
    gate: float
    time_to_detect: float | None
    checkpoints: dict[str, str]
    subsets: list[SubsetDrift] = field(default_factory=list)

    @property
    def is_compared(self) -> bool:
        """Whether a detector of before was evaluated on the new images."""
        return any(subset.old is not None for subset in self.subsets)

    @property
    def fallen(self) -> list[str]:
        """The subsets whose AP under the old detector is below the gate."""
        return [subset.name for subset in self.subsets if subset.below_gate]


def measure_drift(
    store: Store,
    plan: Plan,
    versions: tuple[int | None, int],
    before: Evaluation | None,
    old: Evaluation | None,
    new: Evaluation | None,
    finished: datetime,
) -> Drift:
    """Puts a refresh into numbers. `before`, `old` and `new` are evaluations as in `SubsetDrift`; `finished` is when `old` was known."""
    changed = diff(store, *versions) if versions[0] is not None else []
    moved = {change.subset: change for change in changed if change.role == "final"}
    gate = plan.manifest.detector.gate
    subsets = []
    for name in plan.manifest.subsets:
        change = moved.get(name)
        measures = _measures(old, name)
        value = measures["ap"]["value"] if measures else None
        subsets.append(
            SubsetDrift(
                name,
                change.replaced if change else 0,
                change.added if change else 0,
                change.removed if change else 0,
                _measures(before, name),
                measures,
                _measures(new, name),
                value is not None and value < gate,
            )
        )
    names = changed_checkpoints(store, *versions) if versions[0] is not None else set()
    added = times_added(plan, names)
    appeared = max((datetime.fromisoformat(when) for when in added.values()), default=None)
    seconds = (finished - appeared).total_seconds() if appeared else None
    return Drift(versions[0], versions[1], datetime.now(UTC).isoformat(timespec="seconds"), new is not None, gate, seconds, added, subsets)


def times_added(plan: Plan, names: Iterable[str]) -> dict[str, str]:
    """When each of the checkpoints `names` was registered (ISO 8601); those that were not are left out."""
    entries = plan.catalogue.entries
    return {name: str(entries[name].added) for name in sorted(names) if name in entries and entries[name].added}


def read_history(folder: Path) -> list[dict[str, Any]]:
    """All drifts that were noted in `folder`, oldest first, as plain data."""
    file = folder / HISTORY_FILE
    try:
        return read_json(file) if file.is_file() else []
    except ValueError:
        raise InputError(f"{file} is damaged", "Move it away: a new history begins") from None


def add_to_history(folder: Path, drift: Drift) -> Path:
    """Notes a drift in `folder/drift.json`, which appears whole or not at all.

    It takes the place of one between the same versions, which a refresh noted that was killed before its end.
    """
    file = folder / HISTORY_FILE
    folder.mkdir(parents=True, exist_ok=True)
    versions = (drift.from_version, drift.to_version)
    others = [entry for entry in read_history(folder) if (entry["from_version"], entry["to_version"]) != versions]
    write_json(file, [*others, {**asdict(drift), "fallen": drift.fallen, "is_compared": drift.is_compared}], indent=1)
    return file


def as_markdown(drift: Drift) -> str:
    """The drift as a table for people."""
    lines = [
        f"Version {drift.from_version or 'none'} to {drift.to_version}. "
        + (
            f"The detector was evaluated {drift.time_to_detect:.0f} s after the checkpoint was registered. "
            if drift.time_to_detect is not None
            else ""
        )
        + (f"Changed checkpoints: {', '.join(map(markdown_text, drift.checkpoints))}. " if drift.checkpoints else "")
        + _verdict(drift),
        "",
        "| subset | replaced | added | removed | AP before | AP, old detector | AP, retrained | ACC, old detector | ACC, retrained |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for subset in drift.subsets:
        cells = [
            _cell(subset.before, "ap"),
            _cell(subset.old, "ap"),
            _cell(subset.new, "ap"),
            _cell(subset.old, "acc"),
            _cell(subset.new, "acc"),
        ]
        lines.append(f"| {markdown_text(subset.name)} | {subset.replaced} | {subset.added} | {subset.removed} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _verdict(drift: Drift) -> str:
    if not drift.is_compared:
        return "There is nothing to compare: no detector had been evaluated before, and the one of this version is the first."
    if drift.fallen:
        return f"AP below the gate of {drift.gate:.2f}: {', '.join(map(markdown_text, drift.fallen))}."
    return f"No subset has an AP below the gate of {drift.gate:.2f}."


def _measures(evaluation: Evaluation | None, subset: str) -> dict[str, Any] | None:
    rows = [row for row in evaluation.subsets if row.name == subset] if evaluation else []
    return {key: rows[0].measures[key].model_dump() for key in ("ap", "acc")} if rows else None


def _cell(measures: dict[str, Any] | None, key: str) -> str:
    if measures is None or measures[key]["value"] is None:
        return "-"
    measure = measures[key]
    interval = f" [{measure['low'] * 100:.1f}, {measure['high'] * 100:.1f}]" if measure["low"] is not None else ""
    return f"{measure['value'] * 100:.1f}{interval}"
