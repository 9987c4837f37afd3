"""What Prefect adds to a build: the same shards made by calling the functions directly, and by the flow, turn by turn.

    python benchmarks/flows.py                          # 100 shards of about a second, three turns
    python benchmarks/flows.py --seconds 0.2 --turns 1

A generator that sleeps stands in for a GPU that works: the figure is what is left over, Prefect's share. The server runs beforehand, as in
use. Start is from calling the flow until its first shard, over what the build itself needs for that. The CPU seconds are this process's
alone, and the figure to look at on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path[0] = str(ROOT)
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")

import yaml  # noqa: E402
from prefect import flow  # noqa: E402
from prefect.testing.utilities import prefect_test_harness  # noqa: E402

from flows.building import build_version  # noqa: E402
from flows.remote import Source  # noqa: E402
from pipelines.build.build import run_build  # noqa: E402
from pipelines.make.make import Maker  # noqa: E402
from pipelines.make.rows import ShardPictures  # noqa: E402
from pipelines.manifest.load import load_manifest  # noqa: E402
from pipelines.plan.plan import Plan, make_plan  # noqa: E402
from pipelines.plan.shards import Shard  # noqa: E402
from pipelines.store import Store  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=1.0, help="for which each shard is generated")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, prefect_test_harness(server_startup_timeout=240):
        measure(Path(folder), options.shards, options.seconds, options.turns)


def measure(folder: Path, shards: int, seconds: float, turns: int) -> None:
    """Prints, for each turn, the seconds from the first shard to the commit both ways, and Prefect's share."""
    plan, manifest = many_shards(folder, shards)
    slow_down(seconds)

    @flow(name="measured")
    def through_prefect(store: str) -> None:
        build_version(plan, Source(str(manifest), None, store, "cpu"))

    ratios, starts = [], []
    print(f"{len(plan.shards)} shards, {seconds} s each")
    print("| turn | directly, s | through Prefect, s | Prefect's share | its start, s | CPU directly, s | CPU through Prefect, s |")
    print("|---|---|---|---|---|---|---|")
    for turn in range(turns):
        direct = timed(lambda store: run_build(plan, Store(store, DATASET), "cpu"), folder / f"direct-{turn}")
        prefect = timed(through_prefect, folder / f"prefect-{turn}")
        ratios.append(prefect[1] / direct[1] - 1)
        starts.append(prefect[0] - direct[0])
        figures = f"{direct[1]:.2f} | {prefect[1]:.2f} | {ratios[-1]:.2%} | {starts[-1]:.2f} | {direct[2]:.2f} | {prefect[2]:.2f}"
        print(f"| {turn + 1} | {figures} |", flush=True)
    print(f"median share {statistics.median(ratios):.2%}, start {statistics.median(starts):.2f} s")


DATASET = "measured"
FIRST: list[float] = []


def slow_down(seconds: float) -> None:
    """Lets every shard take that long, and notes when the first begins."""
    original = Maker.make

    def make(self: Maker, shard: Shard) -> ShardPictures:
        FIRST.append(time.perf_counter())
        time.sleep(seconds)
        return original(self, shard)

    Maker.make = make  # type: ignore[method-assign]


def timed(build: Any, store: Path) -> tuple[float, float, float]:
    """Seconds until the first shard begins, from there to the end, and this process's CPU seconds in all."""
    FIRST.clear()
    start, cpu = time.perf_counter(), time.process_time()
    build(str(store))
    return FIRST[0] - start, time.perf_counter() - FIRST[0], time.process_time() - cpu


def many_shards(folder: Path, count: int) -> tuple[Plan, Path]:
    """A plan of exactly `count` shards of four small images, by the demo's StyleGAN2, and the manifest's file."""
    chain = [{"sample": "stylegan2", "checkpoint": "stylegan2-demo-32"}]
    data = {
        "dataset": DATASET,
        "size": 32,
        "shard_size": 4,
        "reals": {"faces": {"package": "faces", "licence": "for research", "count": 40}},
        "subsets": {"StyleGAN2": {"count": 4 * count, "real": "faces", "chain": chain}},
    }
    manifest = folder / "manifest.yaml"
    manifest.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    plan = make_plan(load_manifest(manifest))
    return replace(plan, shards=plan.shards[-count:]), manifest


if __name__ == "__main__":
    main()
