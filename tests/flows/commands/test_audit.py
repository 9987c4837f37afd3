"""`ntf audit` and the gate of `ntf build`: exit codes and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.audit import BIASES, Bias, our_png, plant
from pipelines.audit import classify
from pipelines.make.rows import Picture
from pipelines.manifest.schema import Codec
from pipelines.store import Row
from tests.commands import Answer
from tests.support import write_manifest

Ntf = Callable[..., Answer]


@pytest.fixture(autouse=True)
def _fewer_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "TREES", 6)
    monkeypatch.setattr(classify, "RESAMPLES", 400)


def test_a_folder(ntf: Ntf, tmp_path: Path) -> None:
    plant(Bias("none", "", our_png, our_png, 48), tmp_path / "clean", 30)
    plant(BIASES["metadata: a text in the fakes' PNG"], tmp_path / "told", 30)
    clean = ntf("audit", str(tmp_path / "clean"))
    assert (clean.code, "gate passed" in clean.out) == (0, True)
    told = ntf("audit", str(tmp_path / "told"), "--json")
    assert told.code == 1
    assert "metadata" in told.err
    assert json.loads(told.out)["gate"]["passed"] is False
    assert ntf("audit", str(tmp_path)).code in (0, 1), "subfolders are subsets"
    assert ntf("audit", "nothing-of-this-name").code == 2


def test_a_build_whose_fakes_are_written_otherwise_fails_until_it_is_fixed(
    ntf: Ntf, tmp_path: Path, manifest_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest_data["subsets"] = {"StyleGAN2": {**manifest_data["subsets"]["StyleGAN2"], "count": 30}}
    file = str(write_manifest(tmp_path / "m.yaml", manifest_data))
    encoded = Picture.encoded

    def by_label(self: Picture, codec: Codec) -> Row:
        return encoded(self, Codec(format="jpeg") if self.row.label else codec)

    with monkeypatch.context() as patched:
        patched.setattr(Picture, "encoded", by_label)
        failed = ntf("build", file, "--device", "cpu")
    assert (failed.code, "version 1:" in failed.out) == (1, True)
    assert "real PNG, fake JPEG" in failed.err
    assert ntf("build", file, "--device", "cpu").code == 1, "there is nothing to do, but the version is no better"
    assert ntf("audit", "tiny").code == 1
    manifest_data["audit"] = {"gate": False}
    write_manifest(Path(file), manifest_data)
    assert ntf("build", file, "--device", "cpu").code == 0
    manifest_data.pop("audit")
    write_manifest(Path(file), {**manifest_data, "seed": 7})
    fixed = ntf("build", file, "--device", "cpu")
    assert (fixed.code, "do not tell fake from real" in fixed.out) == (0, True)
    assert json.loads(ntf("audit", "tiny", "--json").out)["version"] == 2
    assert ntf("audit", "tiny", "--version", "1").code == 1
