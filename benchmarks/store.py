"""How fast the store is, each figure against what it must not fall behind, in the same run and turn by turn.

    python benchmarks/store.py              # all, some minutes
    python benchmarks/store.py noop read    # some

Prints a Markdown table. Figures of a busy machine are noisy: the ratios are what counts.
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
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file: a neighbour of that name would hide the package `generators`
    sys.path[0] = str(ROOT)

import cv2  # noqa: E402
import lance  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import torch  # noqa: E402
from lance.fragment import write_fragments  # noqa: E402
from skimage import data as photographs  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

from ntf_model.data.loader import read_batches  # noqa: E402
from ntf_model.data.sampling import Draw  # noqa: E402
from pipelines.build.build import run_build  # noqa: E402
from pipelines.catalogue.catalogue import Catalogue  # noqa: E402
from pipelines.examine.lineage import expected_chain  # noqa: E402
from pipelines.images import decode, encode, perceptual_hash  # noqa: E402
from pipelines.manifest.load import load_manifest  # noqa: E402
from pipelines.manifest.schema import Codec, Manifest  # noqa: E402
from pipelines.plan.plan import Plan, make_plan  # noqa: E402
from pipelines.plan.shards import Shard, image_id, image_split  # noqa: E402
from pipelines.reading import StoreDataset, StoredItem, read_table  # noqa: E402
from pipelines.store import SCHEMA, Row, Store  # noqa: E402
from pipelines.store.schema import to_table  # noqa: E402

SIDE, CROP, WORKERS, BATCH = 256, 224, 2, 32
ROUNDS = 3
PER_SHARD = 250


def pictures(count: int) -> Iterator[np.ndarray]:
    """Crops of photographs, 256 px."""
    sources = [photographs.astronaut(), photographs.coffee(), photographs.rocket(), photographs.chelsea(), photographs.retina()]
    chance = np.random.default_rng(0)
    for number in range(count):
        source = sources[number % len(sources)]
        top, left = chance.integers(0, source.shape[0] - SIDE + 1), chance.integers(0, source.shape[1] - SIDE + 1)
        yield np.ascontiguousarray(source[top : top + SIDE, left : left + SIDE, :3])


def row(number: int, image: bytes, key: str) -> Row:
    return Row(
        f"Made/photos/{number:06d}/0", "final", 1, "Made", "photos", "GAN", "GAN", number, "train", str(number), key, "CC0",
        seed=number, format="png", width=SIDE, height=SIDE, bytes=len(image), sha256=f"{number:064x}", phash="0" * 16, image=image,
        chain=[{"kind": "sample", "generator": "stylegan2", "checkpoint": "c", "parameters": {"truncation_psi": 1.0}, "seed": number}],
    )  # fmt: skip


def alternate(rounds: int, *contestants: Callable[[], float]) -> list[float]:
    """The median of what each contestant returns, all of them in turn in every round."""
    results: list[list[float]] = [[] for _ in contestants]
    for _ in range(rounds):
        for own, contestant in zip(results, contestants, strict=True):
            own.append(contestant())
    return [statistics.median(own) for own in results]


def noop(folder: Path) -> Iterator[tuple[str, str, str]]:
    """The paper's manifest, everything present: how long until a build says that nothing is to do?"""
    plan = paper_plan(folder)
    store = Store(folder / "store", plan.manifest.dataset)
    blank = encode(np.zeros((16, 16, 3), np.uint8), Codec())
    for shard in plan.shards:
        store.write_shard(shard.key, shard.title, list(planned_rows(plan, shard, blank)))
    store.commit(plan.keys, "benchmark", {"manifest": "{}"})
    fakes = sum(subset.count for subset in plan.manifest.subsets.values())

    def decide() -> float:
        start = time.perf_counter()
        report = run_build(paper_plan(folder), store, "cpu")
        assert report.version is None and report.made == 0
        return time.perf_counter() - start

    (seconds,) = alternate(ROUNDS, decide)
    yield f"no-op build, {fakes:,} fakes and {store.version().rows - fakes:,} other rows present", f"{seconds:.1f} s", "< 10 s"


def paper_plan(folder: Path) -> Plan:
    """The plan of the paper's manifest on real sources and checkpoints that are only as many small files."""
    manifest = load_manifest(Path(str(resources.files("manifests"))) / "paper.yaml")
    sources = {name: source.model_copy(update={"path": folder / "reals" / name}) for name, source in manifest.reals.items()}
    counts: dict[str, int] = {}
    for _, _, part in manifest.walk():
        for name in {part.real, *(real for step in part.chain for real in (step.source, step.target) if real)}:
            counts[name] = max(counts.get(name, 0), part.count)
    shipped = Catalogue.shipped(folder / "checkpoints")
    entries = {name: entry.model_copy(update={"sha256": None, "package": None, "file": name}) for name, entry in shipped.entries.items()}
    if not (folder / "reals").exists():
        (folder / "checkpoints").mkdir()
        for name in entries:
            (folder / "checkpoints" / name).write_text(name)
        for name, count in counts.items():
            (folder / "reals" / name).mkdir(parents=True)
            for number in range(count):
                (folder / "reals" / name / f"{number:06d}.png").write_text(f"{name} {number}")
    return make_plan(manifest.model_copy(update={"reals": sources}), Catalogue(entries, folder / "checkpoints"))


def planned_rows(plan: Plan, shard: Shard, image: bytes) -> Iterator[Row]:
    manifest: Manifest = plan.manifest
    links = [] if shard.role == "real" else expected_chain(plan, shard, shard.start, [0] * (shard.step + 1))
    for index in range(shard.start, shard.stop):
        real = plan.pools[shard.real].images[index] if not shard.subset else None
        name = real.id if real else image_id(shard.subset, shard.real, shard.part, index)
        split = real.split if real else image_split(manifest, shard.subset, shard.real, shard.part, index)
        yield Row(
            f"{name}/{shard.step}", shard.role, int(shard.role != "real"), shard.subset or shard.real, shard.real, "GAN", "GAN", index,
            split, name, shard.key, "research", step=shard.step, part=shard.part, chain=links, sha256=f"{index:064x}", image=image,
        )  # fmt: skip


def write(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Shards of encoded rows through the store, and the same bytes, with the other columns ready as they are, through plain Lance."""
    images = [encode(picture, Codec()) for picture in pictures(200)]
    count = 2000
    shards = [[row(n, images[n % 200], f"{start:064x}") for n in range(start, start + PER_SHARD)] for start in range(0, count, PER_SHARD)]
    light = [to_table(rows).drop_columns("image") for rows in shards]
    size = sum(len(stored.image or b"") for rows in shards for stored in rows)
    turn = iter(range(10**6))

    def ours() -> float:
        store, start = Store(folder / f"ours{next(turn)}", "measured"), time.perf_counter()
        for rows in shards:
            store.write_shard(rows[0].shard_key, "", rows)
        store.commit([rows[0].shard_key for rows in shards], "run")
        return size / (time.perf_counter() - start) / 2**20

    def plain() -> float:
        uri, start = str(folder / f"plain{next(turn)}.lance"), time.perf_counter()
        fragments = []
        for rows, columns in zip(shards, light, strict=True):
            table = columns.append_column(SCHEMA.field("image"), pa.array([stored.image for stored in rows], pa.large_binary()))
            fragments += write_fragments(table, uri, schema=SCHEMA, mode="create")
        lance.LanceDataset.commit(uri, lance.LanceOperation.Overwrite(SCHEMA, fragments))
        return size / (time.perf_counter() - start) / 2**20

    here, there = alternate(5, ours, plain)
    yield (
        f"writing {count:,} PNGs of {SIDE} px ({size / 2**20:.0f} MiB)",
        f"{here:.0f} MiB/s; plain Lance {there:.0f}: {here / there:.2f}",
        ">= 0.80",
    )


def encoding(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Images that the writer thread encodes and hashes in a second of a core: a generator that makes fewer never waits for it."""
    stack = list(pictures(100))

    def once() -> float:
        start = time.thread_time()
        for picture in stack:
            encode(picture, Codec())
            perceptual_hash(picture)
        return len(stack) / (time.thread_time() - start)

    (rate,) = alternate(ROUNDS, once)
    yield f"encoding as PNG and hashing, one thread, {SIDE} px", f"{rate:.0f} images per core second", "above the generator's rate"


class Folder(Dataset[np.ndarray]):
    """The same files in a folder, decoded by the same function."""

    def __init__(self, files: list[Path]):
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        return cropped(decode(self.files[index].read_bytes(), self.files[index].name))


class Cropped(Dataset[np.ndarray]):
    """The store's images, cropped."""

    def __init__(self, dataset: StoreDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: list[int]) -> list[np.ndarray]:
        return [of_item(item) for item in self.dataset.__getitems__(indices)]


def cropped(image: np.ndarray) -> np.ndarray:
    return image[16 : 16 + CROP, 16 : 16 + CROP]


class Batches:
    """The same, as training's own reader asks for them."""

    def __init__(self, dataset: StoreDataset):
        self.dataset = dataset

    def batch(self, draws: list[Draw]) -> torch.Tensor:
        return as_tensor([of_item(item) for item in self.dataset.__getitems__([draw.row for draw in draws])])


def shuffled(count: int) -> Iterator[list[Draw]]:
    """Every row once, in batches."""
    rows = np.random.default_rng(0).permutation(count).tolist()
    return ([Draw(row, 0) for row in rows[start : start + BATCH]] for start in range(0, count, BATCH))


def of_item(item: StoredItem) -> np.ndarray:
    return cropped(item.image)


def as_tensor(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images))


def filled(folder: Path, count: int, files: bool = True) -> tuple[Store, list[Path]]:
    store, paths = Store(folder / f"read{count}", "measured"), []
    (folder / "files").mkdir(exist_ok=True)
    images = [encode(picture, Codec()) for picture in pictures(200)]
    for start in range(0, count, PER_SHARD):
        rows = [row(number, images[number % len(images)], f"{start:064x}") for number in range(start, start + PER_SHARD)]
        store.write_shard(rows[0].shard_key, "", rows)
        for stored in rows if files else ():
            paths.append(folder / "files" / f"{stored.index}.png")
            paths[-1].write_bytes(stored.image or b"")
    store.commit([f"{start:064x}" for start in range(0, count, PER_SHARD)], "run")
    return store, paths


def read(folder: Path) -> Iterator[tuple[str, str, str]]:
    """An epoch in shuffled order, decoded and cropped, as uint8 batches: ours against torch's DataLoader over files."""
    count = 1500
    store, files = filled(folder, count)
    dataset = StoreDataset(store, store.dataset().version, read_table(store).splits["train"])
    options = {"batch_size": BATCH, "num_workers": WORKERS, "collate_fn": as_tensor, "persistent_workers": True}
    over_files = DataLoader(Folder(files), shuffle=True, **options)  # type: ignore[arg-type]
    next(iter(over_files))  # its workers are forked now, before this process opens the dataset
    spawned = DataLoader(Cropped(dataset), shuffle=True, multiprocessing_context="spawn", **options)  # type: ignore[arg-type]
    next(iter(spawned))

    def rate(batches: Callable[[], Iterator[torch.Tensor]]) -> Callable[[], float]:
        def epoch() -> float:
            start = time.perf_counter()
            images = sum(len(batch) for batch in batches())
            return images / (time.perf_counter() - start)

        return epoch

    def in_threads() -> Iterator[torch.Tensor]:
        return read_batches(Batches(dataset), shuffled(count), WORKERS)  # type: ignore[arg-type]

    file_rate, thread_rate, spawn_rate = alternate(ROUNDS, rate(lambda: iter(over_files)), rate(in_threads), rate(lambda: iter(spawned)))
    yield f"torch DataLoader over files, {WORKERS} workers, decode and {CROP} crop", f"{file_rate:.0f} images/s", ""
    yield f"training's own reader, {WORKERS} threads", f"{thread_rate:.0f} images/s: {thread_rate / file_rate:.2f}", ">= 1"
    yield f"DataLoader over the store, {WORKERS} spawned workers", f"{spawn_rate:.0f} images/s: {spawn_rate / file_rate:.2f}", ">= 1"


def memory(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Peak memory of a process that reads a whole version, of one that writes it out again, and of the digest, for two numbers of rows."""
    peaks = {}
    for count in (1000, 4000):
        filled(folder, count, files=False)
        command = [sys.executable, __file__, "--read-all", str(folder / f"read{count}")]
        peaks[count] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    yield (
        "peak memory of reading an epoch, 1,000 and 4,000 rows",
        f"{peaks[1000]['epoch']} and {peaks[4000]['epoch']} MiB",
        "constant",
    )
    yield "the same with digest and keys", f"{peaks[1000]['digest']} and {peaks[4000]['digest']} MiB", "constant"


def read_all(root: Path) -> None:
    store = Store(root, "measured")
    dataset = StoreDataset(store, store.dataset().version, read_table(store).splits["train"])
    for _ in read_batches(Batches(dataset), shuffled(len(dataset)), WORKERS):  # type: ignore[arg-type]
        pass
    peak = {"epoch": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
    store.digest()
    store.keys()
    print(json.dumps({**peak, "digest": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))


PARTS = {"noop": noop, "write": write, "encoding": encoding, "read": read, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which; all by default")
    parser.add_argument("--read-all", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read_all:
        read_all(arguments.read_all)
        return
    cv2.setNumThreads(1)
    print(f"{os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f}\n\n| what | measured | wanted |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NTF_CACHE"] = f"{folder}/cache"
        for name in arguments.parts or PARTS:
            (Path(folder) / name).mkdir()
            for what, measured, wanted in PARTS[name](Path(folder) / name):
                print(f"| {what} | {measured} | {wanted} |", flush=True)


if __name__ == "__main__":
    main()
