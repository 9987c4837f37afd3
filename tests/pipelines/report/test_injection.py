"""A report on a store full of hostile licences and results of hostile names runs nothing, with and without its own policy."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.build.build import run_build
from pipelines.report.page import write_report
from pipelines.store import Store
from tests.pipelines.report.report_support import dumped, report_inputs
from tests.pipelines.store.fakes import fake_dataset, fake_generators, planned, write

HOSTILE = "</title></style>\"'><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">{{ 7*7 }}`</code>"
FREE_TEXT = {"title", "note", "worst"}


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def hostile(value: Any, key: str = "") -> Any:
    """The same data with markup behind every text that is free."""
    if isinstance(value, dict):
        return {name: hostile(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [hostile(item, key) for item in value]
    return value + HOSTILE if isinstance(value, str) and key in FREE_TEXT else value


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("injection")
    manifest = fake_dataset(folder / "data", count=5)
    data = yaml.safe_load(manifest.read_text())
    for source in data["reals"].values():
        source["licence"] = HOSTILE
    store = Store(folder / "store", "fake")
    with pytest.MonkeyPatch.context() as patch, fake_generators():
        patch.setenv("NTF_CACHE", str(folder / "cache"))
        run_build(planned(write(manifest, data)), store, "cpu")
        inputs = report_inputs(store, folder / "run")
        for run in inputs.runs:
            run.evaluation.update({key: hostile(value, key) for key, value in run.evaluation.items() if key in ("title", "worst")})
        inputs = replace(
            inputs, history=[{**drift, "fallen": [HOSTILE]} for drift in inputs.history], comparison=hostile(inputs.comparison)
        )
        return write_report(store, folder / "report.html", inputs=inputs)


def test_nothing_hostile_becomes_an_element(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "&lt;script&gt;document.title" in text, "the hostile text is shown"
    tags = Tags(text).tags
    assert not [tag for tag, attributes in tags if any(name.startswith("on") for name in attributes)]
    assert [attributes for tag, attributes in tags if tag == "script"] == [{}]  # the page's own, and the policy holds its hash
    assert "document.title" not in text.rpartition("<script>")[2]
    assert "49" not in re.findall(r"\{\{ 7\*7 \}\}|>49<", text)


def test_a_browser_runs_nothing_even_without_the_policy(page: Path, tmp_path: Path) -> None:
    bare = re.sub(r"<meta[^>]*Content-Security-Policy[^>]*>", "", page.read_text(encoding="utf-8"))
    open_page = tmp_path / "open.html"
    open_page.write_text(bare, encoding="utf-8")
    title = re.search(r"<title>(.*?)</title>", dumped(open_page, tmp_path / "profile"), re.DOTALL)
    assert title is not None and title[1].strip() != "run"
    planted = tmp_path / "planted.html"  # the test can fail: the same text unescaped does run
    planted.write_text(bare.replace("</body>", "<script>document.title='run'</script></body>"), encoding="utf-8")
    answer = re.search(r"<title>(.*?)</title>", dumped(planted, tmp_path / "profile2"), re.DOTALL)
    assert answer is not None and answer[1].strip() == "run"
