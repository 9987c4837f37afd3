"""How much of a generator's time its bare convolutions take: the most that anybody could gain by writing the rest better.

    python benchmarks/bare_convolutions.py --only "stylegan2 256 config-f" --batch 8

One pass through the network is watched, and every convolution that mixes channels is noted: its shapes, its layouts, its stride. Then those
convolutions alone are run on random numbers, in turns with the generator, which makes whole images from seeds to `uint8`. What filters each
channel by itself (StyleGAN's smoothing) is not counted as bare. Fully connected layers are not, either.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file, whose own name would hide the package `generators`
    sys.path[0] = str(ROOT)

import torch  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from benchmarks.configurations import chosen  # noqa: E402
from benchmarks.generators import Stopwatch, Turns  # noqa: E402
from benchmarks.options import count  # noqa: E402


@dataclass(frozen=True)
class Tensor:
    """What a tensor is like, without its numbers."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Tensor:
        return cls(tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)

    def filled(self) -> torch.Tensor:
        return torch.empty_strided(self.shape, self.strides, dtype=self.dtype).normal_()


@dataclass(frozen=True)
class Convolution:
    images: Tensor
    weight: Tensor
    bias: Tensor | None
    settings: tuple[Any, ...]  # stride, padding, dilation, transposed, output padding, groups

    @property
    def products(self) -> int:
        """Multiplications of one call. A transposed convolution multiplies each pixel of its input, a plain one each of its output."""
        stride, padding, dilation, transposed, *_ = self.settings
        size = self.images.shape[2:]
        kernel = self.weight.shape[2:]
        if not transposed:
            reach = [(side - 1) * step + 1 for side, step in zip(kernel, dilation, strict=True)]
            size = tuple((n + 2 * p - r) // s + 1 for n, p, r, s in zip(size, padding, reach, stride, strict=True))
        pixels = self.images.shape[0] * size[0] * size[1]
        first, second = self.weight.shape[:2]
        return pixels * first * second * kernel[0] * kernel[1]


class Recorder(TorchDispatchMode):
    """Notes the convolutions that are called inside it, those that mix channels."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Convolution] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.convolution.default:
            images, weight, bias, *settings = args
            mixes = settings[-1] < images.shape[1] or images.shape[1] == 1
            if mixes and images.dim() == 4:
                settings = tuple(tuple(each) if isinstance(each, list) else each for each in settings)
                self.seen.append(Convolution(Tensor.of(images), Tensor.of(weight), None if bias is None else Tensor.of(bias), settings))
        else:
            with self:  # in inference mode `conv2d` comes here whole; what it consists of is looked at, too
                parts = function.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        return function(*args, **(kwargs or {}))


@torch.inference_mode()
def convolutions(make: Callable[[], Any]) -> list[Convolution]:
    """The convolutions of one call of `make`."""
    with Recorder() as recorder:
        make()
    return recorder.seen


def replay(seen: Sequence[Convolution]) -> Callable[[], None]:
    """A function that runs the convolutions one after the other. Equal weights and inputs are in memory once."""
    filled: dict[Tensor, torch.Tensor] = {}

    def tensor(like: Tensor | None) -> torch.Tensor | None:
        if like is not None and like not in filled:
            filled[like] = like.filled()
        return None if like is None else filled[like]

    calls = [(tensor(one.images), tensor(one.weight), tensor(one.bias), *one.settings) for one in seen]

    @torch.inference_mode()
    def run() -> None:
        for call in calls:
            torch.ops.aten.convolution.default(*call)

    return run


def in_turns(makes: Sequence[Callable[[], Any]], rounds: int) -> list[Turns]:
    """At least `rounds` turns of each function, one after the other."""
    idle, taken = Stopwatch(torch.device("cpu")), [Turns() for _ in makes]
    while any(len(turns.wall) < rounds for turns in taken):
        for make, turns in zip(makes, taken, strict=True):
            turns.take(make, idle, idle)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", default="stylegan2 256 config-f", help="the configuration of this name, or those whose name contains this"
    )
    parser.add_argument("--batch", type=count, default=8)
    parser.add_argument("--threads", type=count, default=2)
    parser.add_argument("--rounds", type=count, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    configurations = chosen(arguments.only)
    print("| generator | batch | convolutions | GMAC an image | whole, s an image (CPU) | bare, s an image (CPU) | bare of whole (CPU) |")
    print("|---|---|---|---|---|---|---|")
    for configuration in configurations:
        generator = configuration.make(torch.device("cpu"), torch.float32)
        generator.batch_size = arguments.batch
        make = configuration.once(generator, arguments.batch)
        seen = convolutions(make)
        work = sum(one.products for one in seen) / arguments.batch / 1e9
        whole, bare = in_turns([make, replay(seen)], arguments.rounds)
        cells = [configuration.name, str(arguments.batch), str(len(seen)), f"{work:.1f}"]
        for turns in (whole, bare):
            wall, cpu = (statistics.median(clock) / arguments.batch for clock in (turns.wall, turns.cpu))
            cells.append(f"{wall:.3f} ({cpu:.3f})")
        wall, cpu = (
            statistics.mean(bare_clock) / statistics.mean(clock) for bare_clock, clock in ((bare.wall, whole.wall), (bare.cpu, whole.cpu))
        )
        cells.append(f"{wall:.0%} ({cpu:.0%})")
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
