"""A folder as a person has it after a while: a store with two versions, real images, checkpoints, a trained detector. All of it tiny."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows.data import splits_of_store
from flows.judging import evaluate_detector, train_detector
from generators.demo.pictures import held_out_pictures
from pipelines.build.build import run_build
from pipelines.catalogue.catalogue import Catalogue
from pipelines.catalogue.registering import Registration, add_checkpoint
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import make_plan
from pipelines.store import Store
from tests.commands import run_ntf
from tests.support import simswap_checkpoint, stylegan2_checkpoint, write_manifest

SMALLEST = {"preset": "demo", "stage1": {"epochs": 1}, "stage2": {"epochs": 1}}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder. Shared by all tests: work on a copy."""
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("NTF_CHECKPOINTS", "NTF_STORE"):
            patch.delenv(name, raising=False)
        _fill(folder)
    return folder


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, and the current one."""
    folder = tmp_path / "workspace"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    for name in ("NTF_CHECKPOINTS", "NTF_STORE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], tuple[int, str]]:
    """Runs `ntf` with these words in this process; gives the exit code and what was said."""

    def run(words: list[str]) -> tuple[int, str]:
        answer = run_ntf(words, monkeypatch, capsys)
        return answer.code, answer.out + answer.err

    return run


def _fill(folder: Path) -> None:
    _write_reals(folder / "data" / "faces")
    (folder / "data" / "identities.csv").write_text("".join(f"{file.name},{file.stem}\n" for file in _pictures(folder / "data" / "faces")))
    (folder / "data" / "withdrawn.txt").write_text("")
    shutil.copy(_pictures(folder / "data" / "faces")[0], folder / "photo.png")
    (folder / "weights").mkdir()
    stylegan2_checkpoint(folder / "weights" / "mine.safetensors")
    manifest = write_manifest(folder / "mine.yaml", _manifest())
    for seed in (0, 7):
        simswap_checkpoint(folder / "new.safetensors", seed)
        described = Registration(name="swap", generator="simswap", licence="test")
        add_checkpoint(folder / "new.safetensors", described, Catalogue.shipped())
        run_build(make_plan(load_manifest(manifest)), Store(folder / "store", "faces"), "cpu")
    splits = splits_of_store(Store(folder / "store", "faces"))
    train_detector("ntf", splits, folder / "runs" / "ntf", SMALLEST, device="cpu")
    evaluate_detector(folder / "runs" / "ntf", splits)
    (folder / "scores.csv").write_text("id,score\n" + "".join(f"{name},0.5\n" for name in splits.test.picture_ids()))
    shutil.copytree(folder / "store" / "faces.lance", folder / "store" / "demo.lance")  # the same dataset under the demo's name
    (folder / "demo").mkdir()
    os.symlink("../store", folder / "demo" / "store")


def _write_reals(folder: Path) -> None:
    folder.mkdir(parents=True)
    for picture in held_out_pictures("faces"):
        Image.fromarray(picture.image[:32, :32]).save(folder / f"{picture.photograph}.png")


def _pictures(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


def _manifest() -> dict[str, Any]:
    first = {"sample": "stylegan2", "checkpoint": "sg2"}
    return {
        "dataset": "faces",
        "size": 32,
        "shard_size": 6,
        "splits": {"train": 0.5, "validation": 0.2},
        "reals": {"faces": {"path": "data/faces", "licence": "LFW, for research", "identities": "data/identities.csv"}},
        "checkpoints": {"sg2": {"generators": ["stylegan2"], "file": "weights/mine.safetensors", "licence": "Apache-2.0"}},
        "subsets": {
            "StyleGAN2": {"count": 12, "real": "faces", "chain": [first]},
            "SimSwap_Style2": {
                "count": 12,
                "real": "faces",
                "chain": [dict(first), {"swap": "simswap", "checkpoint": "swap", "source": "faces"}],
            },
        },
    }
