"""A delivery for any folder of pictures, whatever is in it."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreign.errors import InputError
from foreign.folders import list_pictures, said
from foreign.pictures import read_bytes
from foreign.progress import Progress, counting, silent
from generators.files import whole_folder
from generators.seeding import derive_seed
from pipelines.delivery.deliver import Delivered, deliver
from pipelines.images import ENDINGS
from pipelines.manifest.deliveries import Step, as_data

INDEX = "delivered.jsonl"  # a line for each picture: its file, the file that it was, and what was drawn
BATCH = 64  # pictures in the hands of threads at once


@dataclass(frozen=True)
class DeliveredFolder:
    """What a folder was delivered to: how many pictures, what of it was left out (in words), and a line for each that could not be
    read."""

    folder: Path
    pictures: int
    left_out: str
    unreadable: tuple[str, ...]


def deliver_folder(source: Path, output: Path, steps: Sequence[Step], seed: int = 0, on_progress: Progress = silent) -> DeliveredFolder:
    """Delivers all pictures under `source` into `output`, at the same places, each by the seed of its own content.

    So the same file gives the same bytes wherever it lies, in whatever order, and with any number of threads. The folders of classes stay,
    so that a detector can be trained on the result. A picture that cannot be read is left out and named. Raises InputError if there is no
    picture, or `output` is there already or lies in `source`.
    """
    if not source.is_dir():
        raise InputError(f"there is no folder {source}", "Give a folder of pictures")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output} is there already", "Name a new folder")
    if output.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{output} lies in {source}", "Name a folder elsewhere, so that it is not delivered itself")
    listing = list_pictures(source)
    if not listing.files:
        raise InputError(f"there are no pictures in {source}", said(listing.left_out) or "Put some there")
    unreadable: list[str] = []
    with whole_folder(output) as folder:
        count = 0
        with (folder / INDEX).open("w", encoding="utf-8") as index:
            index.write(json.dumps({"delivery": as_data(steps), "seed": seed}, sort_keys=True) + "\n")
            delivered = _deliver_all(source, folder, listing.files, tuple(steps), seed)
            for entry in counting(delivered, len(listing.files), "pictures", on_progress):
                if isinstance(entry, str):
                    unreadable.append(entry)
                    continue
                index.write(json.dumps(entry, sort_keys=True) + "\n")
                count += 1
        if not count:
            raise InputError(f"no picture of {source} can be read: {unreadable[0]}", "Give other pictures")
    return DeliveredFolder(output, count, said(listing.left_out), tuple(unreadable))


def _deliver_all(source: Path, folder: Path, files: Sequence[Path], steps: tuple[Step, ...], seed: int) -> Iterator[dict[str, Any] | str]:
    """What the index says of each picture once it is written, or why it could not be read; in order."""
    stems = Counter(file.with_suffix("") for file in files)

    def work(file: Path) -> tuple[Path, Delivered | str]:
        try:
            data = read_bytes(file)
            return file, deliver(data, steps, derive_seed(seed, "delivery", hashlib.sha256(data).hexdigest()), str(file))
        except InputError as error:
            return file, error.message

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, len(files), BATCH):
            for file, result in pool.map(work, files[start : start + BATCH]):
                if isinstance(result, str):
                    yield result
                    continue
                inside = file.relative_to(source)
                stem = inside.name if stems[file.with_suffix("")] > 1 else inside.stem  # a.png and a.jpg side by side
                place = inside.with_name(f"{stem}.{ENDINGS[result.format]}")
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                (folder / place).write_bytes(result.data)
                yield {"file": place.as_posix(), "from": inside.as_posix(), "steps": list(result.steps)}
