"""How fast each generator is: images per second, memory, and the share of time spent outside its network.

    python benchmarks/generators.py --only stylegan2 --batch 8
    python benchmarks/generators.py --device cuda --dtype float16 --json speed.json
    python benchmarks/generators.py --only "stylegan2 256" --batch 8 --official ~/clones    # and the authors' code, in turns

Every configuration and batch size runs in a process of its own, so that memory is its own and threads begin afresh. Weights are random,
which changes no time. With --official both networks are in one process and take turns, so that a busy machine slows both alike.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file, whose own name would hide the package `generators`
    sys.path[0] = str(ROOT)

import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks import official as official_networks  # noqa: E402
from benchmarks.configurations import CONFIGURATIONS, Configuration  # noqa: E402

COLUMNS = {
    "name": "generator",
    "batch": "batch",
    "images_per_second": "images/s",
    "seconds_per_image": "s/image",
    "outside_share": "outside network",
    "memory_mib": "peak MiB",
    "ratio": "x official",
}


class Stopwatch:
    """Time spent inside some calls, those within each other counted once."""

    def __init__(self, device: torch.device):
        self.device, self.seconds, self.depth = device, 0.0, 0

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
            started = self.now() if self.depth == 1 else 0.0
            try:
                return inner(*args, **kwargs)
            finally:
                self.depth -= 1
                if self.depth == 0:
                    self.seconds += self.now() - started

        setattr(owner, name, timed)


def measure(
    configuration: Configuration, batch: int, device: torch.device, dtype: torch.dtype, rounds: int, clones: Path | None
) -> dict[str, Any]:
    """One configuration at one batch size: the median of `rounds` batches after one that is not counted."""
    generator = configuration.make(device, dtype)
    generator.batch_size = batch
    request = configuration.request(generator, batch)
    watch = Stopwatch(device)
    for name in configuration.network:
        watch.watch(generator, name)

    def ours() -> None:
        generator.run(request, **configuration.parameters)

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    ours()
    watch.seconds = 0.0
    times = [_time(ours, watch)]
    memory = _peak_mib(device)  # before the authors' network takes any
    theirs = _official(configuration, batch, clones)
    if theirs:
        theirs()
    official_times = []
    for _ in range(rounds - 1):
        if theirs:
            official_times.append(_time(theirs, watch))
        times.append(_time(ours, watch))
    seconds = statistics.median(times)
    result = {
        "name": configuration.name,
        "method": configuration.method,
        "batch": batch,
        "images_per_second": batch / seconds / configuration.times,
        "seconds_per_image": seconds / batch * configuration.times,
        "outside_share": max(0.0, 1 - watch.seconds / sum(times)),
        "memory_mib": memory,
        "measured": dict(configuration.parameters),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads",
        "dtype": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
    }
    if official_times:
        result["official_seconds_per_image"] = statistics.median(official_times) / batch
        result["ratio"] = statistics.median(official_times) / statistics.median(times)
    return result


def _official(configuration: Configuration, batch: int, clones: Path | None) -> Callable[[], Any] | None:
    if clones is None or configuration.official is None:
        return None
    make = getattr(official_networks, configuration.official)(clones, batch)
    return torch.inference_mode()(make)


def _time(make: Callable[[], Any], watch: Stopwatch) -> float:
    started = watch.now()
    make()
    return watch.now() - started


def _peak_mib(device: torch.device) -> int:
    """The most memory that was in use: on the device, or of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _in_own_process(arguments: argparse.Namespace, name: str, batch: int) -> dict[str, Any] | None:
    command = [sys.executable, str(Path(__file__).resolve()), "--one", name, "--batch", str(batch), "--rounds", str(arguments.rounds)]
    command += ["--device", arguments.device, "--dtype", arguments.dtype]
    command += ["--threads", str(arguments.threads)] if arguments.threads else []
    command += ["--official", str(arguments.official)] if arguments.official else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"{name}, batch {batch}: failed with exit code {done.returncode}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def _table(results: list[dict[str, Any]]) -> Table:
    table = Table(title=f"{results[0]['device']}, {results[0]['dtype']}, torch {results[0]['torch']}")
    shown = {key: title for key, title in COLUMNS.items() if any(key in result for result in results)}
    for key, title in shown.items():
        table.add_column(title, justify="left" if key == "name" else "right")
    formats = {"outside_share": "{:.1%}", "images_per_second": "{:.3g}", "seconds_per_image": "{:.3g}", "ratio": "{:.2f}"}
    for result in results:
        table.add_row(*(formats.get(key, "{}").format(result[key]) if key in result else "" for key in shown))
    return table


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="configurations whose name contains this")
    parser.add_argument("--batch", type=int, action="append", help="images at once; may be given several times (default 1 and 8)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's)")
    parser.add_argument("--rounds", type=int, default=4, help="batches timed, at least 2, of which the median counts")
    parser.add_argument("--official", type=Path, help="folder with clones of the authors' repositories, to run in turns with ours")
    parser.add_argument("--json", type=Path, help="write the results here too")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # measure this configuration in this process and print JSON
    return parser.parse_args()


def main() -> None:
    arguments = _parse()
    batches = arguments.batch or [1, 8]
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.one:
        (configuration,) = [one for one in CONFIGURATIONS if one.name == arguments.one]
        device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
        print(json.dumps(measure(configuration, batches[0], device, dtype, arguments.rounds, arguments.official)))
        return
    chosen = [one for one in CONFIGURATIONS if arguments.only in one.name]
    if not chosen:
        raise SystemExit(f"No configuration is called {arguments.only!r}. There are: {', '.join(one.name for one in CONFIGURATIONS)}")
    results = [result for one in chosen for batch in batches if (result := _in_own_process(arguments, one.name, batch))]
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    if results:
        Console(width=120).print(_table(results))
    raise SystemExit(0 if len(results) == len(chosen) * len(batches) else 1)


if __name__ == "__main__":
    main()
