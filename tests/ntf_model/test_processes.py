"""Two processes train the same detectors as one: NTF and a baseline, started as `accelerate launch` starts them on several devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Dinov2Config, Dinov2Model, SiglipVisionConfig, SiglipVisionModel

from ntf_model.data.data import from_folders
from ntf_model.ntf.ntf import NTFDetector

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json
import sys
from pathlib import Path
import torch
from ntf_model.data.data import from_folders
from ntf_model.registry import get_detector
from ntf_model.training import processes
torch.set_num_threads(1)
detector, folders, output, wanted, changes, stop_at, resume = sys.argv[1:]
accelerator = processes.make_accelerator("no", "cpu")
assert accelerator.num_processes == int(wanted), accelerator.num_processes
stage = {"epochs": 2, "batch_size": 16, "optimizer": "sgd", "lr": 0.01}
changes = json.loads(changes)
kind = get_detector(detector)
if detector == "ntf":
    stages = {name: {**stage, **changes.pop(name, {})} for name in ("stage1", "stage2")}
    config = kind.preset("demo", **{"image_size": 16, "threads": 1, "checkpoint_every": 1, **stages, **changes})
else:
    config = kind.preset("demo", epochs=2, batch_size=16, threads=1, **changes)
steps = []

def stop(done, total, message):
    steps.append(message)
    part, _, count = stop_at.partition(":")
    if stop_at and sum(part in step for step in steps) == int(count):
        raise SystemExit(f"stopped at {message}")

kind.fit(from_folders(folders), config, Path(output), device="cpu", resume=bool(resume), on_progress=stop)
"""
LAUNCHER = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0")
# Without GPUs (and without MPI) `accelerate launch` starts several processes only where it is told that they are several GPUs.
ACCELERATE = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no")
LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
MEMORY = {"trace": "memory", "prototypes": 3, "start_as_probe": True, "contrastive": "reals", "encoder_rate": 0.5}
LORA = {"adaptation": "lora", "lora": {"rank": 2, "alpha": 4}}


def run(
    program: Path, processes: int, detector: str, folders: Path, output: Path, changes: dict[str, Any], stop_at: str = "", resume: str = ""
) -> str:
    """Trains in that many processes; the standard error of a training that is stopped on purpose."""
    command = [sys.executable, *(LAUNCHER if processes > 1 else ()), str(program), detector, str(folders), str(output)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*command, str(processes), json.dumps(changes), stop_at, resume],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=program.parent,
        timeout=420,
    )
    assert (done.returncode == 0) is not bool(stop_at), done.stderr[-3000:]
    return done.stderr


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def small_model(folder: Path, kind: str) -> str:
    """A random vision transformer on disk."""
    torch.manual_seed(0)
    model = (
        Dinov2Model(Dinov2Config(**LAYERS)) if kind == "dinov2" else SiglipVisionModel(SiglipVisionConfig(**LAYERS, intermediate_size=64))
    )
    model.save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("detector", "model", "changes"),
    [
        ("ntf", "", {}),
        ("ntf", "dinov2", {**LORA, "stage2": MEMORY}),
        ("ntf", "siglip", {**LORA, "encoder_layer": 1, "pooling": "mean_std"}),
        ("ntf", "dinov2", {"stage1": {"freeze_encoder": True}, "stage2": MEMORY}),
        ("ntf", "dinov2", {"adaptation": "frozen", "stage2": MEMORY}),
        ("ojha2023", "", {}),
    ],
    ids=["ntf", "lora", "lora-inner-layer", "whole", "frozen", "ojha2023"],
)
def test_two_processes_agree_with_one(
    folders: Path, tmp_path: Path, program: Path, detector: str, model: str, changes: dict[str, Any]
) -> None:
    """GroupNorm, LayerNorm and losses over the gathered batch leave only the order of sums to differ. A baseline without BatchNorm has the
    mean of its processes' gradients, and logs the mean of their losses.

    Networks of transformers have parameters that no picture reaches (a mask token, layers behind the one that is read): they must not stop
    several processes, which wait for a gradient of everything that learns."""
    if model:
        changes = {**changes, "encoder": small_model(tmp_path / "model", model)}
    run(program, 1, detector, folders, tmp_path / "one", changes)
    run(program, 2, detector, folders, tmp_path / "two", changes)
    alone, shared = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert first.keys() == second.keys()
    if detector != "ntf":
        logged = ("loss", "validation_ap", "validation_accuracy")
        measured = [[[epoch[key] for key in logged] for epoch in of["epochs"]] for of in (alone, shared)]
        assert np.allclose(*measured)
        assert all(value.allclose(second[name], atol=1e-6) for name, value in first.items())
        return
    for stage in ("stage1", "stage2"):
        for before, after in zip(alone[stage], shared[stage], strict=True):
            assert before.keys() == after.keys()
            for key in before:
                assert after[key] == pytest.approx(before[key], rel=2e-3, abs=2e-3), (stage, before["epoch"], key)
    assert all(value.allclose(second[name], atol=1e-3) for name, value in first.items())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_blocks_that_run_again_change_nothing_in_two_processes(folders: Path, tmp_path: Path, program: Path) -> None:
    """SBI's, whose gradients several processes share, twice a step, and whose BatchNorm is measured once more after an epoch."""
    for name, recompute in (("kept", False), ("again", True)):
        run(program, 2, "sbi", folders, tmp_path / name, {"recompute": recompute, "precise_bn": 2})
    kept, again = (load_file(tmp_path / name / "model.safetensors") for name in ("kept", "again"))
    assert kept.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in kept.items())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_that_stopped_go_on_with_lora(folders: Path, tmp_path: Path, program: Path) -> None:
    """The training that goes on is the one that was not stopped, to the bit; it had learnt before the stop and after it."""
    changes = {**LORA, "encoder": small_model(tmp_path / "model", "dinov2"), "stage2": MEMORY}
    run(program, 2, "ntf", folders, tmp_path / "whole", changes)
    assert "stopped at stage2" in run(program, 2, "ntf", folders, tmp_path / "parts", changes, stop_at="stage2:3")
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    at_stop = load_file(next((tmp_path / "parts" / "checkpoint" / "stage2").glob("?????-??????.safetensors")))
    run(program, 2, "ntf", folders, tmp_path / "parts", changes, resume="yes")
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    matrices = [name for name in whole if "lora_B" in name]
    assert matrices
    assert all(whole[name].abs().sum() > 0 for name in matrices)  # they begin at zero
    assert any(not torch.equal(whole[name], at_stop[name.replace("network.", "model.", 1)]) for name in matrices)


def launched(folder: Path, *command: str) -> tuple[Any, str]:
    """`ntf` in two processes under `accelerate launch`: the JSON document on its standard output, and its standard error."""
    started = [sys.executable, *ACCELERATE, "--dynamo_backend", "no", "--main_process_port", "0", "-m", "flows.cli", *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(started, capture_output=True, text=True, check=False, env=environment, cwd=folder, timeout=420)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout), done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_accelerate_launch_of_ntf_train_speaks_and_writes_once(folders: Path, tmp_path: Path) -> None:
    """`accelerate launch -m flows.cli train` in two processes, with LoRA and the calibration pass: one JSON document, one of each note, and
    the calibration that the trained detector gives alone. A second call goes on: it makes the calibration that is missing, and no more."""
    settings = {
        "encoder": small_model(tmp_path / "model", "dinov2"),
        "adaptation": "lora",
        "lora.rank": 2,
        "threads": 1,
        "image_size": 16,
        "stage1.epochs": 1,
        "stage2.epochs": 1,
        "stage2.trace": "memory",
        "stage2.start_as_probe": "true",
    }
    changes = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    command = ["train", str(folders), "--preset", "demo", "--output", str(tmp_path / "run"), "--device", "cpu", "--json", *changes]
    said, notes = launched(tmp_path, *command)
    assert said == {"run": str(tmp_path / "run"), "detector": "ntf", "note": None}
    repeated = [line for line in notes.splitlines() if line.startswith("note: ")]
    assert len(repeated) == len(set(repeated))
    calibration = json.loads((tmp_path / "run" / "calibration.json").read_text())
    detector = NTFDetector.from_pretrained(tmp_path / "run", device="cpu")
    assert any("lora_B" in name and value.abs().sum() > 0 for name, value in detector.network.named_parameters())
    alone = detector.calibrate(from_folders(folders).validation)
    assert alone is not None
    for label in ("real", "fake"):
        assert calibration[label] == pytest.approx(getattr(alone, label), abs=1e-6)
    assert not list((tmp_path / "run").glob(".partial-*"))

    weights = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    (tmp_path / "run" / "calibration.json").unlink()
    assert launched(tmp_path, *command, "--resume")[0] == said
    assert json.loads((tmp_path / "run" / "calibration.json").read_text()) == calibration
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == weights


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("command", "options", "results"),
    [
        ("compare", ["--detectors", "ntf,probe", "--limit", "8"], "comparison.json"),
        (
            "ablate",
            ["--variants", "ntf,cross-entropy", "--seeds", "1", "--set", "stage1.epochs=1", "--set", "stage2.epochs=1"],
            "ablation.json",
        ),
    ],
)
def test_what_trains_several_detectors_speaks_and_writes_once(
    folders: Path, tmp_path: Path, command: str, options: list[str], results: str
) -> None:
    """One JSON document on standard output, each note once, each line of progress once; and a second call takes the runs over."""
    output = tmp_path / "out"
    options = [command, str(folders), "--preset", "demo", "--encoder", "efficientnet-lite0", "--output", str(output), "--json", *options]
    said, notes = launched(tmp_path, *options)
    assert said["results"] == json.loads((output / results).read_text())
    lines = [line for line in notes.splitlines() if line.startswith(("note: ", f"{command}: "))]
    assert lines
    assert len(lines) == len(set(lines))
    assert not list(output.rglob(".partial-*"))
    written = {file: file.stat().st_mtime_ns for file in output.rglob("model.safetensors")}
    assert written
    assert launched(tmp_path, *options)[0]["files"] == said["files"]
    assert {file: file.stat().st_mtime_ns for file in output.rglob("model.safetensors")} == written
