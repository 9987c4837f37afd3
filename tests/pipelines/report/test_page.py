"""The page as a person opens it: all sections, whatever the number of subsets, nothing from outside, and no barrier that axe finds."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.report import write_report
from pipelines.report.album import Album
from pipelines.report.sections import SECTIONS
from pipelines.report.sections.dataset import versions
from pipelines.report.sections.detectors import errors, explanation, results
from pipelines.report.sheets import TILE
from pipelines.report.source import ALL_STRIPS, ALL_THUMBNAILS
from pipelines.report.strips import SIDE
from pipelines.store import Store
from tests.pipelines.report.report_support import axe_violations, dumped, report_inputs, store_of

SUBSETS = 18
MOST_BYTES = 15_000_000
ADDRESSES = {"src", "href", "srcset", "poster", "action", "data", "xlink:href", "background"}
OWN = re.compile(rb"^\S+ (https?://)?[\w.-]*\b(google|googleapis|gvt1|gstatic)\.com\b")


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("page")
        patch.setenv("NTF_CACHE", str(folder / "cache"))
        yield store_of(folder, SUBSETS)


@pytest.fixture(scope="module")
def page(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    return write_report(store, folder / "report.html", inputs=report_inputs(store, folder / "run"))


@pytest.fixture(scope="module")
def elements(page: Path) -> list[tuple[str, dict[str, str]]]:
    return Elements(page.read_text(encoding="utf-8")).elements


def test_every_section_and_all_eighteen_subsets_are_there(page: Path, store: Store, elements: list[tuple[str, dict[str, str]]]) -> None:
    text = page.read_text(encoding="utf-8")
    ids = Counter(attributes["id"] for _, attributes in elements if "id" in attributes)
    assert all(ids[section.anchor] == 1 for section in SECTIONS)
    assert sum(name.startswith("subset-") for name in ids) == SUBSETS
    assert not [name for name, times in ids.items() if times > 1]
    targets = {attributes["href"][1:] for _, attributes in elements if attributes.get("href", "").startswith("#")}
    assert targets <= set(ids), targets - set(ids)
    shown = next(row for row in store.rows() if row.role == "final")
    assert f"ntf store show fake --store {store.root.location} {shown.id} --version 1" in text
    assert "Gate failed" in text
    assert "42 s after the checkpoint appeared" in text
    assert 'id="missing"' not in text


def test_what_was_not_measured_is_named_with_the_command_that_measures_it(store: Store, tmp_path: Path) -> None:
    text = write_report(store, tmp_path / "bare.html").read_text(encoding="utf-8")
    assert "No detector has been evaluated on it yet." in text
    missing = text.partition('id="missing"')[2]
    for command in ("ntf compare fake", "ntf ablate fake", "ntf robustness fake", "ntf explain fake", "ntf evaluate fake"):
        assert command in missing


def test_nothing_comes_from_outside(page: Path, elements: list[tuple[str, dict[str, str]]]) -> None:
    text = page.read_text(encoding="utf-8")
    for tag, attributes in elements:
        for name in ADDRESSES & attributes.keys():
            assert attributes[name].startswith(("#", "data:image/webp;base64,")), (tag, attributes[name][:80])
    assert not {tag for tag, _ in elements} & {"link", "iframe", "object", "embed", "form", "base"}
    assert not re.search(r"url\((?!#)|@import", text)
    policy = next(attributes["content"] for _, attributes in elements if attributes.get("http-equiv") == "Content-Security-Policy")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)  # the page's own, and the policy allows no other
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{digest}'; style-src")
    assert "unsafe-eval" not in policy and not re.search(r"\b(fetch|XMLHttpRequest|import|eval|innerHTML)\b", script)


def test_each_picture_is_stored_once(elements: list[tuple[str, dict[str, str]]]) -> None:
    stored = [attributes["href"] for tag, attributes in elements if tag == "image"]
    shown = [attributes["href"] for tag, attributes in elements if tag == "use"]
    assert len(stored) == len(set(stored)) > SUBSETS
    assert len(shown) > len(stored)


def test_tables_and_pictures_are_named(elements: list[tuple[str, dict[str, str]]]) -> None:
    tags = Counter(tag for tag, _ in elements)
    assert tags["table"] == tags["caption"] > 20
    assert all("scope" in attributes for tag, attributes in elements if tag == "th")
    named = [attributes for tag, attributes in elements if tag == "svg" and "aria-hidden" not in attributes]
    assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in named)
    landmarks = Counter(tag for tag, _ in elements if tag in ("header", "nav", "main", "footer", "h1"))
    assert set(landmarks.values()) == {1}
    assert len(landmarks) == 5


def test_the_page_stays_small_whatever_the_pictures(page: Path) -> None:
    """Noise is the worst that an encoder can be given; a swap's strip has at most five pictures."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    album = Album()
    thumbnail, cell = (len(album.add(noise, side).uri) for side in (TILE, SIDE))
    heats = 2 * explanation.PICTURES * (SUBSETS + 2)
    wrong = len(album.add(noise, errors.SIDE).uri) * errors.ALL_ERRORS
    both = 3 * versions.ALL_PAIRS
    assert thumbnail * (ALL_THUMBNAILS + 48 + heats + both) + cell * ALL_STRIPS * 5 + wrong < MOST_BYTES - 2_000_000
    assert page.stat().st_size < 2_000_000


def test_the_first_screen_answers_three_questions(page: Path) -> None:
    first = page.read_text(encoding="utf-8").partition('<main id="main"')[2].partition('class="pipeline"')[0]
    for question in ("What is in it", "What tells fake from real, besides forgery", "How good the detector is, and how sure"):
        assert f"<h3>{question}</h3>" in first
    assert "<strong>90</strong> fakes" in first and "<strong>24</strong> reals" in first and "<strong>18</strong> subsets" in first
    assert "Gate failed" in first and "quantisation tables <em>decides the gate</em>" in first and "AUC 0.90" in first
    assert first.index("quantisation tables") < first.index("blockiness")  # the strongest first
    assert "bytes per pixel" not in first  # it tells nothing
    assert "<strong>95.0</strong>" in first and "[90.0, 100.0], chance 50.0" in first


def test_errors_are_those_on_the_wrong_side_of_the_threshold_the_farthest_first() -> None:
    scores = {
        "id": ["r0", "r1", "r2", "f0", "f1", "f2", "g0"],
        "label": [0, 0, 0, 1, 1, 1, 1],
        "subset": ["faces", "faces", "faces", "A", "A", "A", "B"],
        "score": [0.2, 0.7, 0.9, 0.5, 0.1, 0.8, 0.6],
    }
    groups = errors.errors_of({"scores": scores, "threshold": 0.5})
    assert [(group["kind"], group["name"], group["judged"], group["errors"]) for group in groups] == [
        ("alarm", "faces", 3, [("r2", 0.9), ("r1", 0.7)]),
        ("miss", "A", 3, [("f1", 0.1), ("f0", 0.5)]),
        ("miss", "B", 1, []),
    ]


@pytest.mark.parametrize(("threshold", "label"), [(0.3, 0), (0.7, 1)])
def test_the_worst_errors_are_shown_by_subset(store: Store, tmp_path: Path, threshold: float, label: int) -> None:
    """Scores of reals lie between 0 and 0.5, those of fakes above."""
    inputs = report_inputs(store, tmp_path / "run")
    run = replace(inputs.runs[0], evaluation={**inputs.runs[0].evaluation, "threshold": threshold})
    page = write_report(store, tmp_path / "report.html", inputs=replace(inputs, runs=[run]))
    text = page.read_text(encoding="utf-8").partition('<h2 id="errors">')[2].partition("<h2")[0]
    labels = {row.id: row.label for row in store.rows("role IN ('final', 'real')")}
    columns = run.evaluation["scores"]
    wrong = {name for name, score in zip(columns["id"], columns["score"], strict=True) if (score > threshold) == (labels[name] == 0)}
    rows = re.findall(r'<div class="row".*?</div>', text, re.DOTALL)
    shown = [re.findall(r'aria-label="P\(fake\) ([0-9.]+), ([^"]+)"', row) for row in rows]
    assert {name for row in shown for _, name in row} == wrong and {labels[name] for name in wrong} == {label}
    for row in shown:
        scores = [float(score) for score, _ in row]
        assert scores == sorted(scores, reverse=label == 0)
    assert any(len(row) > 1 for row in shown)


def test_the_area_of_a_curve_comes_with_an_interval_of_the_smaller_class() -> None:
    area = results._area(np.array([1, 1, 0, 0, 0]), np.array([0.9, 0.4, 0.5, 0.1, 0.1]))
    assert area["value"] == pytest.approx(5 / 6)
    assert (area["low"], area["high"]) == (pytest.approx(0.2408, abs=1e-4), pytest.approx(0.9875, abs=1e-4))
    perfect = results._area(np.array([1] * 8 + [0] * 49), np.arange(57)[::-1] / 57)
    assert perfect["value"] == 1 and perfect["low"] == pytest.approx(8 / (8 + 1.959964**2)) and perfect["high"] == pytest.approx(1)
    assert results._area(np.array([1, 1]), np.array([0.1, 0.2]))["value"] is None


SORTED = """<script>
addEventListener('load', () => {
  const table = [...document.querySelectorAll('main table')].find(each => each.caption.textContent.startsWith('%s'));
  const head = [...table.tHead.rows[0].cells].find(each => each.textContent.startsWith('%s'));
  for (let press = 0; press < %d; press++) head.querySelector('button').click();
  const cells = [...table.tBodies[0].rows].map(row => row.cells[head.cellIndex].textContent.trim());
  document.querySelector('main svg.picture[tabindex]').dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter'}));
  const zoom = document.querySelector('dialog.zoom');
  document.documentElement.setAttribute('data-found', JSON.stringify([head.getAttribute('aria-sort'), zoom.open, cells]));
});
</script></body>"""


def test_the_bar_of_the_heat_maps_has_the_colours_that_the_maps_have(page: Path) -> None:
    bar = re.search(r'<svg class="heatbar".*?</svg>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert bar is not None
    ids, stops = re.findall(r'<linearGradient id="([^"]+)"', bar[0]), re.findall(r'offset="([0-9.]+)" stop-color="#(\w{6})"', bar[0])
    drawn = re.search(r'<rect class="(\w+)"[^>]*fill="url\(#([^)]+)\)"', bar[0])
    assert drawn is not None and [drawn[2]] == ids
    rule = re.search(rf"\.{drawn[1]} {{([^}}]*)}}", page.read_text(encoding="utf-8"))
    assert rule is not None and "fill" not in rule[1]  # a rule would win against the attribute
    places = np.array([[round(255 * float(place)) for place, _ in stops]], np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(places, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)[0]
    for colour, (_, text) in zip(colours, stops, strict=True):
        assert np.abs(colour.astype(int) - np.array([int(text[at : at + 2], 16) for at in (0, 2, 4)])).max() <= 12


@pytest.mark.slow
@pytest.mark.parametrize("presses", [1, 2])
def test_tables_sort_and_pictures_enlarge(page: Path, tmp_path: Path, presses: int) -> None:
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    driven = tmp_path / "driven.html"
    driven.write_text(text.replace("</body>", SORTED % ("Results of NTF", "AP", presses)), encoding="utf-8")
    found = re.search(r'data-found="([^"]*)"', dumped(driven, tmp_path / "profile"))
    assert found is not None
    order, is_open, cells = json.loads(unescape(found[1]))
    assert is_open and order == ("ascending" if presses == 1 else "descending")
    values = [float(cell.split()[0]) for cell in cells[:-7]]  # seven rows of means and chance stay below
    assert values == sorted(values, reverse=presses == 2) and len(set(values)) == len(values) > 15
    assert cells[-1] == "–" and float(cells[-2].split()[0]) == 95.0


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing_serious(page: Path, tmp_path: Path, width: int) -> None:
    axe = axe_violations(page, tmp_path, width)
    assert axe["width"] == width
    assert axe["passes"] > 20
    assert axe["violations"] == [], [violation for violation in axe["violations"] if violation["impact"] in ("serious", "critical")]
    assert axe["wide"] <= width, "the page scrolls sideways"
    assert axe["blocked"] == []
    assert axe["resources"] == []


@pytest.mark.slow
def test_the_browser_asks_nobody_for_anything(page: Path, tmp_path: Path) -> None:
    """All that Chromium fetches goes to a proxy that notes who calls, the page's own policy taken off; what Chromium asks for itself is
    left out."""
    free = tmp_path / "free.html"
    free.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8")), encoding="utf-8")
    calls: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    peer.settimeout(5)
                    calls.append(peer.recv(200))

        threading.Thread(target=listen, daemon=True).start()
        proxy = f"--proxy-server=http://127.0.0.1:{server.getsockname()[1]}"
        assert "Natural Trace Foundry" in dumped(free, tmp_path / "quiet", proxy)
        assert [call for call in calls if not OWN.search(call)] == []
        leaking = tmp_path / "leaking.html"
        leaking.write_text('<img src="http://example.invalid/x.png">')
        dumped(leaking, tmp_path / "loud", proxy)
        assert any(b"example.invalid" in call for call in calls), "the proxy would have seen it"
