"""A dataset of pictures at their own sizes with recipes and deliveries: built under kills, resumed, verified, and built a second time.

    python benchmarks/native.py --reals 2000                              # some hours of two cores
    python benchmarks/native.py --reals 40 --kills 2 --photos FOLDER      # windows of your own photographs

Reals are windows of photographs, of many sizes and compressions; fakes are reconstructions by the demo's VQGAN after the recipes `aligned`
and `dda`, whole (`region: picture`) and of a square. All have the deliveries `web` and `hard`. The first "machine" is one process that is
killed, with its whole group, again and again. The second has another folder, another cache, two worker processes, two threads each and
the other order of deliveries. Both must come to one digest, and what is made again must be the same to the bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file: a neighbour of that name would hide the package
    sys.path[0] = str(ROOT)

from benchmarks.audit import photographs  # noqa: E402
from flows.data import plan_of  # noqa: E402
from foreign.folders import list_pictures  # noqa: E402
from pipelines.images import read_image  # noqa: E402
from pipelines.store import Store  # noqa: E402

DATASET = "native"
SIDES = (48, 192)  # px: the shortest and the longest side of the reals
LEAST_SPREAD = 8.0  # grey levels: a flat piece of sky would be rejected as blank once it is reconstructed
PNG_SHARE = 0.1
BY = "vqgan/vqgan-demo-32"
DELIVERIES = {"web": "feed", "hard": ["feed", "messenger", "screenshot"]}
POLL = 0.05  # seconds


@dataclass
class Machine:
    """A folder with the reals, the manifest, a store and a cache of its own, and what its builds run with."""

    folder: Path
    device: str
    threads: int
    kills: int = 0
    resumed_with: list[int] = field(default_factory=list)  # shards that were there after each kill
    seconds: float = 0.0

    @property
    def store(self) -> Store:
        return Store(self.folder / "store", DATASET)

    def command(self, *words: str) -> subprocess.Popen[str]:
        """`ntf` with these words, in a process group of its own."""
        own = {"NTF_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": str(self.threads), "PYTHONPATH": str(ROOT)}
        program = [sys.executable, "-m", "flows.cli", *words, "--store", "store", "--device", self.device]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(program, cwd=self.folder, env=os.environ | own, start_new_session=True, **pipes)

    def finish(self, *words: str) -> str:
        """What a command that nobody kills says. RuntimeError if it fails."""
        start = time.perf_counter()
        process = self.command(*words)
        said = process.communicate()[0]
        self.seconds += time.perf_counter() - start
        if process.returncode:
            raise RuntimeError(f"`ntf {' '.join(words)}` ended with {process.returncode}:\n{said[-3000:]}")
        return said


def windows(pictures: Sequence[np.ndarray], count: int, sides: tuple[int, int], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """`count` windows of pictures, no pixel resampled: `uint8` `[H, W, 3]`, each side drawn evenly by its logarithm."""
    low, high = np.log(sides)
    while count:
        picture = pictures[int(rng.integers(len(pictures)))]
        height, width = (min(whole, round(float(np.exp(rng.uniform(low, high))))) for whole in picture.shape[:2])
        top, left = (int(rng.integers(whole - part + 1)) for whole, part in zip(picture.shape[:2], (height, width), strict=True))
        window = picture[top : top + height, left : left + width]
        if window.std() < LEAST_SPREAD:
            continue
        count -= 1
        yield window


def write_reals(folder: Path, pictures: Sequence[np.ndarray], count: int, sides: tuple[int, int]) -> None:
    """Files as photographs come: JPEG of several qualities and chromas, some PNG."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, window in enumerate(windows(pictures, count, sides, rng)):
        image = Image.fromarray(window)
        if rng.random() < PNG_SHARE:
            image.save(folder / f"{number:05d}.png")
        else:
            image.save(folder / f"{number:05d}.jpg", quality=int(rng.integers(60, 99)), subsampling=int(rng.integers(3)))


def manifest(count: int, shard_size: int) -> dict[str, Any]:
    whole = {"region": "picture"}
    return {
        "dataset": DATASET,
        "size": "native",
        "shard_size": shard_size,
        "audit": {"gate": False},  # the squares have other dimensions than the reals
        "deliveries": DELIVERIES,
        "reals": {"photos": {"path": "reals", "count": count, "licence": "those of the photographs"}},
        "subsets": {
            "Aligned": {"count": count, "real": "photos", "recipe": "aligned", "by": BY, "parameters": whole},
            "DDA": {"count": count, "real": "photos", "recipe": "dda", "by": BY, "parameters": whole},
            "DDASquare": {"count": count, "real": "photos", "recipe": "dda", "by": BY},
        },
    }


def build_killed(machine: Machine, kills: int, shards: int, chance: random.Random) -> None:
    """Builds everything. The group is killed `kills` times, at so many shards as were drawn, a moment later."""
    words = ("build", "m.yaml", "--delivery", "web", "--delivery", "hard")
    for goal in sorted(chance.sample(range(1, shards), kills)):
        start = time.perf_counter()
        process = machine.command(*words)
        while process.poll() is None and len(machine.store.notes.read()) < goal:
            time.sleep(POLL)
        time.sleep(chance.uniform(0, 0.5))
        is_running = process.poll() is None
        if is_running:
            os.killpg(process.pid, signal.SIGKILL)
            machine.kills += 1
        said = process.communicate()[0]
        machine.seconds += time.perf_counter() - start
        if process.returncode > 0:
            raise RuntimeError(f"the build ended before its kill, with {process.returncode}:\n{said[-3000:]}")
        if not is_running:
            return  # it was faster than its kill
        machine.resumed_with.append(len(machine.store.notes.read()))
        print(f"killed with {machine.resumed_with[-1]} of {shards} shards there", flush=True)
    print(machine.finish(*words), flush=True)


def judged(machine: Machine, sample: int) -> tuple[dict[str, Any], Counter[str]]:
    """What `ntf store verify` says of the newest version, and how often each outcome came for each kind of image."""
    process = machine.command("store", "verify", DATASET, "--sample", str(sample), "--json")
    said = process.communicate()[0]
    verified = json.loads(said[said.index("{") :])
    rows = {row.id: row for row in machine.store.rows("role != 'rejected'")}
    kinds = Counter(f"{rows[name].subset} {rows[name].delivery or 'clean'}: {outcome}" for name, outcome in verified["remade"].items())
    return verified, kinds


def run(
    folder: Path,
    pictures: Sequence[np.ndarray],
    reals: int,
    kills: int,
    sample: int,
    shard_size: int = 64,
    sides: tuple[int, int] = SIDES,
) -> dict[str, Any]:
    """Both machines, and what came of them; see the head of this file."""
    first = Machine(folder / "one", "cpu", 1)
    second = Machine(folder / "elsewhere" / "two", "cpu,cpu", 2)
    for machine in (first, second):
        write_reals(machine.folder / "reals", pictures, reals, sides)
        (machine.folder / "m.yaml").write_text(json.dumps(manifest(reals, shard_size)))
    shards = planned_shards(first)
    build_killed(first, kills, shards, random.Random(0))
    print(second.finish("build", "m.yaml", "--delivery", "hard"), flush=True)
    print(second.finish("build", "m.yaml", "--delivery", "web"), flush=True)
    verified, kinds = judged(first, sample)
    ids = Counter(row.id for row in first.store.rows("role != 'rejected'"))
    return {
        "reals": reals,
        "images": sum(ids.values()),
        "there twice": sum(count - 1 for count in ids.values()),
        "shards": shards,
        "kills": first.kills,
        "shards there after each kill": first.resumed_with,
        "digests": [machine.store.version().digest for machine in (first, second)],
        "verified": verified["passed"],
        "made again": dict(sorted(kinds.items())),
        "seconds": [round(machine.seconds) for machine in (first, second)],
    }


def planned_shards(machine: Machine) -> int:
    """How many shards the whole dataset has, deliveries too."""
    plan = plan_of(machine.folder / "m.yaml")
    return len(plan.shards) + len(plan.deliveries(list(plan.manifest.deliveries)))


def is_right(result: dict[str, Any]) -> bool:
    """One digest, nothing twice, nothing damaged, and all that was made again the same to the bit."""
    outcomes = {name.rsplit(": ", 1)[1] for name in result["made again"]}
    return len(set(result["digests"])) == 1 and not result["there twice"] and result["verified"] and outcomes == {"bit-exact"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reals", type=int, default=200)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--sample", type=int, default=200, help="images that are made again")
    parser.add_argument("--shard-size", type=int, default=64)
    parser.add_argument("--sides", type=int, nargs=2, default=SIDES, help="px: the shortest and the longest side of the reals")
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="folders of photographs; by default those of the libraries")
    parser.add_argument("--folder", type=Path, help="where both machines are written, and stay")
    chosen = parser.parse_args()
    pictures = [read_image(file) for place in chosen.photos for file in list_pictures(place).files] or photographs()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="native-"))
    try:
        result = run(folder, pictures, chosen.reals, chosen.kills, chosen.sample, chosen.shard_size, tuple(chosen.sides))
    finally:
        if chosen.folder is None:
            shutil.rmtree(folder)
    print(json.dumps(result, indent=2))
    print(f"load: {' '.join(f'{load:.1f}' for load in os.getloadavg())}")
    sys.exit(0 if is_right(result) else 1)


if __name__ == "__main__":
    main()
