"""Everything that is to be known on a GPU, in one command: a table for docs/benchmarks-generators.md.

    python benchmarks/gpu.py --device cuda:0 --json gpu.json           # all of it, about two hours on a fast card
    python benchmarks/gpu.py --only stylegan2 --batches 8,32           # a part
    python benchmarks/gpu.py --table gpu.json                          # as Markdown

1. Each method at release size with random weights: images a second and memory in float32, in the authors' half precision, and compiled,
   over a curve of batch sizes, each in a process of its own (`benchmarks/generators.py`).
2. From seeds to a committed shard: a build with that network, and which share of the wall time was spent in it. Swaps with --detector.
3. One denoising step of four of today's families.
4. NTF's training at 224 px (`benchmarks/training.py`).
5. Table 1 of the paper as hours, from the fastest rate of each of its checkpoints.

What fails (memory, a compiler) is a row that says so; the others go on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path[0] = str(ROOT)

import torch  # noqa: E402

from benchmarks import ceiling, generators  # noqa: E402
from benchmarks.configurations import CONFIGURATIONS, Configuration  # noqa: E402
from benchmarks.families import FAMILIES, Family  # noqa: E402
from benchmarks.options import count, figures_file, known_figures  # noqa: E402
from foreign.memory import release  # noqa: E402
from pipelines.build.build import Build  # noqa: E402
from pipelines.build.producer import Producer  # noqa: E402
from pipelines.build.runner import Here  # noqa: E402
from pipelines.manifest.load import load_manifest  # noqa: E402
from pipelines.manifest.schema import Manifest  # noqa: E402
from pipelines.plan.plan import make_plan  # noqa: E402
from pipelines.store import Store  # noqa: E402

BATCHES = (1, 8, 32, 128)
VARIANTS = {"float32": ["--dtype", "float32"], "half": [], "half, compiled": ["--compile"], "half, graphs": ["--graphs"]}
# The configuration that is as large as each checkpoint of the paper's manifest.
STANDS_FOR = {
    "progan-celebahq-1024": "progan 1024",
    "stylegan2-celebahq-256": "stylegan2 256 config-f",
    "stylegan2-ffhq-1024": "stylegan2 1024 config-f",
    "stylegan2-lsun-church-256": "stylegan2 256 config-f",
    "projected-gan-ffhq-256": "projected_gan 256 FastGAN",
    "projected-gan-lsun-church-256": "projected_gan 256 FastGAN",
    "projected-gan-landscape-256": "projected_gan 256 FastGAN",
    "vqgan-celebahq-256": "vqgan 256",
    "diff-stylegan2-ffhq-1024": "diff_stylegan2 1024 FFHQ",
    "diff-stylegan2-lsun-church-256": "stylegan2 256 config-f",
    "simswap-224": "simswap 224",
    "ddpm-celebahq-256": "ddpm 256, 1000 steps",
    "ddpm-church-256": "ddpm 256, 1000 steps",
    "diffface-256": "diffface 256, 75 steps of 4 candidates",
    "ldm-celebahq-256": "ldm 256, 200 steps",
    "ldm-text2im-256": "ldm 256, 200 steps",
    "stable-diffusion-v1-4": "stable_diffusion 512, 50 steps",
}
OTHER_STEPS = {"ddim": "ddim 256, 50 steps", "pndm": "pndm 256, 50 steps"}  # the same checkpoint in fewer steps


def method_row(name: str, batch: int, variant: str, device: str, rounds: int, timeout: float) -> dict[str, Any]:
    """One configuration at one batch size in a process of its own: its figures, or why there are none."""
    row = {"part": "method", "name": name, "batch": batch, "variant": variant}
    method = next(configuration.method for configuration in CONFIGURATIONS if configuration.name == name)
    command = [sys.executable, str(ROOT / "benchmarks/generators.py"), "--one", name, "--batch", str(batch), "--rounds", str(rounds)]
    command += ["--device", device, *VARIANTS[variant]]
    if variant != "float32":
        command += ["--dtype", half_of(method)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        return row | {"failed": f"not done in {timeout:.0f} s"}
    if done.returncode:
        return row | {"failed": (done.stderr.strip().splitlines() or ["no reason"])[-1][:160]}
    result = json.loads(done.stdout.strip().splitlines()[-1])
    rate, inside = 1 / generators.seconds_an_image(result), 1 - generators.outside(result)
    figures = {"rate": rate, "network": inside, "memory_mib": result["memory_mib"]}
    return row | figures | {"device": result["device"], "torch": result["torch"]}


def variants_of(method: str) -> list[str]:
    """The variants that a method has: CUDA graphs only where its networks do the same in every batch."""
    from generators import registry

    return [variant for variant in VARIANTS if variant != "half, graphs" or registry.get(method).repeats]


def half_of(method: str) -> str:
    """The half precision that a method's authors run it in; float16 for those who run it in float32, to see what it would bring."""
    from generators import registry

    released = registry.get(method).released_precision
    return "float16" if released == "float32" else released


def shard_row(
    configuration: Configuration, device: torch.device, dtype: torch.dtype, images: int, folder: Path, detector: Path | None = None
) -> dict[str, Any]:
    """A build of `images` images with a configuration's network, and which share of its wall time was spent in it.

    Swaps are of portraits, with the cascade if no detector is given. Where the network's random weights make nothing that is kept, the work
    of making it is the same.
    """
    generator = configuration.make(device, dtype)
    kind, side = generator.kinds[0], generator.resolution
    folder.mkdir(parents=True, exist_ok=True)
    file = ceiling.write_dataset(folder / "data", "swaps" if kind == "swap" else "samples", side, images, 32, {"detector": detector}, None)
    contents = json.loads(file.read_text())
    link: dict[str, Any] = {kind: configuration.method, "checkpoint": "side", **configuration.parameters}
    link |= {"prompts": ["a photograph of a face"]} if kind == "prompt" else {}
    link |= {"source": "people", "target": "people", "repeat_pairs": True} if kind == "swap" else {}
    contents["checkpoints"]["side"]["generators"] = [configuration.method]
    contents["subsets"]["Ceiling"]["chain"] = [link]
    contents["attempts"] = 1
    file.write_text(json.dumps(contents))
    plan, store = make_plan(load_manifest(file)), Store(folder / "store", "ceiling")
    with Build(plan, store, str(device)) as build:
        producer = Producer(plan, store, str(device))
        for shard in [shard for shard in build.missing if shard.role == "real"]:
            producer.produce(shard)
        build.missing = [shard for shard in build.missing if shard.role != "real"]
        producer._maker._steps._models._loaded[configuration.method, "side"] = generator  # real shards let go of what they do not need
        configuration.once(generator, min(images, generator.batch_size))()  # warm
        watch = generators.Stopwatch(device)
        for name in configuration.network:
            watch.watch(generator, name)
        started = watch.now()
        build.run(runner=Here(producer))
        build.commit()
        wall = watch.now() - started
    return {
        "part": "shard",
        "name": configuration.name,
        "images": images,
        "rate": images / wall / configuration.times,
        "network": watch.seconds / wall,
        "kept": sum(note.written for note in build.shards.notes),
    }


def family_row(family: Family, batch: int, device: torch.device, dtype: torch.dtype, **smaller: Any) -> dict[str, Any]:
    """Images a second of a family's denoiser, if each image takes the release's steps."""
    step = family.step(batch, device, dtype, **smaller)
    watch = generators.Stopwatch(device)
    step()
    if device.type == "cuda":  # else it is the largest of all that ran before in this process, and of making the weights
        watch.now()
        torch.cuda.reset_peak_memory_stats(device)
    started = watch.now()
    for _ in range(3):
        step()
    seconds = (watch.now() - started) / 3
    memory = torch.cuda.max_memory_allocated(device) >> 20 if device.type == "cuda" else None
    return {"part": "family", "name": family.name, "batch": batch, "rate": batch / seconds / family.steps, "memory_mib": memory}


def training_row(device: str, arguments: Iterable[str], timeout: float) -> dict[str, Any]:
    """What `benchmarks/training.py` prints."""
    command = [sys.executable, str(ROOT / "benchmarks/training.py"), "--device", device, *arguments]
    row = {"part": "training", "name": " ".join(arguments)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        return row | {"failed": f"not done in {timeout:.0f} s"}
    return row | ({"table": done.stdout} if not done.returncode else {"failed": (done.stderr.strip().splitlines() or ["no reason"])[-1]})


def hours_of(manifest: Manifest, rates: Mapping[str, float]) -> tuple[float, list[str]]:
    """The hours that all steps of a manifest take at these images a second by configuration, and the checkpoints without a rate."""
    seconds, unknown = 0.0, set()
    for subset in manifest.subsets.values():
        for part in subset.parts:
            for step in part.chain:
                name = OTHER_STEPS.get(step.generator) or STANDS_FOR.get(step.checkpoint, "")
                if name in rates:
                    seconds += part.count / rates[name]
                else:
                    unknown.add(step.checkpoint)
    return seconds / 3600, sorted(unknown)


def fastest(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The best rate of each configuration over batches and precisions."""
    rates: dict[str, float] = {}
    for row in rows:
        if row["part"] == "method" and "rate" in row:
            rates[row["name"]] = max(rates.get(row["name"], 0.0), row["rate"])
    return rates


def markdown(rows: list[dict[str, Any]]) -> str:
    """All parts as Markdown."""
    lines = ["| generator | precision | batch | images/s | in the network | peak MiB |", "|---|---|---|---|---|---|"]
    for row in rows:
        if row["part"] == "method":
            cells = [row["name"], row["variant"], row["batch"]]
            cells += (
                [f"failed: {row['failed']}", "", ""]
                if "failed" in row
                else [f"{row['rate']:.3g}", f"{row['network']:.0%}", row["memory_mib"]]
            )
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "| from seeds to a committed shard | images | images/s | in the network |", "|---|---|---|---|"]
    for row in rows:
        if row["part"] == "shard":
            figures = f"failed: {row['failed']} | " if "failed" in row else f"{row['rate']:.3g} | {row['network']:.0%}"
            lines.append(f"| {row['name']} | {row.get('images', '')} | {figures} |")
    lines += ["", "| family | batch | images/s | peak MiB |", "|---|---|---|---|"]
    for row in rows:
        if row["part"] == "family":
            figures = f"failed: {row['failed']} | " if "failed" in row else f"{row['rate']:.3g} | {row['memory_mib']}"
            lines.append(f"| {row['name']} | {row['batch']} | {figures} |")
    lines += [f"\nTraining: {row['name']}\n\n{row.get('table') or row['failed']}" for row in rows if row["part"] == "training"]
    hours, unknown = hours_of(load_manifest(ROOT / "manifests/paper.yaml"), fastest(rows))
    lines.append(f"\nTable 1 of the paper: {hours:.1f} hours of generating" + (f", not counting {', '.join(unknown)}" if unknown else ""))
    return "\n".join(lines)


def tried(row: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` gives, or `row` with the reason why it gave nothing. The GPU's memory is given back, also to other processes: those of
    the rows to come."""
    try:
        return make()
    except Exception as error:
        return row | {"failed": f"{type(error).__name__}: {error}"[:160]}
    finally:
        release()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--only", default="", help="configurations and families whose name has this in it")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    parser.add_argument("--rounds", type=count, default=4)
    parser.add_argument("--images", type=count, default=512, help="of a build to a committed shard")
    parser.add_argument("--detector", type=Path, help="an .onnx file that finds the faces of swaps; by default the cascade")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one row")
    parser.add_argument("--json", type=figures_file, help="where the rows go; it is written after each")
    parser.add_argument("--table", type=known_figures, help="print such a file as Markdown, and measure nothing")
    chosen = parser.parse_args()
    if chosen.table:
        print(markdown(json.loads(chosen.table.read_text())))
        return
    if chosen.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("There is no GPU here. `--device cpu --only NAME` tries the program out.")
    names = [*(configuration.name for configuration in CONFIGURATIONS), *(family.name for family in FAMILIES), "training"]
    if not any(chosen.only in name for name in names):
        raise SystemExit(f"Nothing is called {chosen.only!r}. There are: {', '.join(names)}")
    rows: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        print(time.strftime("%H:%M:%S"), {key: value for key, value in row.items() if key != "table"}, flush=True)
        if chosen.json:
            chosen.json.write_text(json.dumps(rows, indent=1) + "\n")

    device, half = torch.device(chosen.device), torch.bfloat16
    configurations = [configuration for configuration in CONFIGURATIONS if chosen.only in configuration.name]
    for configuration in configurations:
        for variant in variants_of(configuration.method):
            for batch in map(int, chosen.batches.split(",")):
                row = {"part": "method", "name": configuration.name, "batch": batch, "variant": variant}
                asked = (configuration.name, batch, variant, chosen.device, chosen.rounds, chosen.timeout)
                keep(tried(row, partial(method_row, *asked)))
    for configuration in configurations:
        if configuration.turn is not None:  # a part of an image
            continue
        dtype = getattr(torch, half_of(configuration.method)) if device.type == "cuda" else torch.float32
        with tempfile.TemporaryDirectory() as folder:
            os.environ["NTF_CACHE"] = f"{folder}/cache"
            row = {"part": "shard", "name": configuration.name}
            keep(tried(row, lambda: shard_row(configuration, device, dtype, chosen.images, Path(folder), chosen.detector)))  # noqa: B023
    for family in FAMILIES:
        if chosen.only in family.name:
            row = {"part": "family", "name": family.name, "batch": 1}
            keep(tried(row, lambda: family_row(family, 1, device, half)))  # noqa: B023
    if not chosen.only or chosen.only == "training":
        arguments = ["--encoder", "efficientnet-lite0", "--size", "224", "--batch", "64", "--threads", "12"]
        keep(training_row(chosen.device, arguments, 4 * chosen.timeout))
    print(markdown(rows))


if __name__ == "__main__":
    main()
