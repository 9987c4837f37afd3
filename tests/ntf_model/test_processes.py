"""Two processes under `accelerate launch` train the same detector as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
import torch
from ntf_model.ntf.config import preset
from ntf_model.data.data import from_folders
from ntf_model.ntf.ntf import NTFDetector
torch.set_num_threads(1)
stage = {"epochs": 2, "batch_size": 16, "optimizer": "sgd", "lr": 0.01}
config = preset("demo", image_size=16, stage1=stage, stage2=stage, threads=1)
NTFDetector.fit(from_folders(sys.argv[1]), config, Path(sys.argv[2]), device="cpu")
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_agree_with_one(folders: Path, tmp_path: Path) -> None:
    """GroupNorm and losses over the gathered batch leave only the order of sums to differ."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_machines", "1", "--mixed_precision", "no"]
    shared = [*launcher, "--num_processes", "2", "--main_process_port", "0", str(program)]
    for name, command in (("one", [sys.executable, str(program)]), ("two", shared)):
        arguments = [*command, str(folders), str(tmp_path / name)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path, timeout=420)
        assert done.returncode == 0, done.stderr[-3000:]
    alone, shared = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    for stage in ("stage1", "stage2"):
        for first, second in zip(alone[stage], shared[stage], strict=True):
            assert first.keys() == second.keys()
            for key in first:
                assert second[key] == pytest.approx(first[key], rel=2e-3, abs=2e-3), (stage, first["epoch"], key)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(value.allclose(second[name], atol=1e-3) for name, value in first.items())
