"""The commands over the store: what they print, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.build.build import run_build
from pipelines.store import Store
from tests.commands import run_ntf
from tests.pipelines.store.conftest import _generators, manifest, store
from tests.pipelines.store.fakes import edited, planned

__all__ = ["_generators", "manifest", "store"]

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def ntf(store: Store, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `ntf` on a store with two versions: `ntf("store", "log", "fake")` gives the exit code and all that it printed."""
    (manifest.parent / "swapper.txt").write_text("9")
    run_build(planned(manifest), store, "cpu")
    monkeypatch.setenv("NTF_STORE", str(tmp_path / "store"))

    def run(*words: str) -> tuple[int, str]:
        answer = run_ntf(words, monkeypatch, capsys)
        return answer.code, answer.out + answer.err

    return run


def test_diff_and_checkout(ntf: Run) -> None:
    code, text = ntf("store", "diff", "fake", "1", "2", "--json")
    changed = {entry["subset"]: entry for entry in json.loads(text)}
    assert code == 0 and changed.keys() == {"Swapped", "Chained"}
    assert changed["Swapped"]["replaced"] == 8 and changed["Swapped"]["causes"][0]["kind"] == "checkpoint"
    assert ntf("store", "diff", "fake", "1", "nothing")[0] == 2
    assert ntf("store", "tag", "fake", "first", "--version", "1")[0] == 0
    code, text = ntf("store", "checkout", "fake", "first")
    assert code == 0 and "version 3 has the rows of version 1" in text
    assert "no difference" in ntf("store", "diff", "fake", "first", "3")[1]


def test_pairs_lists_pictures_of_more_than_one_image(ntf: Run, store: Store) -> None:
    code, text = ntf("store", "pairs", "fake", "--json")
    listed = json.loads(text)
    swapped = {row.id: row for row in store.rows("role = 'final' AND subset = 'Swapped'", 2)}
    assert code == 0
    assert {pair["images"]["Swapped"]: (pair["real"], pair["split"]) for pair in listed if "Swapped" in pair["images"]} == {
        name: (row.target_id, row.split) for name, row in swapped.items()
    }
    code, text = ntf("store", "pairs", "fake")
    assert code == 0 and f"{len(listed)} pictures with more than one image" in text
    assert ntf("store", "pairs", "nobody")[0] == 2


def test_plan_says_why(ntf: Run, manifest: Path) -> None:
    chain = [{"sample": "fake_sampler", "checkpoint": "sampler", "brightness": 3}]
    edited(manifest, Sampled={"count": 8, "real": "people", "chain": chain})
    code, text = ntf("plan", str(manifest))
    assert code == 0 and "stale: Sampled step 1: 2 shards: step 1: parameter fake_sampler brightness 0 -> 3" in text


def test_verify_ends_with_1_where_something_is_damaged(ntf: Run, store: Store) -> None:
    code, text = ntf("store", "verify", "fake", "--sample", "2", "--device", "cpu", "--version", "2")
    assert code == 0 and "2 bit-exact" in text
    file = Path(store.uri) / "data" / store.dataset().get_fragments()[0].metadata.files[0].path
    file.write_bytes(file.read_bytes()[:200])
    code, text = ntf("store", "verify", "fake")
    assert code == 1 and "bytes instead of" in text


def test_forget_duplicates_and_gc(ntf: Run, store: Store) -> None:
    code, text = ntf("store", "forget", "fake", "--identity", "person3")
    assert code == 0 and "version 3 is without" in text
    assert ntf("store", "forget", "fake", "--identity", "person3")[0] == 2
    code, text = ntf("store", "gc", "fake", "--keep", "1")
    assert code == 0 and "versions 1, 2" in text
    code, text = ntf("store", "duplicates", "fake", "--distance", "0")
    assert code == 0 and "0 pairs across splits" in text


def test_export_and_import(ntf: Run, tmp_path: Path) -> None:
    code, text = ntf("export", "fake", str(tmp_path / "out"), "--to", "folders", "--split", "train")
    assert code == 0 and "DATASHEET.md" in text
    assert ntf("export", "fake", str(tmp_path / "out"))[0] == 2
    assert ntf("export", "fake", str(tmp_path / "other"), "--to", "paper")[0] == 2
    fakes = tmp_path / "out" / "Sampled" / "fake"
    code, text = ntf("import", str(fakes), str(tmp_path / "in"), "--label", "fake", "--licence", "CC0", "--origin", "ours")
    assert code == 0 and f"{len(list(fakes.iterdir()))} images" in text
