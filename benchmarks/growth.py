"""What a dataset of 100,000 to 100 million rows costs, where little or nothing changes: plan, build, commit, difference and training order.

    python benchmarks/growth.py                                  # 100,000 and 1, 10 and 100 million rows
    python benchmarks/growth.py --rows 100000,10000000 --shard-size 1024

Images are stand-ins of a few bytes. One shard of each step is written for real. The data files of the others are hard links to it, so that
Lance, the store and the file system have as many files as they would, and the disk has not. The plan is a true one: every key is derived.
Six of ten rows are finals of a sampler, two are sampled images, and two are the swaps made from those, with a source of 24 people.

Each measurement is a process of its own, so that its peak memory is its own. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file: a neighbour of that name would hide the package `generators`
    sys.path[0] = str(ROOT)

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from lance.fragment import DataFile, FragmentMetadata  # noqa: E402

from benchmarks.stand_ins import SIDE, stand_in_dataset, stand_ins  # noqa: E402
from ntf_model.data.data import DetectionData  # noqa: E402
from ntf_model.data.sampling import BalancedBatches  # noqa: E402
from pipelines.build.build import run_build  # noqa: E402
from pipelines.examine.diff import diff  # noqa: E402
from pipelines.manifest.bounds import VARIABLE  # noqa: E402
from pipelines.manifest.load import load_manifest  # noqa: E402
from pipelines.plan.plan import Plan, make_plan  # noqa: E402
from pipelines.plan.shards import Shard, image_id  # noqa: E402
from pipelines.reading import read_table  # noqa: E402
from pipelines.store import Row, Store  # noqa: E402
from pipelines.store.versions.contents import Added  # noqa: E402

ROWS = (100_000, 1_000_000, 10_000_000, 100_000_000)
MOST_ORDERED = 1_000_000  # rows up to which a training epoch is put in order: it takes memory by the row
MOST_LINKS = 60_000  # names of one file; ext4 takes 65,000
ADDED = 1000  # images of a commit
ROUNDS = 5
MEASURES = ("plan", "noop", "commit", "diff", "order")


def manifest_of(folder: Path, rows: int, shard_size: int) -> Path:
    """The manifest of so many rows."""
    file = stand_in_dataset(folder, 8)
    data = json.loads(file.read_text())
    counts = {"Sampled": rows * 6 // 10, "Chained": rows // 5}
    data["subsets"] = {name: {**data["subsets"][name], "count": count} for name, count in counts.items()}
    file.write_text(json.dumps({**data, "shard_size": shard_size}))
    return file


def planned(folder: Path) -> Plan:
    return make_plan(load_manifest(folder / "data" / "stand-ins.yaml"))


def rows_of(shard: Shard, image: bytes) -> list[Row]:
    """The rows of a shard, as a build would write them, with one image for all."""
    chain = [{"kind": "sample", "generator": "stand_in_sampler", "checkpoint": "sampler", "parameters": {}, "attempt": 0}]
    rows = []
    for index in range(shard.start, shard.stop):
        name = image_id(shard.subset, shard.real, shard.part, index)
        split = ("train", "train", "validation", "test")[index % 4]
        rows.append(
            Row(
                f"{name}/{shard.step}",
                shard.role,
                int(shard.role != "real"),
                shard.subset or shard.real,
                shard.real,
                "GAN",
                "GAN",
                index,
                split,
                name,
                shard.key,
                "CC0",
                step=shard.step,
                seed=index,
                chain=[{**chain[0], "seed": index}],
                format="png",
                width=SIDE,
                height=SIDE,
                bytes=len(image),
                sha256=f"{index:064x}",
                phash=f"{index:016x}",
                image=image,
            )
        )
    return rows


def fill(folder: Path) -> list[float]:
    """A store with all shards of the plan: one of each step for real, the others as links to it."""
    plan, image = planned(folder), picture()
    store = Store(folder / "store", plan.manifest.dataset)
    written: dict[tuple[str, int], tuple[FragmentMetadata, str]] = {}
    added, links = [], dict[str, int]()
    for number, shard in enumerate(plan.shards):
        kind = (shard.subset, shard.step)
        if kind not in written or written[kind][0].physical_rows != shard.count:
            note = store.write_shard(shard.key, shard.title, rows_of(shard, image))
            written[kind] = (FragmentMetadata.from_json(json.dumps(note.fragment)), note.digest)
            store.notes.drop([note.key])
        fragment, text = written[kind]
        file = fragment.files[0]
        own = DataFile(f"{number:09d}.lance", file.fields, file.column_indices, file.file_major_version, file.file_minor_version)
        own.file_size_bytes = file.file_size_bytes
        source = f"{file.path}.{links.get(file.path, 0) // MOST_LINKS}"
        if links.get(file.path, 0) % MOST_LINKS == 0:
            (Path(store.data.location) / source).write_bytes((Path(store.data.location) / file.path).read_bytes())
        os.link(Path(store.data.location) / source, Path(store.data.location) / own.path)
        links[file.path] = links.get(file.path, 0) + 1
        added.append(Added(FragmentMetadata(0, [own], shard.count), shard.key, text, shard.title))
    facts = {"manifest": json.dumps(plan.manifest.model_dump(mode="json")), "run_id": "growth"}
    version = store._commit([], added, facts, 0)
    assert version.rows == sum(shard.count for shard in plan.shards)
    return [0.0]


def picture() -> bytes:
    return bytes(cv2.imencode(".png", np.full((SIDE, SIDE, 3), 99, np.uint8))[1])


def measure_plan(folder: Path) -> list[float]:
    return [_seconds(lambda: len(planned(folder).keys))]


def measure_noop(folder: Path) -> list[float]:
    """`ntf build` without the start of Python: the manifest is read and planned, and all of it is there."""

    def build() -> None:
        plan = planned(folder)
        report = run_build(plan, Store(folder / "store", plan.manifest.dataset), "cpu")
        assert report.version is None and report.made == 0

    return [_seconds(build)]


def measure_commit(folder: Path) -> list[float]:
    """Writing 1,000 images and making a version of them, the store opened anew each time as by a build that looked what is there."""
    image, seconds = picture(), []
    for number in range(ROUNDS):
        store = Store(folder / "store", "stand-ins")
        keys = set(store.keys())
        shards = [Shard("final", "New", "people", 0, 0, at, at + 250, f"{number}-{at}") for at in range(0, ADDED, 250)]
        rows = {shard.key: rows_of(shard, image) for shard in shards}

        def commit(store: Store = store, rows: dict[str, list[Row]] = rows, keys: set[str] = keys) -> None:
            for key, own in rows.items():
                store.write_shard(key, key, own)
            assert store.commit(keys | rows.keys(), "growth") is not None

        seconds.append(_seconds(commit))
    return seconds


def measure_diff(folder: Path) -> list[float]:
    store = Store(folder / "store", "stand-ins")
    newest = store.version().number

    def compare() -> None:
        (entry,) = diff(Store(folder / "store", "stand-ins"), newest - 1, newest)
        assert entry.added == ADDED

    return [_seconds(compare)]


def measure_order(folder: Path) -> list[float]:
    """The table of the training split, and the batches of an epoch, without reading an image."""

    def order() -> None:
        table = read_table(Store(folder / "store", "stand-ins")).splits["train"]
        labels = np.where(np.arange(len(table)) % 2, table.labels, 0)  # this dataset's reals are few: half of the rows stand for them
        subsets = np.where(labels == 0, "people", table.subsets)
        real_of = dict.fromkeys(map(str, np.unique(table.subsets)), "people")
        data = DetectionData(range(len(table)), labels, subsets, real_of, {}, table.digest)  # type: ignore[arg-type]  # nobody reads one
        assert sum(len(batch) for batch in BalancedBatches(data, 64, 0, 0)) >= len(table)

    return [_seconds(order)]


def _seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def child(folder: Path, measure: str) -> None:
    with stand_ins():
        before = time.process_time()
        act: Callable[[Path], list[float]] = globals()["fill" if measure == "fill" else f"measure_{measure}"]
        seconds = act(folder)
        cpu = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"seconds": statistics.median(seconds), "cpu": cpu / len(seconds), "peak": peak, "load": os.getloadavg()[0]}))


def run(folder: Path, measure: str) -> dict[str, float]:
    command = [sys.executable, str(ROOT / "benchmarks" / "growth.py"), "--child", str(folder), measure]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, VARIABLE: str(10**12)}, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(map(str, ROWS)))
    parser.add_argument("--shard-size", type=int, default=256)
    parser.add_argument("--measures", default=",".join(MEASURES))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(Path(options.child[0]), options.child[1])
        return
    print("| rows | shards | what | seconds | CPU seconds | peak memory | load |\n|---|---|---|---|---|---|---|", flush=True)
    for rows in map(int, options.rows.split(",")):
        with tempfile.TemporaryDirectory(prefix="growth-") as name:
            folder = Path(name)
            manifest_of(folder / "data", rows, options.shard_size)
            measures = [measure for measure in options.measures.split(",") if measure != "order" or rows <= MOST_ORDERED]
            if measures != ["plan"]:
                run(folder, "fill")
            for measure in measures:
                told = run(folder, measure)
                figures = f"{told['seconds']:.2f} | {told['cpu']:.2f} | {told['peak'] / 2**20:,.0f} MiB | {told['load']:.1f}"
                print(f"| {rows:,} | {rows // options.shard_size:,} | {measure} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
