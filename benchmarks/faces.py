"""Which share of a SimSwap shard's time goes to faces: finding, aligning, putting back and judging them, beside the swap itself.

    python benchmarks/faces.py
    python benchmarks/faces.py --folder portraits --side 256 --detector scrfd.onnx --identity w600k_r50.onnx --threads 1

The network has random weights and its official size (224 px), which changes no time. Without a folder the pictures are a portrait that
comes with scikit-image.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path[0] = str(ROOT)

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.configurations import CONFIGURATIONS  # noqa: E402
from generators.base import Result, SwapRequest  # noqa: E402
from pipelines.catalogue.catalogue import Catalogue, CheckpointEntry  # noqa: E402
from pipelines.images import fit, read_image  # noqa: E402
from pipelines.make.regions.swaps import FaceSwaps, Pair  # noqa: E402
from pipelines.manifest.schema import CASCADE, Faces  # noqa: E402


def measure(pictures: list[np.ndarray], faces: FaceSwaps, generator: Any, rounds: int) -> dict[str, float]:
    """Seconds of the whole and of the generator, wall clock and this process's CPU time, and the share of all the rest."""
    spent = {"wall": 0.0, "cpu": 0.0}
    original: Callable[..., Result] = generator.run

    def timed(request: SwapRequest, **parameters: Any) -> Result:
        wall, cpu = time.perf_counter(), time.process_time()
        original(request, **parameters)
        spent["wall"] += time.perf_counter() - wall
        spent["cpu"] += time.process_time() - cpu
        return Result(255 - request.targets)  # what random weights make would be rejected, and then not be put back

    generator.run = timed
    opened = [partial(np.asarray, picture) for picture in pictures]
    pairs = [Pair(seed, source, target) for seed, (source, target) in enumerate(zip(opened, opened[1:] + opened[:1], strict=True))]
    list(faces.swap(generator, pairs[:1], {}))  # warm
    spent.update(wall=0.0, cpu=0.0)
    wall, cpu = time.perf_counter(), time.process_time()
    reasons: list[str | None] = []
    for _ in range(rounds):
        reasons += [output.reason for output in faces.swap(generator, pairs, {})]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    generator.run = original
    return {
        "pairs": len(reasons),
        "rejected": sum(reason is not None for reason in reasons),
        "seconds_per_pair": wall / len(reasons),
        "cpu_seconds_per_pair": cpu / len(reasons),
        "face_share_of_wall": 1 - spent["wall"] / wall,
        "face_share_of_cpu": 1 - spent["cpu"] / cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="pictures with one face each")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--side", type=int, default=256, help="pictures are brought to this size first")
    parser.add_argument("--detector", type=Path, help="an .onnx file or pack; by default the cascade")
    parser.add_argument("--identity", type=Path, help="an .onnx file or pack; by default nobody is compared")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.folder:
        files = sorted(path for path in chosen.folder.rglob("*") if path.suffix.lower() in (".jpg", ".png"))[: chosen.count]
        pictures = [fit(read_image(file), chosen.side) for file in files]
    else:
        import skimage.data

        pictures = [fit(skimage.data.astronaut()[:300, 70:370], chosen.side)] * chosen.count
    named = {"detector": chosen.detector, "identity": chosen.identity}
    entries = {key: CheckpointEntry(file=str(path.resolve()), licence="") for key, path in named.items() if path}
    settings = Faces(detector="detector" if chosen.detector else CASCADE, identity="identity" if chosen.identity else None)
    simswap = next(configuration for configuration in CONFIGURATIONS if configuration.name == "simswap 224")
    generator = simswap.make(torch.device("cpu"), torch.float32)
    figures = measure(pictures, FaceSwaps(settings, Catalogue(entries, Path())), generator, chosen.rounds)
    print(json.dumps({"side": chosen.side, "threads": chosen.threads, **{key: round(value, 4) for key, value in figures.items()}}))


if __name__ == "__main__":
    main()
