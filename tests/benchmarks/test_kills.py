"""A few kills of each kind of command, by the program that makes a thousand of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) of (\d+) \|$", re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_lost_or_doubled_and_all_is_resumed(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "--kills", "12", "--acts", "build,spread,mend,fetch"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr[-3000:]
    rows = ROW.findall(done.stdout)
    assert [act for act, *_ in rows] == ["build", "spread", "mend", "fetch"]
    for act, kills, *kinds, lost, doubled, resumed, cases in rows:
        assert int(kills) == sum(map(int, kinds)) >= 3, act
        assert (lost, doubled, resumed) == ("0", "0", cases), f"{act}: {done.stderr[-2000:]}"
    assert list(tmp_path.glob("kills-*")) == []
