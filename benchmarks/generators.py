"""How fast each generator is: images per second, memory, and the share of time spent outside its network.

    python benchmarks/generators.py --only "stylegan2 256" --batch 8
    python benchmarks/generators.py --device cuda --dtype float16 --compile --json speed.json
    python benchmarks/generators.py --only simswap --batch 8 --official ~/clones --json speed.json    # and the authors' code, in turns
    python benchmarks/generators.py --table speed.json                                                # as Markdown

Every configuration and batch size runs in a process of its own, so that memory is its own and threads begin afresh. Weights are random,
which changes no time. With --official both networks are in one process and take turns, so that a busy machine slows both alike; wall
clock and CPU time (of all threads) are kept for each turn. With --json what the file already holds of the same configuration is added to,
so that a long measurement can be made in pieces.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file, whose own name would hide the package `generators`
    sys.path[0] = str(ROOT)

import torch  # noqa: E402

from benchmarks import official as official_networks  # noqa: E402
from benchmarks.configurations import CONFIGURATIONS, Configuration, chosen  # noqa: E402
from benchmarks.options import count, existing_folder, figures_file, known_figures  # noqa: E402
from generators.loading import compile_networks  # noqa: E402

LONG = 5.0  # seconds on a CPU: a first turn that takes longer counts, because what it warms up is lost in it
SAME = ("name", "batch", "images", "device", "dtype", "compiled", "torch")  # of results that measure the same thing


class Stopwatch:
    """Time spent inside some calls, by the wall clock and of the CPU's threads; calls within each other are counted once."""

    def __init__(self, device: torch.device):
        self.device, self.seconds, self.cpu, self.depth = device, 0.0, 0.0, 0

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def watch(self, owner: Any, dotted: str) -> None:
        """Replaces the method `dotted` of `owner` by one that is timed."""
        *path, name = dotted.split(".")
        for part in path:
            owner = getattr(owner, part)
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.depth += 1
            started, cpu = (self.now(), time.process_time()) if self.depth == 1 else (0.0, 0.0)
            try:
                return inner(*args, **kwargs)
            finally:
                self.depth -= 1
                if self.depth == 0:
                    self.seconds += self.now() - started
                    self.cpu += time.process_time() - cpu

        setattr(owner, name, timed)


@dataclass
class Turns:
    """Seconds of each turn: of the wall clock, of all CPU threads together, and of the wall clock inside the watched calls; and of both
    clocks inside what an image needs once, however many steps it has. `first` are the turns that nothing was warm for."""

    first: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    network: list[float] = field(default_factory=list)
    wall_once: list[float] = field(default_factory=list)
    cpu_once: list[float] = field(default_factory=list)

    def take(self, make: Callable[[], Any], watch: Stopwatch, once: Stopwatch) -> None:
        """One turn. A short first one is not timed with the others."""
        wall_once, cpu_once = once.seconds, once.cpu
        inside, wall, cpu = watch.seconds, watch.now(), time.process_time()
        make()
        wall, cpu = watch.now() - wall, time.process_time() - cpu
        if not self.first:
            self.first.append(wall)
            if cpu < LONG or watch.device.type == "cuda":
                return
        self.wall.append(wall)
        self.cpu.append(cpu)
        self.network.append(watch.seconds - inside)
        self.wall_once.append(once.seconds - wall_once)
        self.cpu_once.append(once.cpu - cpu_once)


def measure(
    configuration: Configuration,
    batch: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    rounds: int = 4,
    clones: Path | None = None,
    images: int | None = None,
    compiled: bool = False,
    graphs: bool = False,
) -> dict[str, Any]:
    """One configuration at one batch size: the seconds of `rounds` turns of `images` images (one batch if None), and of as many of the
    authors' code if `clones` holds it."""
    generator = configuration.make(device, dtype)
    generator.graphs, compiled = graphs, compiled or graphs
    if compiled:
        compile_networks(generator, graphs=graphs)
    generator.batch_size = batch
    images = images or batch
    once = configuration.once(generator, images)
    if compiled:
        once()
    watch, rest = Stopwatch(device), Stopwatch(device)
    for name in configuration.network:
        watch.watch(generator, name.replace("forward", "_compiled_call_impl") if compiled else name)
    for name in configuration.once_an_image:
        rest.watch(generator, name)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    ours, theirs = Turns(), Turns()
    ours.take(once, watch, rest)
    memory = _peak_mib(device)  # before the authors' network takes any
    other = _official(configuration, batch, clones)
    if other:
        theirs.take(other, watch, rest)
    while len(ours.wall) < rounds:
        ours.take(once, watch, rest)
        if other:
            theirs.take(other, watch, rest)
    return {
        "name": configuration.name,
        "method": configuration.method,
        "batch": batch,
        "images": images,
        "times": configuration.times,
        "measured": dict(configuration.parameters),
        "memory_mib": memory,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads",
        "dtype": str(dtype).removeprefix("torch."),
        "compiled": "CUDA graphs" if graphs else compiled,
        "torch": torch.__version__,
        "seconds": asdict(ours),
        "official_seconds": asdict(theirs) if other else None,
    }


def _official(configuration: Configuration, batch: int, clones: Path | None) -> Callable[[], Any] | None:
    if clones is None or configuration.official is None:
        return None
    make = getattr(official_networks, configuration.official)(clones, batch)
    return make if configuration.needs_gradients else torch.inference_mode()(make)


def _peak_mib(device: torch.device) -> int:
    """The most memory that was in use: on the device, or of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def extend(known: list[dict[str, Any]], new: dict[str, Any]) -> None:
    """Puts `new` into `known`, its turns after those of the same measurement if that is there."""
    for old in known:
        if all(old[key] == new[key] for key in SAME):
            for whose in ("seconds", "official_seconds"):
                if new[whose] and old[whose]:
                    for clock, values in new[whose].items():
                        old[whose][clock] += values
                else:
                    old[whose] = new[whose] or old[whose]
            old["memory_mib"] = max(old["memory_mib"], new["memory_mib"])
            return
    known.append(new)


def ratios(result: dict[str, Any]) -> dict[str, float] | None:
    """How many times as long as ours the authors' code takes, by both clocks, of the medians and of the shortest turns."""
    ours, theirs = result["seconds"], result["official_seconds"]
    if not theirs:
        return None
    pick = {"median": statistics.median, "min": min}
    return {f"{clock} {how}": of(theirs[clock]) / of(ours[clock]) for clock in ("wall", "cpu") for how, of in pick.items()}


def seconds_an_image(result: dict[str, Any], clock: str = "wall") -> float:
    """At the official settings, by the median turn: the steps as many times as they are more, what comes once an image once."""
    turns = zip(result["seconds"][clock], result["seconds"][f"{clock}_once"], strict=True)
    return statistics.median(once + (whole - once) * result["times"] for whole, once in turns) / result["images"]


def outside(result: dict[str, Any]) -> float:
    """The share of the time that is spent outside the network's calls, by the median turn."""
    turns = result["seconds"]
    return max(0.0, statistics.median(1 - inside / wall for inside, wall in zip(turns["network"], turns["wall"], strict=True)))


def markdown(results: list[dict[str, Any]]) -> str:
    """The table, one line for each configuration and batch size."""
    alone = {result["name"]: seconds_an_image(result, "cpu") for result in results if result["batch"] == 1}
    compared = any(result["official_seconds"] for result in results)
    titles = ["generator", "batch", "images/s", "s/image", "x batch of one, CPU", "CPU s/image", "outside network", "peak MiB", "turns"]
    titles += ["x official: wall, median (shortest)", "CPU, median (shortest)"] if compared else []
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for result in results:
        wall, cpu, ratio = seconds_an_image(result), seconds_an_image(result, "cpu"), ratios(result)
        gain = f"{alone[result['name']] / cpu:.2f}" if result["name"] in alone and result["batch"] > 1 else ""
        cells = [result["name"], str(result["batch"]), f"{1 / wall:.3g}", f"{wall:.3g}", gain, f"{cpu:.3g}"]
        cells += [f"{outside(result):.1%}", str(result["memory_mib"]), str(len(result["seconds"]["wall"]))]
        if compared:
            cells += [f"{ratio[f'{clock} median']:.2f} ({ratio[f'{clock} min']:.2f})" if ratio else "" for clock in ("wall", "cpu")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _in_own_process(arguments: argparse.Namespace, name: str, batch: int) -> dict[str, Any] | None:
    command = [sys.executable, str(Path(__file__).resolve()), "--one", name, "--batch", str(batch), "--rounds", str(arguments.rounds)]
    command += ["--device", arguments.device, "--dtype", arguments.dtype, "--threads", str(arguments.threads)]
    command += ["--official", str(arguments.official)] if arguments.official else []
    command += ["--images", str(arguments.images)] if arguments.images else []
    command += ["--compile"] if arguments.compile else []
    command += ["--graphs"] if arguments.graphs else []
    waiting = {"OMP_WAIT_POLICY": "PASSIVE"}  # a thread that waits for another on a busy machine sleeps, and spends no CPU time
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=os.environ | waiting)
    if done.returncode:
        print(f"{name}, batch {batch}: failed with exit code {done.returncode}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the configuration of this name, or those whose name contains this")
    parser.add_argument("--batch", type=count, action="append", help="images at once; may be given several times (default 1 and 8)")
    parser.add_argument("--images", type=count, help="images in one turn (default: one batch); more of them show whether memory grows")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--compile", action="store_true", help="networks through torch.compile")
    parser.add_argument("--graphs", action="store_true", help="the same, as CUDA graphs")
    parser.add_argument("--threads", type=count, default=2, help="CPU threads (default 2)")
    parser.add_argument("--rounds", type=count, default=4, help="turns timed")
    parser.add_argument("--official", type=existing_folder, help="clones of the authors' repositories, to run in turns with ours")
    parser.add_argument("--json", type=figures_file, help="add the results to this file")
    parser.add_argument("--table", type=known_figures, help="measure nothing, print this file's results as Markdown")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # measure this configuration in this process and print JSON
    return parser.parse_args()


def main() -> None:
    arguments = _parse()
    if arguments.table:
        print(markdown(json.loads(arguments.table.read_text())))
        return
    batches = arguments.batch or [1, 8]
    torch.set_num_threads(arguments.threads)
    if arguments.one:
        (configuration,) = [configuration for configuration in CONFIGURATIONS if configuration.name == arguments.one]
        settings = {"rounds": arguments.rounds, "clones": arguments.official, "images": arguments.images, "compiled": arguments.compile}
        settings["graphs"] = arguments.graphs
        print(json.dumps(measure(configuration, batches[0], torch.device(arguments.device), getattr(torch, arguments.dtype), **settings)))
        return
    results: list[dict[str, Any]] = []
    failed = False
    for configuration in chosen(arguments.only):
        for batch in batches:
            result = _in_own_process(arguments, configuration.name, batch)
            failed |= result is None
            results += [result] if result else []
    if arguments.json:
        known = json.loads(arguments.json.read_text()) if arguments.json.exists() else []
        for result in results:
            extend(known, result)
        arguments.json.write_text(json.dumps(known, indent=1) + "\n")
    if results:
        print(f"{results[0]['device']}, {results[0]['dtype']}, torch {results[0]['torch']}\n\n{markdown(results)}")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
