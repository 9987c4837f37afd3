"""How fast `ntf import` is, against Pillow decoding the same files in as many threads, in turns and in the same run.

    python benchmarks/importing.py                   # 2,000 files, some minutes on two cores
    python benchmarks/importing.py --images 20000

Half of the files are JPEG, the others PNG in colour and in grey, and WebP. Prints a Markdown table. The import does more than decode: it
hashes each original, writes each picture as PNG and waits until all are on the disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file: a neighbour of that name would hide the package `generators`
    sys.path[0] = str(ROOT)

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from skimage import data as photographs  # noqa: E402

from pipelines.importing.importing import THREADS, import_images  # noqa: E402

SIDE, ROUNDS = 256, 3
DISTINCT = 400  # pictures; further files have the same pixels
FORMS = (("jpg", 90), ("jpg", 75), ("jpg", 95), ("jpg", 90), ("png", None), ("png", None), ("webp", 90), ("grey.png", None))


def write_files(folder: Path, count: int) -> list[Path]:
    """Crops of photographs in several formats, in folders of a thousand."""
    sources = [photographs.astronaut(), photographs.coffee(), photographs.rocket(), photographs.chelsea()]
    chance = np.random.default_rng(0)
    encoded: list[tuple[str, bytes]] = []
    for number in range(min(count, DISTINCT)):
        source = sources[number % len(sources)]
        top, left = (int(chance.integers(0, side - SIDE + 1)) for side in source.shape[:2])
        picture = Image.fromarray(source[top : top + SIDE, left : left + SIDE, :3])
        suffix, quality = FORMS[number % len(FORMS)]
        file = folder / f"picture.{suffix}"
        options = {} if quality is None else {"quality": quality}
        (picture.convert("L") if suffix.startswith("grey") else picture).save(file, **options)
        encoded.append((suffix, file.read_bytes()))
        file.unlink()
    files = []
    for number in range(count):
        suffix, data = encoded[number % len(encoded)]
        file = folder / f"{number // 1000:03d}" / f"{number:06d}.{suffix}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
        files.append(file)
    return files


def decode(file: Path) -> tuple[int, ...]:
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB")).shape


def decode_all(files: list[Path]) -> tuple[float, float]:
    """Wall seconds and CPU seconds of Pillow."""
    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(THREADS) as threads:
        assert sum(1 for _ in threads.map(decode, files, chunksize=64)) == len(files)
    return time.perf_counter() - wall, time.process_time() - cpu


def import_all(source: Path, output: Path, count: int, compress: bool) -> tuple[float, float]:
    """Wall seconds and CPU seconds of an import."""
    wall, cpu = time.perf_counter(), time.process_time()
    assert import_images(source, output, "real", "CC0", "benchmark", compress=compress).images == count
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    shutil.rmtree(output)
    return seconds


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=2000)
    count = arguments.parse_args().images
    with tempfile.TemporaryDirectory(prefix="ntf-importing-") as name:
        source, output = Path(name) / "source", Path(name) / "output"
        source.mkdir()
        files = write_files(source, count)
        contestants = {
            "Pillow decodes": lambda: decode_all(files),
            "`ntf import`": lambda: import_all(source, output, count, compress=False),
            "`ntf import --compress`": lambda: import_all(source, output, count, compress=True),
        }
        results: dict[str, list[tuple[float, float]]] = {title: [] for title in contestants}
        for _ in range(ROUNDS):
            for title, contestant in contestants.items():
                results[title].append(contestant())
    print(f"{count:,} files of {SIDE} px, {THREADS} threads, {os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f}\n")
    print("| what | images/s | share of Pillow's speed | CPU ms an image | share by CPU time |\n|---|---|---|---|---|")
    own_wall, own_cpu = (statistics.median(values) for values in zip(*results["Pillow decodes"], strict=True))
    for title, rounds in results.items():
        wall, cpu = (statistics.median(values) for values in zip(*rounds, strict=True))
        print(f"| {title} | {count / wall:.0f} | {own_wall / wall:.2f} | {1000 * cpu / count:.2f} | {own_cpu / cpu:.2f} |")


if __name__ == "__main__":
    main()
