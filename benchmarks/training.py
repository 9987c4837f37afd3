"""Training throughput: stage 2 of NTF on pictures from the store, and from folders, against a bare loop with the same network and cores.

    python benchmarks/training.py --encoder small --size 32
    python benchmarks/training.py --encoder resnet50 --size 224 --batch 16 --warm 1 --steps 3 --repeats 2 --threads 2
    python benchmarks/training.py --parts            # what the rest of the step costs

The bare loop has no data, no augmentation and no validation: forward, cross-entropy, backward, step on one synthetic batch. A second bare
loop has the losses of stage 2 and its clipping in place of cross-entropy: what stage 2 lacks to it is what data and the loop itself cost.
Stage 2 is `learn_detection` itself, timed between the ends of its steps: in its first epoch every picture is read and decoded, from the
second on pictures are kept in memory (as many as fit in 1 GiB); validation is not counted. What is wanted is at least 0.97 of the bare loop
in the first epoch from the store. The loops take turns, so that a busy machine disturbs all alike; each ratio is the median over the turns.
CPU time is that of all threads: on a machine that others use it says more than the clock, and where all cores are busy its ratio is that of
the throughput.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file: a neighbour of that name would hide the package `generators`
    sys.path[0] = str(ROOT)

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from PIL import Image  # noqa: E402
from skimage import data as photographs  # noqa: E402

from benchmarks.options import count  # noqa: E402
from flows.data import splits_of_store  # noqa: E402
from ntf_model.data.data import DetectionSplits, from_folders  # noqa: E402
from ntf_model.data.loader import keep_decoded  # noqa: E402
from ntf_model.data.sampling import BalancedBatches  # noqa: E402
from ntf_model.detector import best_device  # noqa: E402
from ntf_model.encoders.build import encoder_of  # noqa: E402
from ntf_model.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD  # noqa: E402
from ntf_model.ntf.augment import Views, to_tensor  # noqa: E402
from ntf_model.ntf.config import NTFConfig, preset  # noqa: E402
from ntf_model.ntf.losses import detection_loss  # noqa: E402
from ntf_model.ntf.network import DetectionNetwork  # noqa: E402
from ntf_model.ntf.stages import Trace, learn_detection, make_optimizer  # noqa: E402
from ntf_model.training.processes import make_accelerator  # noqa: E402
from pipelines.store import Row, Store  # noqa: E402

OWN_LOSSES = "bare loop with the losses of stage 2"
VALIDATION = 8  # pictures, and as many for the test split


class Seconds(NamedTuple):
    """Of one step: by the clock, and of the CPU over all threads."""

    wall: float
    cpu: float


class Timing(NamedTuple):
    """Steps that are not timed, and steps that are."""

    warm: int
    steps: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="small")
    parser.add_argument("--size", type=count, default=32, help="crop, pixels")
    parser.add_argument("--stored", type=count, default=None, help="side of the stored pictures, pixels (the crop x 8 / 7 if not given)")
    parser.add_argument("--batch", type=count, default=32)
    parser.add_argument("--steps", type=count, default=30, help="steps that are timed, in each epoch")
    parser.add_argument("--warm", type=int, default=3, help="steps that are not timed, before them")
    parser.add_argument("--repeats", type=count, default=5)
    parser.add_argument("--threads", type=count, default=4, help="that read and crop pictures")
    parser.add_argument("--device", default=None)
    parser.add_argument("--parts", action="store_true", help="time the parts of a step instead")
    options = parser.parse_args()
    device = best_device(options.device)
    timing = Timing(options.warm, options.steps)
    stage2 = {"batch_size": options.batch, "epochs": 2, "patience": 9}
    config = preset("demo", encoder=options.encoder, image_size=options.size, threads=options.threads, stage2=stage2)
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(Path(folder), options.batch * (options.steps + options.warm), options.stored or options.size * 8 // 7)
        if options.parts:
            print_parts(config, data["store"], timing, device)
            return
        timings: dict[str, list[Seconds]] = {}
        for _ in range(options.repeats):
            timings.setdefault("bare loop", []).append(bare_loop(config, timing, device))
            timings.setdefault(OWN_LOSSES, []).append(bare_loop(config, timing, device, own_losses=True))
            for name, splits in data.items():
                first, second = stage2_loop(config, splits, timing, device)
                timings.setdefault(f"{name}, first epoch", []).append(first)
                timings.setdefault(f"{name}, later epochs", []).append(second)
    machine = f"{torch.get_num_threads()} threads of torch, {options.threads} that read"
    work = f"{options.encoder} at {options.size} px, batches of {options.batch}, {options.steps} steps, {options.repeats} turns"
    head = (
        "loop",
        "images/s",
        "of the bare loop",
        "of that with its losses",
        "CPU ms an image",
        "of the bare loop",
        "of that with its losses",
    )
    print(f"{work}; {machine}\n\n| {' | '.join(head)} |\n{'|---' * len(head)}|")
    bare, own = np.array(timings["bare loop"]), np.array(timings[OWN_LOSSES])
    for name, values in timings.items():
        turns = np.array(values)  # [turns, (wall, CPU)]
        rate, cpu = options.batch / np.median(turns[:, 0]), 1000 * np.median(turns[:, 1]) / options.batch
        (wall, cpu_share), (own_wall, own_cpu) = (np.median(loop / turns, axis=0) for loop in (bare, own))
        print(f"| {name} | {rate:.1f} | {wall:.2f} | {own_wall:.2f} | {cpu:.2f} | {cpu_share:.2f} | {own_cpu:.2f} |")


def make_data(folder: Path, count: int, side: int) -> dict[str, DetectionSplits]:
    """`count` training pictures, crops of photographs as PNG, in a store and, the same files, in folders. No two are the same picture."""
    rng = np.random.default_rng(0)
    seen: set[bytes] = set()
    sources = [photographs.astronaut(), photographs.coffee(), photographs.rocket(), photographs.chelsea()]
    rows = []
    for split, total in (("train", count), ("validation", VALIDATION), ("test", VALIDATION)):
        for number in range(total):
            source, label = sources[number // 2 % len(sources)], number % 2
            crop = new_crop(source, side, seen, rng)
            png = BytesIO()
            Image.fromarray(crop).save(png, "PNG")
            rows.append(stored_row(split, number, label, png.getvalue(), side))
            file = folder / "folders" / split / ("real", "fake")[label] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png.getvalue())
    store = Store(folder / "store", "made")
    store.write_shard(rows[0].shard_key, "", rows)
    store.commit([rows[0].shard_key], "benchmark")
    return {"store": splits_of_store(store), "folders": from_folders(folder / "folders")}


def new_crop(source: np.ndarray, side: int, seen: set[bytes], rng: np.random.Generator) -> np.ndarray:
    """A crop that is not in `seen`, and is afterwards: parts of a photograph are black, and a picture of both classes would be refused."""
    while True:
        top, left = (int(rng.integers(0, extent - side + 1)) for extent in source.shape[:2])
        crop = source[top : top + side, left : left + side]
        if crop.tobytes() not in seen:
            seen.add(crop.tobytes())
            return crop


def stored_row(split: str, number: int, label: int, png: bytes, side: int) -> Row:
    name, subset = f"{split}{number:06d}", ("photos", "Made")[label]
    return Row(
        f"{name}/0", ("real", "final")[label], label, subset, "photos", "GAN", "GAN", number, split, name, "0" * 64, "CC0",
        seed=number, format="png", width=side, height=side, bytes=len(png), sha256=hashlib.sha256(png).hexdigest(), phash="0" * 16,
        image=png, chain=[{"kind": "sample", "generator": "stylegan2", "checkpoint": "c", "parameters": {}, "seed": number}],
    )  # fmt: skip


def new_network(config: NTFConfig, device: torch.device) -> DetectionNetwork:
    torch.manual_seed(0)
    return DetectionNetwork(encoder_of(config), config.projection_dim).to(device).train()


def bare_loop(config: NTFConfig, timing: Timing, device: torch.device, own_losses: bool = False) -> Seconds:
    """A step with one synthetic batch, used again and again: with cross-entropy, or with the losses of stage 2 and its clipping."""
    network = new_network(config, device)
    optimizer = make_optimizer(list(network.parameters()), config.stage2)
    pixels = torch.randn(config.stage2.batch_size, 3, config.image_size, config.image_size, device=device)
    labels = (torch.arange(len(pixels), device=device) % 2).float()
    parameters, trace = list(network.parameters()), F.normalize(torch.ones(config.projection_dim, device=device), dim=0)

    def own_step() -> None:
        optimizer.zero_grad()
        features, logits = network(pixels)
        detection_loss(network.standardise(features), logits, labels == 1, trace).total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.stage2.max_gradient)
        optimizer.step()

    def step() -> None:
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(network(pixels)[1], labels).backward()
        optimizer.step()

    return seconds_each(own_step if own_losses else step, timing, device)


def stage2_loop(config: NTFConfig, splits: DetectionSplits, timing: Timing, device: torch.device) -> tuple[Seconds, Seconds]:
    """A step of stage 2: in its first epoch, and in the second."""
    network = new_network(config, device)
    features = F.normalize(torch.randn(len(splits.train), config.projection_dim, device=device), dim=1)
    trace = Trace(features, F.normalize(features.mean(0), dim=0))
    kept = splits._replace(train=keep_decoded(splits.train), validation=keep_decoded(splits.validation))
    ends: list[Seconds] = []

    def on_progress(done: int, total: int, message: str) -> None:
        synchronise(device)
        ends.append(Seconds(time.perf_counter(), time.process_time()))

    learn_detection(
        network, trace, kept, config, make_accelerator(config.mixed_precision, device), None, resume=False, on_progress=on_progress
    )
    epochs = ends[: timing.warm + timing.steps], ends[timing.warm + timing.steps :]
    first, second = (since(epoch[timing.warm - 1], epoch[-1], timing.steps) for epoch in epochs)
    return first, second


def print_parts(config: NTFConfig, splits: DetectionSplits, timing: Timing, device: torch.device) -> None:
    """CPU milliseconds of each part of a step of stage 2 by itself, one after the other, reading included."""
    network = new_network(config, device)
    parameters = list(network.parameters())
    optimizer = make_optimizer(parameters, config.stage2)
    data = keep_decoded(splits.train)
    batches = [draws for draws in BalancedBatches(data, config.stage2.batch_size, 0, 0)]
    fresh, kept = (Views(split.dataset, config.augmentation.view, config.image_size) for split in (splits.train, data))
    batch = kept.batch(batches[0])
    pixels = to_tensor(batch.pixels[:, 0], IMAGENET_MEAN, IMAGENET_STD, device)
    fakes = batch.labels.to(device) == 1
    trace = F.normalize(torch.randn(config.projection_dim, device=device), dim=0)
    z, logits = (value.detach().requires_grad_() for value in network(pixels))
    for draws in batches:
        kept.batch(draws)
    draws_of = iter(batches * 4)

    def train() -> None:
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(network(pixels)[1], fakes.float()).backward()
        optimizer.step()

    def losses() -> None:
        detection_loss(network.standardise(z), logits, fakes, trace).total.backward()

    def both() -> None:
        features, logits = network(pixels)
        optimizer.zero_grad()
        detection_loss(network.standardise(features), logits, fakes, trace).total.backward()

    parts: dict[str, Callable[[], object]] = {
        "forward, cross-entropy, backward, step (the bare loop)": train,
        "cross-entropy and its gradient": lambda: F.binary_cross_entropy_with_logits(logits, fakes.float()).backward(),
        "both losses and their gradients": losses,
        "forward, both losses, backward": both,
        "clipping": lambda: torch.nn.utils.clip_grad_norm_(parameters, config.stage2.max_gradient),
        "uint8 to normalised floats": lambda: to_tensor(batch.pixels[:, 0], IMAGENET_MEAN, IMAGENET_STD, device),
        "reading and cropping a batch, from the store": lambda: fresh.batch(next(draws_of)),
        "cropping a batch, pictures kept in memory": lambda: kept.batch(next(draws_of)),
    }
    print("| part of a step | CPU ms |\n|---|---|")
    for name, part in parts.items():
        print(f"| {name} | {1000 * seconds_each(part, timing, device).cpu:.2f} |")


def seconds_each(step: Callable[[], object], timing: Timing, device: torch.device) -> Seconds:
    for done in range(timing.warm + timing.steps):
        if done == timing.warm:
            synchronise(device)
            start = Seconds(time.perf_counter(), time.process_time())
        step()
    synchronise(device)
    return since(start, Seconds(time.perf_counter(), time.process_time()), timing.steps)


def since(start: Seconds, end: Seconds, steps: int) -> Seconds:
    return Seconds((end.wall - start.wall) / steps, (end.cpu - start.cpu) / steps)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
