"""Stand-ins, to measure everything around the generators: two that take no time, a dataset of them, and a file server."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from generators import registry
from generators.base import Generator, Parameters
from generators.checkpoints import Checkpoint
from generators.seeding import numpy_rng

SIDE = 16
BLOCK = 65_536  # bytes that the server sends at once


class Nothing(Parameters):
    """No parameters."""


class StandIn(Generator):
    """Its checkpoint is a file with one number, which shifts all grey levels."""

    title = "Stand-in"
    family = "GAN"
    licence = "CC0"
    Parameters = Nothing
    resolution = SIDE

    def __init__(self, shift: int):
        self.shift = shift

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> StandIn:
        return cls(int(checkpoint.path.read_text()))


class Sampler(StandIn):
    """Noise from the seed."""

    kinds = ("sample",)

    def _sample(self, seeds: list[int], settings: Any) -> np.ndarray:
        noise = [numpy_rng(seed).integers(0, 200, (SIDE, SIDE, 3)) + self.shift for seed in seeds]
        return np.clip(np.stack(noise), 0, 255).astype(np.uint8)


class Swapper(StandIn):
    """The mean of source and target."""

    family = "DM"
    kinds = ("swap",)

    def _swap(self, sources: np.ndarray, targets: np.ndarray, seeds: Sequence[int], settings: Any) -> np.ndarray:
        return np.clip(sources.astype(int) // 2 + targets // 2 + self.shift, 0, 255).astype(np.uint8)


def stand_ins() -> AbstractContextManager[None]:
    """Registers both generators for the time of the block."""
    return registered({"stand_in_sampler": Sampler, "stand_in_swapper": Swapper})


@contextmanager
def registered(kinds: Mapping[str, type[Generator]]) -> Iterator[None]:
    """Registers generators by name for the time of the block."""
    for name, kind in kinds.items():
        registry.register(name)(kind)
    try:
        yield
    finally:
        for name in kinds:
            registry._registered.pop(name)


def stand_in_dataset(folder: Path, count: int) -> Path:
    """A manifest of three subsets of `count` fakes, beside its real images and its checkpoints, `sampler.txt` and `swapper.txt`."""
    (folder / "reals").mkdir(parents=True)
    people = []
    for number in range(24):
        picture = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
        cv2.imwrite(str(folder / "reals" / f"{number:03d}.png"), picture)
        people.append(f"{number:03d}.png,person{number // 2}")
    (folder / "people.csv").write_text("\n".join(people))
    checkpoints = {}
    for name, weight in (("sampler", "3"), ("swapper", "5")):
        (folder / f"{name}.txt").write_text(weight)
        checkpoints[name] = {"generators": [f"stand_in_{name}"], "file": f"{name}.txt", "licence": "CC0", "resolution": SIDE}
    sample = {"sample": "stand_in_sampler", "checkpoint": "sampler"}
    swap = {"swap": "stand_in_swapper", "checkpoint": "swapper", "source": "people", "repeat_pairs": True}
    chains = {"Sampled": [sample], "Swapped": [{**swap, "target": "people"}], "Chained": [sample, swap]}
    manifest = {
        "dataset": "stand-ins",
        "size": SIDE,
        "shard_size": 4,
        "splits": {"train": 0.4, "validation": 0.3},
        "reals": {"people": {"path": "reals", "identities": "people.csv", "licence": "CC0", "count": 24}},
        "checkpoints": checkpoints,
        "subsets": {name: {"count": count, "real": "people", "chain": chain} for name, chain in chains.items()},
    }
    file = folder / "stand-ins.yaml"
    file.write_text(json.dumps(manifest, indent=1))  # JSON is YAML
    return file


@contextmanager
def file_server(body: bytes, pause: float) -> Iterator[str]:
    """The address of a server on loopback that gives `body` for every path, and parts of it by Range, slowly."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(asked[1]) if asked else 0
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", '"1"')
            self.end_headers()
            for place in range(start, len(body) if with_body else start, BLOCK):
                try:
                    self.wfile.write(body[place : place + BLOCK])
                except OSError:  # who asked was killed
                    return
                time.sleep(pause)

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Nothing is printed of those who were killed while they asked."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
