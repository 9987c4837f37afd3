"""The program that measures everything on a GPU, on small sizes and a CPU."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.configurations import CONFIGURATIONS, Configuration
from benchmarks.families import FAMILIES
from generators import registry
from pipelines.manifest.load import load_manifest

CPU = torch.device("cpu")
HEADS = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8, "caption_channels": 16, "sample_size": 8}
SMALL = {
    "PixArtTransformer2DModel": {**HEADS, "cross_attention_dim": 16},
    "SanaTransformer2DModel": {**HEADS, "num_cross_attention_heads": 2, "cross_attention_head_dim": 8, "cross_attention_dim": 16},
}


def small_stylegan2(device: torch.device, dtype: torch.dtype) -> Any:
    from generators.networks.gan.stylegan2 import Generator

    return registry.get("stylegan2")(Generator(8, 0, 8, 32, channel_base=64, channel_max=8), device, dtype)


def test_a_build_to_a_committed_shard_says_how_long_the_network_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    row = gpu.shard_row(Configuration("stylegan2", "32", small_stylegan2), CPU, torch.float32, 12, tmp_path / "work")
    assert (row["part"], row["name"], row["images"]) == ("shard", "stylegan2 32", 12)
    assert 0 < row["network"] < 1 and row["rate"] > 0


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.network in SMALL], ids=lambda family: family.network)
def test_a_step_of_a_family_runs_at_a_small_size(family: Any) -> None:
    row = gpu.family_row(family, 2, CPU, torch.float32, **SMALL[family.network])
    assert row["rate"] > 0 and row["batch"] == 2


def test_a_process_that_fails_is_a_row_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: Any) -> Any:
        return subprocess.CompletedProcess(command, 1, "", "Traceback\ntorch.OutOfMemoryError: no memory\n")

    monkeypatch.setattr(gpu.subprocess, "run", run)
    row = gpu.method_row("progan 256", 8, "half", "cuda:0", 2, 10)
    assert row["failed"] == "torch.OutOfMemoryError: no memory"
    assert "| progan 256 | half | 8 | failed: torch.OutOfMemoryError: no memory |" in gpu.markdown([row])

    def endless(command: list[str], **_: Any) -> Any:
        raise subprocess.TimeoutExpired(command, 10)

    monkeypatch.setattr(gpu.subprocess, "run", endless)
    assert gpu.method_row("progan 256", 8, "float32", "cuda:0", 2, 10)["failed"] == "not done in 10 s"


def test_a_variant_asks_for_the_precision_of_the_methods_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    turns = {"wall": [2.0], "network": [1.8], "wall_once": [0.0]}
    measured = {"images": 8, "times": 1.0, "seconds": turns, "memory_mib": 5, "device": "card", "torch": "2"}

    def run(command: list[str], **_: Any) -> Any:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, json.dumps(measured), "")

    monkeypatch.setattr(gpu.subprocess, "run", run)
    rows = [gpu.method_row("stylegan2 256 config-f", 8, variant, "cuda:0", 2, 10) for variant in gpu.VARIANTS]
    assert [command[command.index("--dtype") + 1] for command in commands] == ["float32", *["float16"] * 3]
    assert ["--compile" in command for command in commands] == [False, False, True, False]
    assert ["--graphs" in command for command in commands] == [False, False, False, True]
    assert gpu.variants_of("stylegan2") == list(gpu.VARIANTS) and "half, graphs" not in gpu.variants_of("ddim")
    assert rows[0]["rate"] == 4.0 and rows[0]["network"] == pytest.approx(0.9)
    assert gpu.fastest(rows) == {"stylegan2 256 config-f": 4.0}


def test_table_1_is_the_sum_of_its_steps() -> None:
    manifest = load_manifest(gpu.ROOT / "manifests/paper.yaml")
    names = {configuration.name for configuration in CONFIGURATIONS}
    assert set(gpu.STANDS_FOR.values()) | set(gpu.OTHER_STEPS.values()) <= names
    steps = sum(part.count * len(part.chain) for subset in manifest.subsets.values() for part in subset.parts)
    hours, unknown = gpu.hours_of(manifest, dict.fromkeys(names, 2.0))
    assert hours == pytest.approx(steps / 2 / 3600) and not unknown
    hours, unknown = gpu.hours_of(manifest, {"simswap 224": 1.0})
    assert hours == pytest.approx((4000 + 3 * 2000) / 3600)
    assert "vqgan-celebahq-256" in unknown


def test_without_a_gpu_the_program_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no GPU here"):
        gpu.main()


def test_a_family_is_measured_by_its_own_memory_and_gives_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows before it in the same process took more, and the training after it is another process on the same card."""
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: asked.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5 << 20)
    monkeypatch.setattr(gpu, "release", lambda: asked.append("released"))

    class Fake:
        name, steps = "fake", 10

        def step(self, batch: int, device: torch.device, dtype: torch.dtype) -> Any:
            return lambda: asked.append("step")

    family: Any = Fake()
    row = gpu.tried({}, lambda: gpu.family_row(family, 1, torch.device("cuda", 0), torch.bfloat16))
    assert row["memory_mib"] == 5 and asked == ["step", "reset", "step", "step", "step", "released"]
    assert "failed" in gpu.tried({}, lambda: gpu.family_row(family, 1, torch.device("cuda", 0), "half", size=1)) and asked[-1] == "released"


def test_a_training_that_hangs_and_an_answer_that_is_none_are_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(command: list[str], **options: Any) -> Any:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(gpu.subprocess, "run", endless)
    row = gpu.training_row("cuda:0", ["--size", "224"], 30)
    assert row["failed"] == "not done in 30 s" and "not done in 30 s" in gpu.markdown([row])
    monkeypatch.setattr(gpu.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, "no JSON", ""))
    monkeypatch.setattr(gpu, "training_row", lambda *_: {"part": "training", "name": "", "table": ""})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "shard_row", lambda *_: {"part": "shard", "name": "", "rate": 1.0, "network": 0.5})
    printed: list[str] = []
    monkeypatch.setattr("builtins.print", lambda *what, **_: printed.append(" ".join(map(str, what))))
    monkeypatch.setattr("sys.argv", ["gpu.py", "--only", "progan 256", "--batches", "1"])
    gpu.main()
    assert "| progan 256 | half | 1 | failed: JSONDecodeError" in printed[-1]
