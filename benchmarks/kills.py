"""Kills of all kinds, over builds, shared builds, refreshes, fetches, mends and exports: is anything lost or doubled, and is all resumed?

    python benchmarks/kills.py --kills 1000             # without refreshes, which need a Prefect server
    python benchmarks/kills.py --kills 50 --acts refresh

A kill is SIGKILL of the whole group, or of one of its processes, or a power cut: the store's folder is copied while it is written, and the
copy is what is left. It comes at a random moment of a command's usual time. After each kill every version that was promised is read back
and its digest compared, and rows are counted that are there twice. After some kills the same command runs to its end, and must come to
what an undisturbed one comes to. The generators are stand-ins that take no time; their pictures, files and commits are real.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path[0] = str(ROOT)

import yaml  # noqa: E402

from benchmarks.stand_ins import file_server, stand_in_dataset  # noqa: E402
from pipelines.store import Store, StoreDamaged  # noqa: E402

KINDS = ("group", "one", "cut")
ACTS = ("build", "spread", "mend", "export", "fetch")
KILLS_PER_CASE = 5
DATASET = "stand-ins"  # as the manifest of the stand-ins names it
BODY = random.Random(0).randbytes(3_000_000)


@dataclass
class Tally:
    """What came of the kills of one act. `seconds` are those of commands that nobody killed."""

    kills: Counter[str] = field(default_factory=Counter)
    finished: int = 0  # commands that were faster than their kill
    cases: int = 0
    lost: int = 0
    doubled: int = 0
    resumed: int = 0
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def row(self, act: str) -> str:
        kinds = " | ".join(str(self.kills[kind]) for kind in KINDS)
        return f"| {act} | {self.kills.total()} | {kinds} | {self.lost} | {self.doubled} | {self.resumed} of {self.cases} |"


class Site:
    """A folder with a manifest, stores at different states, and the process that forks."""

    def __init__(self, folder: Path, server: str, chance: random.Random):
        self.folder, self.chance, self.server = folder, chance, server
        self.manifest = stand_in_dataset(folder / "data", 24)
        places = {"NTF_CACHE": folder / "cache", "NTF_CHECKPOINTS": folder / "checkpoints", "KILLS_LOG": folder / "log"}
        for name, value in {**places, "PYTHONPATH": ROOT}.items():
            os.environ[name] = str(value)
        command = [sys.executable, str(ROOT / "benchmarks" / "kills_acts.py")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder)
        assert self.process.stdout and self.process.stdout.readline() == "ready\n"
        self.ask(["build", str(self.manifest), "--store", str(folder / "before"), "--device", "cpu"])
        (self.manifest.parent / "swapper.txt").write_text("9")
        self.ask(["build", str(self.manifest), "--store", str(folder / "after"), "--device", "cpu"])
        self.digest = Store(folder / "after", DATASET).digest()
        self.work = folder / "work"

    def ask(self, words: list[str], kill: str | None = None, after: float = 0.0) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        order = {"words": words, "kill": kill, "after": after, "store": str(self.folder / "work" / "store")}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return dict(json.loads(self.process.stdout.readline()))

    def fresh(self, state: str | None) -> Store:
        """The working store, as a copy of `before`, `after`, or with nothing in it."""
        self.ask([])  # nobody is to write there any more
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        if state:
            shutil.copytree(self.folder / state, self.work / "store")
        return Store(self.work / "store", DATASET)


def killed_case(site: Site, tally: Tally, words: list[str], kinds: tuple[str, ...], state: str | None, spoil: Any = None) -> None:
    """One case: some kills of a command, each with a look at the store, and the command to its end."""
    store = site.fresh(state)
    promised = {version.number: version.digest for version in store.log()} if store.exists() else {}
    if spoil:
        spoil(store)
    tally.cases += 1
    usual = sum(tally.seconds[-10:]) / len(tally.seconds[-10:]) if tally.seconds else 1.0
    for _ in range(KILLS_PER_CASE):
        kind = site.chance.choice(kinds)
        answer = site.ask(words, kind, site.chance.uniform(0, usual))
        lost, doubled = lost_and_doubled(Store(site.work / "store", DATASET), {} if spoil else promised)
        tally.lost, tally.doubled = tally.lost + lost, tally.doubled + doubled
        if answer["end"] != "killed":  # a further kill would hit a command that has nothing to do
            tally.finished += 1
            break
        tally.kills[kind] += 1
    else:
        answer = site.ask(words)
    tally.seconds.append(answer["seconds"])
    if answer["end"] != 0:
        tally.wrong.append(f"{' '.join(words[:2])} ended with {answer['end']}")


def lost_and_doubled(store: Store, promised: dict[int, str]) -> tuple[int, int]:
    """Versions that were promised and are not as they were, and rows that the newest has twice."""
    if not store.exists():
        return len(promised), 0
    versions = {version.number: version.digest for version in store.log()}
    lost = sum(versions.get(number) != digest for number, digest in promised.items())
    for number, digest in versions.items():
        try:
            lost += bool(digest) and store.digest(number) != digest
        except ValueError:
            lost += number in promised
        promised.setdefault(number, digest)
    try:
        counts = Counter(row.id for row in store.rows("role != 'rejected'"))
    except StoreDamaged:  # not mended yet
        return lost, 0
    return lost, sum(count - 1 for count in counts.values())


def judge(site: Site, tally: Tally, is_right: bool, what: str) -> None:
    tally.resumed += is_right
    tally.lost += not is_right
    if not is_right:
        tally.wrong.append(what)


def ends_right(site: Site) -> bool:
    """Whether the working store is what an undisturbed build comes to."""
    store = Store(site.work / "store", DATASET)
    return store.exists() and store.digest() == store.version().digest == site.digest


def build(site: Site, tally: Tally) -> None:
    words = ["build", str(site.manifest), "--store", str(site.work / "store"), "--device", "cpu"]
    killed_case(site, tally, words, KINDS, site.chance.choice((None, "before")))
    judge(site, tally, ends_right(site), "a build has another digest")


def spread(site: Site, tally: Tally) -> None:
    killed_case(site, tally, ["spread", str(site.manifest), str(site.work / "store")], KINDS, site.chance.choice((None, "before")))
    judge(site, tally, ends_right(site), "a shared build has another digest")


def mend(site: Site, tally: Tally) -> None:
    def spoil(store: Store) -> None:
        for name in site.chance.sample(sorted(store.data.sizes()), 2):
            file = Path(store.data.location) / name
            file.write_bytes(file.read_bytes()[: site.chance.randint(0, 9000)])

    killed_case(site, tally, ["store", "mend", DATASET, "--store", str(site.work / "store")], KINDS, "after", spoil)
    site.ask(["build", str(site.manifest), "--store", str(site.work / "store"), "--device", "cpu"])
    judge(site, tally, ends_right(site), "a mended store has another digest after the build")


def export(site: Site, tally: Tally) -> None:
    out = site.work / "out"
    killed_case(site, tally, ["export", DATASET, str(out), "--store", str(site.work / "store")], ("group", "one"), "after")
    if not out.exists():
        site.ask(["export", DATASET, str(out), "--store", str(site.work / "store")])
    tally.wrong = [line for line in tally.wrong if not line.startswith("export")]  # it is there already: a kill came too late
    lines = (out / "rows.jsonl").read_text().splitlines() if out.exists() else []
    wanted = len(Store(site.work / "store", DATASET).rows("role IN ('final', 'real')"))
    whole = len(lines) == wanted and all((out / json.loads(line)["file"]).is_file() for line in lines)
    judge(site, tally, whole and ends_right(site), "an export is not whole")


def fetch(site: Site, tally: Tally) -> None:
    site.fresh(None)
    entry = {"generators": ["ddpm"], "file": "ck/w", "licence": "MIT", "url": f"{site.server}/w"}
    subsets = {"S": {"count": 2, "real": "r", "chain": [{"sample": "ddpm", "checkpoint": "w"}]}}
    reals = {"r": {"package": "faces", "count": 30, "licence": "x"}}
    data = {"dataset": "d", "size": 32, "reals": reals, "checkpoints": {"w": entry}, "subsets": subsets}
    manifest = site.work / "m.yaml"

    def spoil(store: Store) -> None:
        manifest.write_text(yaml.safe_dump(data))

    killed_case(site, tally, ["fetch", str(manifest), "--accept", "MIT"], ("group", "one"), None, spoil)
    file = site.work / "ck" / "w"
    judge(site, tally, file.is_file() and file.read_bytes() == BODY, "a fetched file is not the server's")


def refresh(site: Site, tally: Tally) -> None:
    if not (site.folder / "detector").exists():
        first_detector(site)
    runs = site.work / "runs"

    def spoil(store: Store) -> None:
        shutil.copytree(site.folder / "detector", runs)

    killed_case(site, tally, ["refresh", str(site.manifest), str(site.work / "store"), str(runs)], ("group", "one"), "before", spoil)
    history = json.loads((runs / DATASET / "drift.json").read_text())
    current = json.loads((runs / DATASET / "current.json").read_text())
    steps = [(entry["from_version"], entry["to_version"]) for entry in history]
    newest = Store(site.work / "store", DATASET).version().number
    is_whole = steps == [(1, newest)] and current["version"] == newest
    judge(site, tally, is_whole and ends_right(site), f"a refresh reports {steps}, and the newest version is {newest}")


def first_detector(site: Site) -> None:
    """A detector in use for version 1, which the refreshes evaluate and do not train again."""
    data = json.loads(site.manifest.read_text())
    stage = {"epochs": 1, "batch_size": 8}
    data["detector"] = {"preset": "demo", "retrain": "never", "config": {"stage1": stage, "stage2": dict(stage)}}
    site.manifest.write_text(json.dumps(data))
    (site.manifest.parent / "swapper.txt").write_text("5")
    answer = site.ask(["refresh", str(site.manifest), str(site.folder / "before"), str(site.folder / "detector")])
    assert answer["end"] == 0, f"the first refresh ended with {answer['end']}: see {site.folder / 'log'}"
    (site.folder / "detector" / DATASET / "drift.json").unlink()
    (site.manifest.parent / "swapper.txt").write_text("9")


def run_case(case: Callable[[Site, Tally], None], site: Site, tally: Tally) -> None:
    known = len(tally.wrong)
    try:
        case(site, tally)
    except Exception as error:  # whatever it is, it is something that was not resumed
        if site.process.poll() is not None:
            raise
        tally.lost += 1
        tally.wrong.append(f"{type(error).__name__}: {error}")
    for line in tally.wrong[known:]:
        print(f"  {line}", file=sys.stderr, flush=True)


def progress(tallies: dict[str, Tally]) -> str:
    """The kills of each act so far, and the seconds of its last command that came to its end."""
    return ", ".join(f"{name} {tally.kills.total()} ({tally.seconds[-1]:.1f} s)" for name, tally in tallies.items() if tally.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="in all, as many of each act")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop after so long")
    parser.add_argument("--acts", default=",".join(ACTS), help=f"of {', '.join(ACTS)}, and refresh, which needs PREFECT_API_URL")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chosen: dict[str, Callable[[Site, Tally], None]] = {name: globals()[name] for name in options.acts.split(",")}
    tallies = {name: Tally() for name in chosen}
    share = math.ceil(options.kills / len(chosen))

    def is_open(tally: Tally) -> bool:
        return tally.kills.total() < share

    for number in (signal.SIGINT, signal.SIGTERM):  # a shell without job control lets what it runs in the background ignore SIGINT
        signal.signal(number, signal.default_int_handler)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder, file_server(BODY, 0.002) as server:
        site = Site(Path(folder), server, random.Random(options.seed))
        try:
            while any(is_open(tally) for tally in tallies.values()) and time.monotonic() - start < 60 * options.minutes:
                for name, case in chosen.items():
                    if is_open(tallies[name]):
                        run_case(case, site, tallies[name])
                print(f"{(time.monotonic() - start) / 60:.1f} min: {progress(tallies)}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:  # what was counted is told all the same
            pass
        log = (Path(folder) / "log").read_text(errors="replace")
        assert site.process.stdin
        site.process.stdin.close()
        try:
            site.process.wait(60)
        except subprocess.TimeoutExpired:  # what was counted is told all the same
            site.process.kill()
            site.process.wait()
    print("| act | kills | group | one process | power cut | lost | doubled | resumed |\n|---|---|---|---|---|---|---|---|")
    for name, tally in tallies.items():
        print(tally.row(name))
    everything = list(tallies.values())
    kills, lost, doubled = (sum(values) for values in zip(*((t.kills.total(), t.lost, t.doubled) for t in everything), strict=True))
    resumed, cases = sum(tally.resumed for tally in everything), sum(tally.cases for tally in everything)
    print(f"\n{kills} kills in {(time.monotonic() - start) / 60:.0f} minutes: {lost} lost, {doubled} doubled, {resumed} of {cases} resumed")
    finished = ", ".join(f"{name} {tally.finished}" for name, tally in tallies.items())
    print(f"commands that ended before their kill: {finished}")
    print(f"{log.count('Traceback')} tracebacks in what the commands said; load {os.getloadavg()[0]:.1f}")
    for last in sorted({part.strip().splitlines()[-1][:200] for part in log.split("Traceback")[1:] if part.strip()})[:5]:
        print(f"  {last}")
    for name, tally in tallies.items():
        for line in tally.wrong:
            print(f"  {name}: {line}")


if __name__ == "__main__":
    main()
