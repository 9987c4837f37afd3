"""Two processes train the same detectors as one: NTF and a baseline, started as `accelerate launch` starts them on several devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
import torch
from ntf_model.data.data import from_folders
from ntf_model.registry import get_detector
from ntf_model.training import processes
torch.set_num_threads(1)
detector, folders, output, wanted = sys.argv[1:]
accelerator = processes.make_accelerator("no", "cpu")
assert accelerator.num_processes == int(wanted), accelerator.num_processes
stage = {"epochs": 2, "batch_size": 16, "optimizer": "sgd", "lr": 0.01}
kind = get_detector(detector)
if detector == "ntf":
    config = kind.preset("demo", image_size=16, stage1=stage, stage2=stage, threads=1)
else:
    config = kind.preset("demo", epochs=2, batch_size=16, threads=1)
kind.fit(from_folders(folders), config, Path(output), device="cpu")
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("detector", ["ntf", "ojha2023"])
def test_two_processes_agree_with_one(folders: Path, tmp_path: Path, detector: str) -> None:
    """GroupNorm and losses over the gathered batch leave only the order of sums to differ. A baseline without BatchNorm has the mean of its
    processes' gradients; the loss that it logs is that of the first process."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--rdzv_backend",
        "c10d",
        "--rdzv_endpoint",
        "localhost:0",
    ]
    for name, command, count in (("one", [sys.executable], "1"), ("two", launcher, "2")):
        arguments = [*command, str(program), detector, str(folders), str(tmp_path / name), count]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path, timeout=420)
        assert done.returncode == 0, done.stderr[-3000:]
    alone, shared = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    if detector != "ntf":
        measured = [[(epoch["validation_ap"], epoch["validation_accuracy"]) for epoch in of["epochs"]] for of in (alone, shared)]
        assert np.allclose(*measured)
        first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
        assert all(value.allclose(second[name], atol=1e-6) for name, value in first.items())
        return
    for stage in ("stage1", "stage2"):
        for first, second in zip(alone[stage], shared[stage], strict=True):
            assert first.keys() == second.keys()
            for key in first:
                assert second[key] == pytest.approx(first[key], rel=2e-3, abs=2e-3), (stage, first["epoch"], key)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(value.allclose(second[name], atol=1e-3) for name, value in first.items())
