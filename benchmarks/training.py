"""Training throughput: stage 2 of NTF on pictures from disk against a bare loop on synthetic tensors, with the same network and cores.

    python benchmarks/training.py --encoder small --size 32
    python benchmarks/training.py --encoder resnet50 --size 224 --batch 64 --device cuda

The bare loop has no data, no augmentation and no validation: forward, cross-entropy, backward, step. What is wanted is at least 0.9 of it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ntf_model.augment import Views, to_tensor
from ntf_model.config import NTFConfig, preset
from ntf_model.data import DetectionSplits, from_folders
from ntf_model.detector import best_device
from ntf_model.encoder import IMAGENET_MEAN, IMAGENET_STD, build_encoder
from ntf_model.loader import Cached, read_batches
from ntf_model.losses import detection_loss
from ntf_model.network import DetectionNetwork
from ntf_model.sampling import BalancedBatches
from ntf_model.training import make_optimizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="small")
    parser.add_argument("--size", type=int, default=32, help="crop, pixels")
    parser.add_argument("--stored", type=int, default=None, help="side of the stored pictures, pixels (the crop x 8 / 7 if not given)")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default=None)
    parser.add_argument("--data", type=Path, default=None, help="folders real/ and fake/; made of noise if not given")
    options = parser.parse_args()
    device = best_device(options.device)
    config = preset("demo", encoder=options.encoder, image_size=options.size, stage2={"batch_size": options.batch})
    with tempfile.TemporaryDirectory() as folder:
        splits = from_folders(options.data or make_pictures(Path(folder), options.images, options.stored or options.size * 8 // 7))
        rates: dict[str, list[float]] = {"bare": [], "from disk": [], "kept in memory": []}
        for _ in range(options.repeats):  # in turn, so that a busy machine disturbs all alike
            rates["bare"].append(bare_loop(config, options.steps, device))
            rates["from disk"].append(real_loop(config, splits, options.steps, device, cached=False))
            rates["kept in memory"].append(real_loop(config, splits, options.steps, device, cached=True))
    bare = float(np.median(rates["bare"]))
    for name, values in rates.items():
        rate = float(np.median(values))
        print(
            f"{name:15s} {rate:8.1f} images/s  {rate / bare:5.2f} of the bare loop  (all: {', '.join(f'{value:.1f}' for value in values)})"
        )


def make_pictures(folder: Path, count: int, side: int) -> Path:
    """Folders of noise: PNG of noise is as slow to decode as a PNG can be."""
    rng = np.random.default_rng(0)
    for label in ("real", "fake"):
        (folder / label).mkdir(parents=True)
        for index in range(count // 2):
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / label / f"{label}{index:05d}.png")
    return folder


def new_network(config: NTFConfig, device: torch.device) -> DetectionNetwork:
    torch.manual_seed(0)
    return DetectionNetwork(build_encoder(config.encoder), config.projection_dim).to(device).train()


def bare_loop(config: NTFConfig, steps: int, device: torch.device) -> float:
    """Images a second with one synthetic batch, used again and again."""
    network = new_network(config, device)
    optimizer = make_optimizer(list(network.parameters()), config.stage2)
    pixels = torch.randn(config.stage2.batch_size, 3, config.image_size, config.image_size, device=device)
    labels = (torch.arange(len(pixels), device=device) % 2).float()

    def step() -> None:
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(network(pixels)[1], labels).backward()
        optimizer.step()

    return len(pixels) * steps / timed(step, steps, device)


def real_loop(config: NTFConfig, splits: DetectionSplits, steps: int, device: torch.device, cached: bool) -> float:
    """Images a second of what stage 2 does at each step: read, crop, normalise, both losses, backward, clip, step."""
    network = new_network(config, device)
    parameters = list(network.parameters())
    optimizer = make_optimizer(parameters, config.stage2)
    trace = F.normalize(torch.randn(config.projection_dim, device=device), dim=0)
    dataset = Cached(splits.train.dataset, (1 << 30) if cached else 0)
    if cached:
        for row in range(len(dataset)):
            dataset[row]
    views = Views(dataset, config.augmentation.view, config.image_size)
    draws = (batch for epoch in range(10_000) for batch in BalancedBatches(splits.train, config.stage2.batch_size, 0, epoch))
    batches = read_batches(views, draws, config.threads, pin=device.type == "cuda")

    def step() -> None:
        batch = next(batches)
        pixels = to_tensor(batch.pixels[:, 0], IMAGENET_MEAN, IMAGENET_STD, device)
        features, logits = network(pixels)
        found = detection_loss(features, logits, batch.labels.to(device) == 1, trace)
        optimizer.zero_grad()
        found.total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.stage2.max_gradient)
        optimizer.step()

    seconds = timed(step, steps, device)
    batches.close()
    return config.stage2.batch_size * steps / seconds


def timed(step, steps: int, device: torch.device) -> float:
    """Seconds for `steps` steps, after three that warm up."""
    for count in range(steps + 3):
        if count == 3:
            synchronise(device)
            start = time.perf_counter()
        step()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
