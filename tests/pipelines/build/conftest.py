"""What the tests of one device and of several share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import Plan, make_plan
from tests.support import write_manifest


def planned(path: Path) -> Plan:
    return make_plan(load_manifest(path))


@pytest.fixture
def manifest_of_a_cut_checkpoint(tmp_path: Path, manifest_data: dict[str, Any]) -> Path:
    """The small manifest, whose StyleGAN2 is `cut.safetensors`: half a file, as a broken download leaves it."""
    whole = Path(manifest_data["checkpoints"]["sg2"]["file"]).read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[: len(whole) // 2])
    manifest_data["checkpoints"]["sg2"]["file"] = str(cut)
    return write_manifest(tmp_path / "m.yaml", manifest_data)
