"""The page of `ntf app`, in a headless browser: a picture is dropped in, and verdict, band, distance, map and metadata come out."""

from __future__ import annotations

import base64
import importlib.util
import io
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from flows.app import rows
from flows.examine import examine
from ntf_model.errors import InputError
from pipelines.export.provenance import with_xmp
from tests.flows.chromium import browser
from tests.ntf_model.test_onnx_file import built, ntf

ROOT = Path(__file__).parents[2]
with_nicegui = pytest.mark.skipif(importlib.util.find_spec("nicegui") is None, reason="nicegui is not installed (extra `app`)")
LINK = {"step": "sample", "generator": "ddpm", "checkpoint": "ddpm/x", "identity": {"sha256": "0" * 64}, "parameters": {}}
FAKE = {"id": "x", "label": 1, "subset": "DDPM", "chain": [LINK], "format": "PNG"}


def picture(kind: str = "PNG") -> bytes:
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(stream, kind)
    return stream.getvalue()


def test_a_picture_is_examined() -> None:
    detector = ntf(crops=1)
    examined = examine(detector, with_xmp(picture(), FAKE, {}), "a<b>\x1b[2J.png")
    (expected,) = detector([picture()])
    assert (examined.width, examined.height) == (60, 40)
    assert (examined.probability, examined.verdict, examined.calibrated) == (expected.probability, expected.verdict, expected.calibrated)
    assert examined.distance == expected.distance
    assert examined.band == (0.0, 1.0)  # two validation pictures of each class allow no verdict
    assert examined.map is not None
    assert Image.open(io.BytesIO(examined.map)).size == (320, 320)
    assert "IPTC: digital source type trainedAlgorithmicMedia" in examined.metadata
    assert "C2PA: none" in examined.metadata
    assert "\x1b" not in examined.name
    assert dict(rows(examined))["band"] == "unsure from 0.000 to 1.000"
    other = examine(built("probe", encoder="small"), picture(), "a.png")
    assert other.map is None
    assert "only NTF has one" in other.map_note
    assert dict(rows(other))["distance to the trace"] == "this detector has none"
    with pytest.raises(InputError):
        examine(detector, b"no picture", "a.png")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A served page of a small NTF."""
    ntf(crops=1).save_pretrained(tmp_path / "run")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    log = (tmp_path / "log").open("w+")
    command = [sys.executable, "-m", "flows.cli", "app", str(tmp_path / "run"), "--port", "0"]
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path)
    try:
        end = time.monotonic() + 200
        while not (said := re.search(r"open (http://127\.0\.0\.1:\d+)", (tmp_path / "log").read_text())):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end, "the page was not served"
            time.sleep(0.2)
        yield said[1]
    finally:
        process.terminate()
        process.wait()
        log.close()


DROP = """
(async () => {{
  const bytes = Uint8Array.from(atob("{data}"), letter => letter.charCodeAt(0));
  const moved = new DataTransfer();
  moved.items.add(new File([bytes], "{name}", {{type: "image/png"}}));
  const event = kind => new DragEvent(kind, {{dataTransfer: moved, bubbles: true, cancelable: true}});
  document.querySelector(".q-uploader").dispatchEvent(event("dragover"));
  await new Promise(done => setTimeout(done, 300));
  document.querySelector(".q-uploader__dnd").dispatchEvent(event("drop"));
  return true;
}})()
"""


def drop(page: Any, data: bytes, name: str) -> None:
    page.run(DROP.format(data=base64.b64encode(data).decode(), name=name))


@with_nicegui
@pytest.mark.slow
def test_a_picture_is_dropped_in(address: str, tmp_path: Path) -> None:
    port = int(address.rpartition(":")[2])
    assert httpx.get(address, headers={"Host": "evil.example"}).status_code == 400, "another name of this machine is refused"
    with socket.socket() as outside:
        outside.settimeout(2)
        others = {entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
        for other in others:
            if not other.startswith("127."):
                assert outside.connect_ex((other, port)) != 0, "only loopback is served"
    with browser(address, tmp_path / "profile") as page:
        page.call("Network.enable")
        page.wait_for("!!document.querySelector('.q-uploader input[type=file]')")
        drop(page, with_xmp(picture(), FAKE, {}), "<img src=x onerror=alert(1)>.png")
        text = page.wait_for("document.querySelector('.result')?.innerText")
        examined = examine(ntf(crops=1), with_xmp(picture(), FAKE, {}), "x")
        assert "<img src=x onerror=alert(1)>.png, 60 x 40 pixels" in text, "a name is text"
        assert page.run("document.querySelector('.verdict').innerText.trim().toLowerCase()") == "unsure"
        values = page.run("[...document.querySelectorAll('.result .value')].map(value => value.innerText.trim())")
        assert values == [value for _, value in rows(examined)]
        said = page.run("[...document.querySelectorAll('.result .metadata')].map(line => line.innerText.trim())")
        assert said == examined.metadata
        assert page.wait_for("[...document.querySelectorAll('.result img')].map(image => image.naturalWidth).join()") == "320,320"
        names = page.run("performance.getEntriesByType('resource').map(entry => entry.name)")
        assert names
        assert all(name.startswith((address, "data:", "blob:")) for name in names), names
        for width in (1000, 400):
            page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
            lefts = page.run("[...document.querySelectorAll('.result .value')].map(value => value.getBoundingClientRect().left)")
            assert len(set(lefts)) == 1, f"values stand below one another at {width} px"
            assert page.run("document.documentElement.scrollWidth") <= width
        page.screenshot(tmp_path / "page.png")
        drop(page, b"no picture at all", "broken.png")
        assert "not read" in page.wait_for("document.querySelector('.error')?.innerText")
        assert page.run("document.querySelector('.result')") is None
        page.wait_for("!document.querySelector('.q-uploader__file')")  # nothing that looks as if it had been read stays in the list
