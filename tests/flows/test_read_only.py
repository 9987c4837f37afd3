"""A store that may only be read: what reads it works, and what would write it is one line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ntf_model.runs import EVALUATION_FILE
from pipelines.store import Store
from tests.commands import Answer
from tests.flows.processes import NTF
from tests.support import checkpoint_folder, small_manifest, write_manifest

Ntf = Callable[..., Answer]
READING = [
    "store log tiny",
    "store show tiny",
    "store digest tiny",
    "store ledger tiny",
    "store pairs tiny",
    "store diff tiny 1 1",
    "store verify tiny",
    "store duplicates tiny",
    "plan {manifest}",
    "report tiny --output {out}/report.html",
    "export tiny {out}/export",
]
WRITING = [
    "store tag tiny x",
    "store gc tiny",
    "store mend tiny",
    "store checkout tiny 1",
    "store forget tiny --identity a",
    "store duplicates tiny --drop",
    "build {manifest} --device cpu",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A built store that nobody can write: a mount for root, whom permissions do not stop, or else a folder without the permission."""
    folder = tmp_path_factory.mktemp("read-only")
    manifest = write_manifest(folder / "m.yaml", small_manifest(checkpoint_folder(folder / "weights")))
    command = [*NTF, "build", str(manifest), "--device", "cpu", "--store", str(folder / "store")]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"})
    store = folder / "store"
    if os.geteuid() == 0:
        mounted = folder / "mounted"
        mounted.mkdir()
        steps = [["mount", "--bind", str(store), str(mounted)], ["mount", "-o", "remount,ro,bind", str(mounted)]]
        if any(subprocess.run(step, capture_output=True, check=False).returncode for step in steps):
            subprocess.run(["umount", str(mounted)], capture_output=True, check=False)
            pytest.skip("root may not mount here, and permissions do not stop root")
        try:
            yield {"store": mounted, "manifest": manifest, "out": folder}
        finally:
            subprocess.run(["umount", str(mounted)], check=True)
        return
    places = [store, *(path for path in store.rglob("*") if path.is_dir())]
    for place in places:
        place.chmod(0o555)
    yield {"store": store, "manifest": manifest, "out": folder}
    for place in places:
        place.chmod(0o755)


@pytest.mark.parametrize("words", READING)
def test_what_reads_works(ntf: Ntf, site: dict[str, Any], words: str) -> None:
    answer = ntf(*words.format(**site).split(), "--store", str(site["store"]))
    assert answer.code == 0, answer.err


def test_a_detector_is_trained_judged_and_shown(ntf: Ntf, site: dict[str, Any], tmp_path: Path) -> None:
    """What these write goes to folders of their own."""
    data, run = ("tiny", "--store", str(site["store"])), str(tmp_path / "run")
    small = ("--detector", "probe", "--preset", "demo", "--set", "encoder=small", "--device", "cpu")
    store, picture = Store(site["store"], "tiny"), tmp_path / "picture.png"
    (row, *_) = store.rows("role = 'final'", images=True)
    picture.write_bytes(row.image or b"")
    for words in (
        ("train", *data, *small, "--output", run),
        ("evaluate", *data, "--run", run),
        ("detect", str(picture), "--model", run),
        ("report", *data, "--run", run, "--output", str(tmp_path / "report.html")),
    ):
        answer = ntf(*words)
        assert answer.code == 0, f"{words[0]}: {answer.err}"
        assert "warning" not in answer.err
    assert (tmp_path / "run" / EVALUATION_FILE).is_file()


def test_an_audit_is_shown_and_not_kept(ntf: Ntf, site: dict[str, Any]) -> None:
    answer = ntf("audit", "tiny", "--store", str(site["store"]))
    assert "warning: cannot keep the audit in" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("words", WRITING)
def test_what_writes_is_one_line(ntf: Ntf, site: dict[str, Any], words: str) -> None:
    answer = ntf(*words.format(**site).split(), "--store", str(site["store"]))
    (line,) = [line for line in answer.err.splitlines() if not line.startswith("warning")]
    assert (answer.code, line.startswith("error: cannot "), ".rs:" in line) == (2, True, False)
