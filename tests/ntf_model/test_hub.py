"""Detectors pushed to a stand-in of the Hub and read again, in processes of their own, because the library reads its settings once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ntf_model.errors import InputError
from ntf_model.hub import fetch, is_hub_name
from tests.hub_server import Hub, hub

ROOT = Path(__file__).parents[2]

PUSH = """
import json, sys, numpy as np
from tests.ntf_model.test_onnx_file import ntf
detector = ntf(crops=1)
address = detector.push_to_hub("lab/ntf-small", licence="apache-2.0", results="| a | b |")
picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
print(json.dumps([address, list(detector([picture])[0])]))
"""
PULL = """
import json, sys, numpy as np
from ntf_model.ntf.ntf import NTFDetector
from ntf_model.registry import load_detector
detector = NTFDetector.from_pretrained("lab/ntf-small", "cpu")
picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
again = load_detector("lab/ntf-small", "cpu")
print(json.dumps([list(detector([picture])[0]), list(again([picture])[0])]))
"""
FAIL = """
import sys
from ntf_model.errors import InputError
from ntf_model.registry import load_detector
try:
    load_detector(sys.argv[1], "cpu")
except InputError as error:
    print(error)
else:
    print("loaded")
"""


def process(state: Hub, cache: Path, code: str, *words: str) -> str:
    """What the code prints, run against the stand-in with an empty cache."""
    environment = {**os.environ, "HF_ENDPOINT": state.address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(cache)}
    environment |= {"HF_TOKEN": "hf_test", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_what_is_pushed_is_what_is_read(tmp_path: Path) -> None:
    with hub() as state:
        address, before = json.loads(process(state, tmp_path / "a", PUSH))
        assert address.startswith(state.address)
        files = state.repositories["lab/ntf-small"]
        assert set(files) == {"config.json", "model.safetensors", "calibration.json", "README.md"}
        card = files["README.md"].decode()
        assert "license: apache-2.0" in card
        assert "library_name: natural-trace-foundry" in card
        assert 'NTFDetector.from_pretrained("lab/ntf-small")' in card
        assert "calibrated at temperature 2.500" in card
        assert "| a | b |" in card
        files["evil.pkl"] = files["pytorch_model.bin"] = files["run.py"] = b"never"
        after, again = json.loads(process(state, tmp_path / "b", PULL))
        assert after == again == before
        assert not any(name in path for _, path in state.asked for name in ("evil.pkl", "pytorch_model.bin", "run.py"))
        downloaded = {file.name for file in (tmp_path / "b").rglob("*") if file.is_file() and "snapshots" in file.parts}
        assert downloaded == {"config.json", "model.safetensors", "calibration.json"}


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with hub() as state:
        config = {"detector": "probe", "config": {"encoder": "os:abort"}, "backbone": {"name": "os:abort", "crop": 16}}
        state.repositories["lab/own"] = {"config.json": json.dumps(config).encode(), "model.safetensors": b""}
        said = process(state, tmp_path, FAIL, "lab/own")
        assert "stands on code of its author's, os:abort" in said
        state.repositories["lab/broken"] = {"config.json": b"{", "model.safetensors": b""}
        assert process(state, tmp_path, FAIL, "lab/broken").startswith("lab/broken holds no trained detector")
        assert process(state, tmp_path, FAIL, "lab/missing").startswith("lab/missing holds no trained detector")


def test_names_of_the_hub_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "ntf").mkdir(parents=True)
    assert is_hub_name("lab/ntf")
    for name in ("runs/ntf", Path("lab/ntf"), "lab", "a/b/c", "../x", "/lab/ntf", "lab/ntf ", 3):
        assert not is_hub_name(name), name
    with pytest.raises(InputError, match="holds no trained detector: it is no folder here"):
        fetch("lab/never", lambda folder: folder, cache_dir=tmp_path)
