"""The Python in the README runs and gives what its comments say; the citation file says what the project's own files say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.markdown import ROOT, blocks


def test_the_snippet_gives_what_it_says(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = [block for block in blocks(ROOT / "README.md") if block.language == "python"]
    text = block.text.replace('"generators/demo/', f'"{ROOT}/generators/demo/')
    assert text != block.text
    names: dict[str, Any] = {}
    exec(compile(text, block.place, "exec"), names)
    assert names["batch"].image.shape == (8, 32, 32, 3) == names["images"].shape
    assert set(names["batch"].label.tolist()) <= {0, 1} and set(names["batch"].subset) <= {"faces", "StyleGAN2", "SimSwap_Style2"}
    assert str(names["images"].dtype) == "uint8" == str(names["batch"].image.dtype).removeprefix("torch.")
    assert "[8, 32, 32, 3]" in capsys.readouterr().out


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert (str(citation["version"]), citation["license"]) == (project["version"], project["license"])
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {citation['version']}, {citation['date-released']}" in changes
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (paper,) = citation["references"]
    numbers = set(re.findall(r"arxiv\.org/abs/([\d.]+\d)", readme))
    assert numbers == {paper["url"].rpartition("/")[2]} and all({"family-names", "given-names"} == set(who) for who in paper["authors"])
