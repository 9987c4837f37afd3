"""A headless Chromium that a test speaks to over its debugging port on loopback."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.pipelines.report.report_support import CHROMIUM, FLAGS


class Browser:
    """One page. `call` is a command of the DevTools protocol."""

    def __init__(self, connection: Any):
        self.connection, self.number = connection, 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        self.connection.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.connection.recv(timeout=120))
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def run(self, script: str) -> Any:
        """The value of a script, which may be a promise."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, script: str, seconds: float = 120) -> Any:
        """The first true value of a script."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"{script} stayed {value}: {self.run('document.body.innerText')}"
            time.sleep(0.2)
        return value

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]))


@contextmanager
def browser(address: str, folder: Path) -> Iterator[Browser]:
    """Chromium at `address`. Skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    from websockets.sync.client import connect

    alone = ["--no-sandbox"] if os.geteuid() == 0 else []
    options = ["--remote-debugging-port=0", f"--user-data-dir={folder}", "--window-size=1000,1300"]
    with (folder.parent / "chromium.log").open("w+") as log:
        process = subprocess.Popen([CHROMIUM, *FLAGS, *alone, *options, address], stdout=log, stderr=subprocess.STDOUT)
        try:
            file, end = folder / "DevToolsActivePort", time.monotonic() + 120
            while not file.is_file() or not re.match(r"\d+\n", file.read_text()):
                assert time.monotonic() < end, "Chromium did not start"
                time.sleep(0.1)
            port = file.read_text().split()[0]
            while not (pages := [page for page in httpx.get(f"http://127.0.0.1:{port}/json").json() if page["type"] == "page"]):
                time.sleep(0.1)
            with connect(pages[0]["webSocketDebuggerUrl"], max_size=2**26) as connection:
                yield Browser(connection)
        finally:
            process.kill()
            process.wait()
