"""Wrong options of the benchmarks are said in one line, before anything is measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("bare_convolutions", "--batch", "0"), "'0' is no whole number of at least 1"),
        (("generators", "--rounds", "-1"), "'-1' is no whole number of at least 1"),
        (("generators", "--official", "{folder}/none"), "there is no folder"),
        (("generators", "--json", "{folder}/none/a.json"), "its folder is not there"),
        (("ceiling", "--json", "{folder}"), "it is a folder"),
        (("ceiling", "--json", "{folder}/text"), "it is no JSON"),
        (("gpu", "--table", "{folder}/object"), "it holds no list"),
        (("gpu", "--device", "cpu", "--only", "nothing"), "Nothing is called 'nothing'"),
        (("training", "--repeats", "0"), "'0' is no whole number of at least 1"),
    ],
)
def test_a_wrong_option(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "text").write_text("no figures")
    (tmp_path / "object").write_text("{}")
    name, *rest = (word.replace("{folder}", str(tmp_path)) for word in words)
    line = [sys.executable, f"benchmarks/{name}.py", *rest]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode and said in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
