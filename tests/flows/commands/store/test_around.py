"""The commands of other groups on a store that is there: what they print, and their exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.pipelines.store.fakes import edited

Run = Callable[..., tuple[int, str]]


def test_plan_says_why(ntf: Run, manifest: Path) -> None:
    chain = [{"sample": "fake_sampler", "checkpoint": "sampler", "brightness": 3}]
    edited(manifest, Sampled={"count": 8, "real": "people", "chain": chain})
    code, text = ntf("plan", str(manifest))
    assert code == 0 and "stale: Sampled step 1: 2 shards: step 1: parameter fake_sampler brightness 0 -> 3" in text


def test_export_and_import(ntf: Run, tmp_path: Path) -> None:
    code, text = ntf("export", "fake", str(tmp_path / "out"), "--to", "folders", "--split", "train")
    assert code == 0 and "DATASHEET.md" in text
    assert ntf("export", "fake", str(tmp_path / "out"))[0] == 2
    assert ntf("export", "fake", str(tmp_path / "other"), "--to", "paper")[0] == 2
    fakes = tmp_path / "out" / "Sampled" / "fake"
    code, text = ntf("import", str(fakes), str(tmp_path / "in"), "--label", "fake", "--licence", "CC0", "--origin", "ours")
    assert code == 0 and f"{len(list(fakes.iterdir()))} images" in text
