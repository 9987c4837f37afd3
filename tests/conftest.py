"""What all tests share: no network, no writing outside temporary folders, one thread."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("NTF_ALLOW_OUTSIDE", "1")  # manifests of tests name pictures that several tests share
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
for variable in ("NTF_CACHE", "PREFECT_HOME"):
    if variable not in os.environ:
        os.environ[variable] = tempfile.mkdtemp(prefix="ntf-")
        atexit.register(shutil.rmtree, os.environ[variable], ignore_errors=True)
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):  # two processes of one run do not share caches
        os.environ[variable] = os.path.join(os.environ[variable], worker)
        os.makedirs(os.environ[variable], exist_ok=True)

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import checkpoint_folder, small_manifest, write_manifest


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small checkpoints. Shared: copy a file before changing it."""
    return checkpoint_folder(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def manifest_data(checkpoints: Path) -> dict[str, Any]:
    """A small manifest as data, to be changed and written by a test."""
    return small_manifest(checkpoints)


@pytest.fixture
def manifest_file(tmp_path: Path, manifest_data: dict[str, Any]) -> Path:
    """The same manifest as a file."""
    return write_manifest(tmp_path / "tiny.yaml", manifest_data)
