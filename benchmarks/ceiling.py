"""What everything around a network costs: images a second and core if the network cost nothing, by stage.

    python benchmarks/ceiling.py                                          # samples and edits at 256 px, 256 images each
    python benchmarks/ceiling.py --side 1024 --count 64
    python benchmarks/ceiling.py --only swaps --detector scrfd_2.5g.onnx --portraits FOLDER
    python benchmarks/ceiling.py --plain                                  # everything in one thread, as before there were others

A stand-in makes the images: pictures that are there already, moved by the seed. A build makes, encodes, writes and commits them as any
build does; the audit is not counted. Swaps are made with a real detector, on as many portraits as --people says, so that a portrait is
used again and again, as in a dataset with more swaps than people. CPU seconds are those of all threads together; wall seconds depend on
what else the machine does, whose load is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path[0] = str(ROOT)

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.options import count, existing_folder, figures_file  # noqa: E402
from benchmarks.stages import Stages  # noqa: E402
from benchmarks.stand_ins import registered  # noqa: E402
from generators.base import Crop, Generator  # noqa: E402
from generators.checkpoints import Checkpoint  # noqa: E402
from generators.faces import detect  # noqa: E402
from pipelines.build.build import Build  # noqa: E402
from pipelines.build.producer import Producer  # noqa: E402
from pipelines.build.runner import Here  # noqa: E402
from pipelines.images import fit, read_image  # noqa: E402
from pipelines.make import rows, step, threads  # noqa: E402
from pipelines.make.regions import swaps  # noqa: E402
from pipelines.manifest.load import load_manifest  # noqa: E402
from pipelines.plan.plan import make_plan  # noqa: E402
from pipelines.store import Store  # noqa: E402

WORKS = ("samples", "edits", "swaps")
# Milliseconds of CPU an image on one core, at 256 px. `feeding` is the thread that runs the network.
TARGETS = {"samples": {"all": 3.5, "feeding": 0.7}, "swaps": {"all": 130.0}}
CROP = Crop("simswap", 224)


class StandIn(Generator):
    """Gives pictures that it holds already."""

    title = "Stand-in"
    family = "GAN"
    licence = "CC0"
    resolution = 0  # set on load

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> StandIn:
        made = cls()
        made.resolution = int(checkpoint.path.read_text())
        made.pictures = [photograph(number, made.resolution) for number in range(8)]
        return made

    pictures: list[np.ndarray]


class Samples(StandIn):
    kinds = ("sample",)

    def _sample(self, seeds: list[int], settings: Any) -> np.ndarray:
        return np.stack([np.roll(self.pictures[seed % len(self.pictures)], seed % 97, axis=1) for seed in seeds])


class Edits(StandIn):
    kinds = ("edit",)

    def _edit(self, images: np.ndarray, seeds: list[int], settings: Any) -> np.ndarray:
        return 255 - images


class Swaps(StandIn):
    kinds = ("swap",)
    crop = CROP

    def _swap(self, sources: np.ndarray, targets: np.ndarray, seeds: list[int], settings: Any) -> np.ndarray:
        return targets // 2 + sources // 2


KINDS = {"ceiling_samples": Samples, "ceiling_edits": Edits, "ceiling_swaps": Swaps}


def photograph(number: int, side: int) -> np.ndarray:
    """A picture `uint8` `[side, side, 3]` that compresses about as a photograph does (1.1 to 1.3 bytes a pixel): noise whose power falls
    with the frequency, nearly the same in all channels."""
    rng = np.random.default_rng(number)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) + 1 / side
    planes = [np.fft.irfft2(np.fft.rfft2(rng.standard_normal((side, side))) / frequency**1.9, s=(side, side)) for _ in range(3)]
    pixels = np.stack([planes[0] + 0.2 * plane for plane in planes], -1)
    return np.clip(128 + 50 * pixels / pixels.std(), 0, 255).astype(np.uint8)


def portraits(folder: Path | None, people: int, side: int) -> Iterator[np.ndarray]:
    """Pictures of `side` px with one face each: those of a folder, or one portrait of scikit-image, framed and lit in different ways."""
    if folder is not None:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".png"))[:people]
        yield from (fit(read_image(file), side) for file in files)
        return
    import skimage.data

    astronaut = skimage.data.astronaut()
    for number in range(people):
        top, left, width = number * 7 % 30, 60 + number * 11 % 40, 250 + number * 5 % 40
        window = astronaut[top : top + width, left : left + width].astype(float) * (1 - 0.02 * (number % 10))
        yield cv2.resize(window.astype(np.uint8), (side, side), interpolation=cv2.INTER_AREA)


def write_dataset(folder: Path, work: str, side: int, count: int, people: int, faces: dict[str, Any], source: Path | None) -> Path:
    """A manifest of one subset of `count` images of a kind of work, beside its real images."""
    (folder / "reals").mkdir(parents=True)
    names = []
    for number, picture in enumerate(portraits(source, people, side)):
        cv2.imwrite(str(folder / "reals" / f"{number:04d}.png"), picture[..., ::-1])
        names.append(f"{number:04d}.png,person{number}")
    (folder / "people.csv").write_text("\n".join(names))
    (folder / "side.txt").write_text(str(side))
    link: dict[str, Any] = {
        "samples": {"sample": "ceiling_samples"},
        "edits": {"edit": "ceiling_edits", "target": "people"},
        "swaps": {"swap": "ceiling_swaps", "source": "people", "target": "people", "repeat_pairs": True},
    }[work]
    checkpoints: dict[str, Any] = {"side": {"generators": [f"ceiling_{work}"], "file": "side.txt", "licence": "CC0", "resolution": side}}
    detector = faces.get("detector")
    if detector:
        shutil.copy(detector, folder / "detector.onnx")  # a manifest names nothing outside its folder
        checkpoints["detector"] = {"file": "detector.onnx", "licence": "see its file"}
    manifest = {
        "dataset": "ceiling",
        "size": side,
        "shard_size": 64,
        "allow_missing": count,
        "splits": {"train": 0.8, "validation": 0.1},
        "faces": {"detector": "detector"} if detector else {},
        "reals": {"people": {"path": "reals", "identities": "people.csv", "licence": "CC0", "count": min(people, len(names))}},
        "checkpoints": checkpoints,
        "subsets": {"Ceiling": {"count": count, "real": "people", "chain": [{**link, "checkpoint": "side"}]}},
    }
    file = folder / "ceiling.yaml"
    file.write_text(json.dumps(manifest))  # JSON is YAML
    return file


def measure(folder: Path, work: str, side: int, count: int, people: int, detector: Path | None, source: Path | None, plain: bool) -> dict:
    """Milliseconds of CPU an image of a build of `count` images, of all threads, of the feeding thread, and by stage; and the share of the
    wall time in which each core of this process worked. The real images are brought in before."""
    faces = {"detector": detector.resolve()} if detector else {}
    with registered(KINDS):
        manifest = load_manifest(write_dataset(folder, work, side, count, people, faces, source))
        plan, store = make_plan(manifest), Store(folder / "store", "ceiling")
        stages = Stages()
        with Build(plan, store, "cpu") as build:
            producer = Producer(plan, store, "cpu")
            if plain:
                producer._maker._steps._threads = threads.Threads(0)
            reals = [shard for shard in build.missing if shard.role == "real"]
            build.missing = [shard for shard in build.missing if shard.role != "real"]
            for shard in reals:
                producer.produce(shard)
            maker = producer._maker
            maker._steps._models.get(f"ceiling_{work}", "side")  # loads
            if work == "swaps":
                maker._steps._faces.detector.detect(next(portraits(source, 1, side)))
            with stages.watch(*PLACES):
                # A thread's own time is known only to itself.
                own, wall, cpu = time.thread_time(), time.perf_counter(), time.process_time()
                build.run(runner=Here(producer))
                own, wall, cpu = time.thread_time() - own, time.perf_counter() - wall, time.process_time() - cpu
                written = sum(note.written for note in build.shards.notes)
                started = time.process_time()
                build.commit()
                commit = time.process_time() - started
    if not written:
        raise SystemExit("no image was made: give a detector that finds the portraits' faces")
    network = stages.seconds.pop("the stand-in")
    whole = cpu + commit - network
    named = {stage: 1000 * seconds / written for stage, seconds in stages.seconds.most_common()}
    return {
        "work": work,
        "side": side,
        "images": written,
        "rejected": sum(sum(note.rejected.values()) for note in build.shards.notes),
        "plain": plain,
        "all": 1000 * whole / written,
        "feeding": 1000 * (own - network) / written,
        "commit": 1000 * commit / written,
        "stages": named | {"the rest": 1000 * (whole - commit) / written - sum(named.values())},
        "images_per_second_and_core": written / whole,
        "cores": cpu / wall,
        "load": os.getloadavg()[0],
    }


PLACES = [
    (Samples, "_sample", "the stand-in"),
    (Edits, "_edit", "the stand-in"),
    (Swaps, "_swap", "the stand-in"),
    (detect.Detector, "detect", "finding faces in pictures"),
    (detect.Detector, "detect_aligned", "finding landmarks in crops"),
    (swaps, "align", "aligning"),
    (swaps, "paste_window", "pasting"),
    (step.Steps, "_finished", "judging, resizing, the row"),
    (rows.Picture, "encoded", "encoding, hashes, measures"),
    (Store, "write_shard", "writing"),
]


def markdown(results: list[dict[str, Any]]) -> str:
    """The results as Markdown: a row each, and the stages beneath."""
    head = ["work", "px", "images", "CPU ms/image", "target", "feeding thread", "target", "images/s and core", "cores at work", "load"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for result in results:
        targets = TARGETS.get(result["work"], {}) if result["side"] == 256 else {}
        name = result["work"] + (", one thread" if result["plain"] else "")
        row = [name, result["side"], result["images"], f"{result['all']:.2f}", targets.get("all", "")]
        row += [f"{result['feeding']:.2f}", targets.get("feeding", ""), f"{result['images_per_second_and_core']:.1f}"]
        row += [f"{result['cores']:.2f}", f"{result['load']:.1f}"]
        lines.append("| " + " | ".join(str(cell) for cell in row) + " |")
    for result in results:
        stages = ", ".join(f"{name} {value:.2f}" for name, value in result["stages"].items())
        lines.append(f"\n{result['work']} {result['side']}{' (one thread)' if result['plain'] else ''}, ms an image: {stages}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=WORKS, help="one kind of work; swaps need --detector to be worth measuring")
    parser.add_argument("--side", type=count, default=256)
    parser.add_argument("--count", type=count, default=256)
    parser.add_argument("--people", type=count, default=32, help="real images that swaps and edits draw from")
    parser.add_argument("--detector", type=Path, help="an .onnx file; by default the cascade")
    parser.add_argument("--portraits", type=existing_folder, help="a folder of pictures with one face each")
    parser.add_argument("--plain", action="store_true", help="everything in the thread that runs the network")
    parser.add_argument("--json", type=figures_file, help="where the figures go too")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    results = []
    for work in [chosen.only] if chosen.only else WORKS:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["NTF_CACHE"] = f"{folder}/cache"
            place = Path(folder) / "data"
            results.append(measure(place, work, chosen.side, chosen.count, chosen.people, chosen.detector, chosen.portraits, chosen.plain))
    print(markdown(results))
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
