"""`ntf deliver`, and `--delivery` of the commands that take it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.commands import Answer, run_ntf
from tests.pipelines.store.fakes import fake_dataset, fake_generators, write

FILES = {"real": 3, "fake": 2}


@pytest.fixture
def ntf(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))

    def call(*words: str) -> Answer:
        return run_ntf(words, monkeypatch, capsys)

    with fake_generators():
        yield call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, count in FILES.items():
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    return tmp_path / "photos"


def test_a_folder_is_delivered(ntf: Any, folder: Path) -> None:
    answer = ntf("deliver", "photos", "shared", "--recipe", "feed,screenshot", "--seed", "3")
    assert (answer.code, answer.err) == (0, "")
    assert "5 pictures in shared" in answer.out
    assert sorted(file.relative_to("shared").as_posix() for file in Path("shared").rglob("*.jpg")) == [
        *(f"fake/{number}.jpg" for number in range(2)),
        *(f"real/{number}.jpg" for number in range(3)),
    ]


def test_what_is_wrong_is_one_line(ntf: Any, folder: Path) -> None:
    for words, said in (
        (("deliver", "photos", "shared", "--recipe", "fed"), "did you mean 'feed'"),
        (("deliver", "nowhere", "shared", "--recipe", "feed"), "there is no folder nowhere"),
        (("deliver", "photos", "photos/shared", "--recipe", "feed"), "lies in"),
    ):
        answer = ntf(*words)
        assert answer.code == 2
        assert said in answer.err
        assert len(answer.err.strip().splitlines()) == 1
    (folder / "real" / "broken.png").write_bytes(b"nothing")
    answer = ntf("deliver", "photos", "shared", "--recipe", "feed")
    assert answer.code == 1
    assert "broken.png" in answer.err
    assert len(list(Path("shared").rglob("*.jpg"))) == 5


def test_deliveries_of_a_manifest_are_built_planned_audited_and_exported(ntf: Any, tmp_path: Path) -> None:
    path = fake_dataset(tmp_path / "data", count=4)
    write(path, {**yaml.safe_load(path.read_text()), "deliveries": {"web": "feed"}})
    assert ntf("build", str(path)).code == 0
    assert json.loads(ntf("plan", str(path), "--json").out)["deliveries"] == {"web": {"shards": 9, "present": 0}}
    built = ntf("build", str(path), "--delivery", "web")
    assert built.code == 0, built.err
    assert "audit of web: not judged" in built.out
    assert "delivery web: 9 of 9 shards present" in ntf("plan", str(path)).out
    assert ntf("audit", "fake", "--delivery", "web").code == 2  # too few images for a verdict
    assert ntf("export", "fake", "out", "--delivery", "web").code == 0
    assert {file.suffix for file in Path("out").rglob("*.*") if file.parent.name in ("real", "fake")} == {".jpg"}
    for words in (("build", str(path), "--delivery", "wab"), ("audit", "fake", "--delivery", "wab")):
        answer = ntf(*words)
        assert answer.code == 2
        assert "wab" in answer.err
