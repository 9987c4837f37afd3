"""Progress in one place: lines with the time left where nobody looks, none with -q, and the log that keeps what was said."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from flows import console, progress
from flows.console import Detail
from flows.progress import step_progress, transfer_progress
from tests.commands import Answer
from tests.flows.processes import wait_for

Ntf = Callable[..., Answer]


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(progress, "EVERY", 0.05)
    yield
    console.set_detail(Detail.NORMAL)


def test_a_line_every_while_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    said = ""

    def told(sign: str) -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return sign in said

    with step_progress("export") as show:
        show(0, 100, "images [of] all")
        time.sleep(0.01)
        show(50, 100, "images [of] all")
        wait_for("a line", lambda: told("50 of 100"), 30)
        show(0, 10, "the index")
        wait_for("a line of the next part", lambda: told("the index: 0 of 10"), 30)
        show(7, 0, "nobody knows how many")
        wait_for("a line without a whole", lambda: told("many: 7,"), 30)
    line = next(line for line in said.splitlines() if "50 of 100" in line)
    assert re.fullmatch(r"export: images \[of\] all: 50 of 100, \d:\d\d:\d\d gone, about \d:\d\d:\d\d left", line)
    time.sleep(0.2)
    assert capsys.readouterr().err == ""  # nobody tells on


def test_transfers_are_told_together(capsys: pytest.CaptureFixture[str]) -> None:
    with transfer_progress() as (watch_of, total):
        total(3000)
        for name in ("a [1].pt", "b.pt"):
            watch_of(name).advance(1000)
        wait_for("a line", lambda: "in all: 2,000 of 3,000 bytes" in capsys.readouterr().err, 30)


def test_quiet_says_nothing_on_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    console.set_detail(Detail.QUIET)
    with step_progress("export") as show:
        show(1, 2, "images")
        time.sleep(0.3)
    console.say(["a note"])
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_import_tells_how_far_it_is_and_the_log_keeps_it(ntf: Ntf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.importing import importing

    plain = importing._convert

    def slowly(*arguments: object) -> str:
        time.sleep(0.02)
        return plain(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(importing, "_convert", slowly)
    (tmp_path / "photos").mkdir()
    for number in range(150):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
    words = ["import", "photos", "data", "--label", "real", "--licence", "CC0", "--origin", "here", "--limit", "140"]
    answer = ntf("--log", "logs/a.log", *words)
    assert answer.code == 0, answer.err
    assert re.search(r"import: images: \d+ of 140, ", answer.err)
    log = (tmp_path / "logs" / "a.log").read_text()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+\d\d:\d\d ", line) for line in log.splitlines())
    for sign in ("ntf --log logs/a.log import photos", "import: images: ", "140 images in data/real", "exit code 0 after"):
        assert sign in log
    assert "import: images" not in ntf("-q", *[word.replace("data", "other") for word in words]).err


def test_the_log_keeps_errors_and_no_passwords(ntf: Ntf, tmp_path: Path) -> None:
    ntf("--log", "a.log", "plan", "nothing", "--store", "s3://me:hush@host/b")
    ntf("--log", "a.log", "checkpoint", "add", "x.pkl", "--generator", "x", "--licence", "y", "--option", "auth_token=hush")
    log = (tmp_path / "a.log").read_text()
    assert log.count("exit code 2 after") == 2 and "there is no manifest nothing" in log
    assert "hush" not in log
    answer = ntf("--log", str(tmp_path), "plan", "demo")
    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    assert "cannot write the log" in answer.err
    assert ntf("-q", "-v", "plan", "demo").code == 2


def test_verbose_says_where_an_error_arose(ntf: Ntf) -> None:
    assert "Traceback" not in ntf("plan", "nothing").err
    assert "find_manifest" in ntf("-v", "plan", "nothing").err
