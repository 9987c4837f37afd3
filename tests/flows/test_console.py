"""Output that others read: whole names where it is piped, one line for a library's warning, no places in libraries' code."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from flows import program
from flows.console import SafeConsole, describe, table
from foreign.errors import InputError
from foreign.text import without_source
from pipelines.plan.shards import Shard
from pipelines.store.pending import Note
from tests.commands import Answer

Ntf = Callable[..., Answer]
LONG = "a-very-long-name-of-a-subset-" * 12


@pytest.mark.parametrize(
    ("written", "seconds", "said"),
    [(24, 16.0, "24 images, 1.5 a second"), (8, 320.0, "8 images, 40.0 s each"), (0, 5.0, "0 images"), (24, 0.0, "24 images")],
)
def test_the_speed_of_a_shard_is_a_number_that_says_something(written: int, seconds: float, said: str) -> None:
    shard = Shard("final", "DiffFace", "faces", 0, 0, 0, 24, "key", generator="diffface")
    note = Note("key", shard.title, {"files": []}, written, {}, 0, seconds)
    assert describe(shard, note) == f"DiffFace step 1 faces 0-23: {said}"


def test_names_are_whole_where_the_output_is_piped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    listed = table("subset", "images", title="t")
    listed.add_row(LONG, "1")
    piped, seen = io.StringIO(), io.StringIO()
    SafeConsole(file=piped, highlight=False).print(listed)
    assert LONG in piped.getvalue()
    SafeConsole(file=seen, highlight=False, force_terminal=True, color_system=None).print(listed)
    lines = seen.getvalue().splitlines()
    assert max(map(len, lines)) <= 40 and "…" not in seen.getvalue()
    assert "".join(line.split("│")[1].strip() for line in lines if line.startswith("│")) == LONG


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("not found: a.lance, /home/runner/lance-table-14.0/src/io/commit.rs:364:26", "not found: a.lance"),
        ("LanceError(IO): no space left, rust/lance/src/dataset.rs:12:34", "LanceError(IO): no space left"),
        ('bad file, location: Location { file: "/x/y.rs", line: 3, column: 4 }', "bad file"),
        ("a.rs is a file of mine", "a.rs is a file of mine"),
        ("time 12:34:56, at 10:20", "time 12:34:56, at 10:20"),
    ],
)
def test_places_in_the_code_of_libraries_are_left_out(said: str, shown: str) -> None:
    assert without_source(said) == shown
    assert InputError(said).message == shown


def test_a_warning_of_a_library_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", program._warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = program._warn
        warnings.warn("slow [path]\nis taken", UserWarning, stacklevel=1)
        warnings.warn("this will go", FutureWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: slow [path] is taken\n"


def test_a_folder_does_not_hide_a_dataset(ntf: Ntf, tmp_path: Path, manifest_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ntf("build", str(manifest_file), "--device", "cpu", "--store", "tiny/store").code == 0
    asked = ("audit", "tiny")
    answer = ntf(*asked)  # the folder holds no pictures but a store
    assert answer.code == 2 and "Add --store tiny/store" in answer.err
    for words in ((*asked, "--store", "elsewhere"), ("audit", "--store", "elsewhere", "tiny"), ("train", "tiny", "--store", "elsewhere")):
        answer = ntf(*words)
        assert (answer.code, "there is no dataset 'tiny' in elsewhere" in answer.err) == (2, True)
    for kind in ("real", "fake"):
        (tmp_path / "tiny" / kind).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / "tiny" / kind / "a.png")

    def audited(*words: str) -> int | None:
        return json.loads(ntf(*words, "--json").out)["version"]

    assert audited(*asked, "--store", "tiny/store") == 1
    assert audited("audit", "./tiny") is None  # as a folder
    monkeypatch.setenv("NTF_STORE", "tiny/store")
    assert audited(*asked) == 1
