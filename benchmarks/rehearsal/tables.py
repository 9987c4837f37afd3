"""What a rehearsal gave, kept as JSON between its commands, and as tables."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.rehearsal.commands import Run
from benchmarks.rehearsal.manifests import PAPER
from benchmarks.rehearsal.stand_ins import STAND_INS

FILE = "rehearsal.json"
SCREEN = 30  # lines
GIB = 2**30
COMMAND = ("command", "seconds", "CPU seconds", "seconds hashing checkpoints", "GiB of memory", "load of the machine")


@dataclass
class Rehearsal:
    """The commands of a rehearsal, by what they were about. `check` and `build` are None until they have run."""

    scale: str
    threads: int
    written: dict[str, Run] = field(default_factory=dict)
    fetched: dict[str, Run] = field(default_factory=dict)
    inspected: dict[str, Run] = field(default_factory=dict)
    each: dict[str, Run] = field(default_factory=dict)
    rows: dict[str, Run] = field(default_factory=dict)
    plans: list[Run] = field(default_factory=list)
    check: Run | None = None
    build: Run | None = None
    again: list[Run] = field(default_factory=list)

    @classmethod
    def load(cls, work: Path, scale: str, threads: int) -> Rehearsal:
        """What the folder `work` holds of an earlier call, or nothing."""
        file = work / FILE
        if not file.is_file():
            return cls(scale, threads)
        data = json.loads(file.read_text())
        result = cls(data.pop("scale"), data.pop("threads"))
        for name, value in data.items():
            if isinstance(value, dict) and "words" not in value:
                setattr(result, name, {key: _run(run) for key, run in value.items()})
            else:
                setattr(result, name, [_run(run) for run in value] if isinstance(value, list) else value and _run(value))
        return result

    def save(self, work: Path) -> None:
        (work / FILE).write_text(json.dumps(asdict(self), indent=1))

    def places(self, work: Path) -> dict[str, Path]:
        """Where the checkpoints that were fetched lie, by name."""
        done = [entry for run in self.fetched.values() if run.data for entry in run.data["fetched"]]
        return {entry["name"]: work / entry["path"] for entry in done}

    def findings(self) -> list[dict[str, Any]]:
        """What `ntf check` found of each step, in a process of its own where there was one."""
        alone = [finding | {"peak_bytes": run.peak} for run in self.each.values() for finding in run.data or ()]
        return alone or (self.check.data if self.check and self.check.data else [])

    def built(self) -> dict[str, bool]:
        """Whether all shards of each subset are in the store, by the last plan."""
        data = self.again[-1].data if self.again else None
        whole: dict[str, bool] = {}
        for name in data["subsets"] if data else ():
            own = [shard["present"] for shard in data["shards"] if shard["title"].partition(" step ")[0] == name]
            whole[name] = bool(own) and all(own)
        return whole

    def problems(self) -> list[str]:
        """What is not as it must be, in one line each."""
        problems = []
        if self.fetched:
            came = set(self.places(Path()))
            problems += [f"{name} was not recognised" for name in STAND_INS if name not in came]
            problems += [f"fetch did not take: {doubt}" for run in self.fetched.values() if run.data for doubt in run.data["not_taken"]]
        for name, run in self.inspected.items():
            if run.code or len(run.out.splitlines()) > SCREEN:
                problems.append(f"inspect of {name}: exit code {run.code}, {len(run.out.splitlines())} lines, {run.err.strip()[:200]}")
        problems += [f"check of {finding['what']}: {finding['problem']}" for finding in self.findings() if finding["problem"]]
        if self.check and self.check.code:
            problems.append(f"ntf check paper ended with {self.check.code}: {self.check.err.strip()[-300:]}")
        if self.build and self.build.code:
            problems.append(f"ntf build ended with {self.build.code}: {self.build.err.strip()[-300:]}")
        problems += [
            f"ntf build of {subset} ended with {run.code}: {run.err.strip()[-300:]}" for subset, run in self.rows.items() if run.code
        ]
        problems += [f"ntf plan paper ended with {run.code}: {run.err.strip()[-300:]}" for run in self.plans[1:] if run.code]
        problems += [f"{subset} is not whole" for subset, whole in self.built().items() if not whole]
        if self.again and len(self.built()) != len(_paper()["subsets"]):
            problems.append(f"the plan shows {len(self.built())} subsets")
        return problems


def markdown(result: Rehearsal, work: Path) -> str:
    """The tables: checkpoints, steps, commands. Checkpoints lie in the folder `work`."""
    lines = [f"Scale {result.scale}, {result.threads} threads, {platform.machine()}.", ""]
    lines += ["| checkpoint | form | GiB | fetch --from | inspect | GiB of memory |", "|---|---|---|---|---|---|"]
    for name, stand_in in STAND_INS.items():
        fetch, inspect = result.fetched.get(name), result.inspected.get(name)
        size = _size_of(name, result, work)
        cells = [name, stand_in.form, f"{size / GIB:.2f}" if size else "", f"{fetch.seconds:.1f} s" if fetch else ""]
        cells += [f"{inspect.seconds:.1f} s", f"{inspect.peak / GIB:.2f}"] if inspect else ["", ""]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| step | size | load | one image | GiB of memory |", "|---|---|---|---|---|"]
    for finding in result.findings():
        times = [f"{finding[key]:.1f} s" if finding[key] is not None else "" for key in ("load_seconds", "image_seconds")]
        shown = finding["problem"] or finding["size"]
        lines.append(f"| {finding['what']} | {shown} | {' | '.join(times)} | {finding['peak_bytes'] / GIB:.2f} |")
    lines += ["", f"| {' | '.join(COMMAND)} |", "|---" * len(COMMAND) + "|"]
    titles = {"ntf plan paper, the first time": result.plans[:1], "ntf plan paper, the second time": result.plans[1:2]}
    titles |= {"ntf check paper": [result.check] if result.check else [], "ntf build, few steps": [result.build] if result.build else []}
    titles |= {"ntf plan paper, once it is built": result.again[:1]}
    for title, runs in titles.items():
        lines += [_command_line(title, run) for run in runs]
    lines += [_command_line(f"ntf build, few steps, {subset} alone", run) for subset, run in result.rows.items()]
    built = result.built()
    return "\n".join([*lines, "", f"{sum(built.values())} of {len(built)} subsets are built."] if built else lines)


def _command_line(title: str, run: Run) -> str:
    return f"| {title} | {run.seconds:.1f} | {run.cpu:.1f} | {run.hashing:.2f} | {run.peak / GIB:.2f} | {run.load:.1f} |"


def _size_of(name: str, result: Rehearsal, work: Path) -> int:
    """The bytes of a checkpoint as it lies in the checkpoint folder; 0 if it is not there."""
    path = result.places(work).get(name)
    if path is None or not path.exists():
        return 0
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _run(value: dict[str, Any]) -> Run:
    return Run(**{**value, "words": tuple(value["words"])})


def _paper() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(PAPER.read_text(encoding="utf-8"))
    return data
