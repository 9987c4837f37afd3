"""Options of checkpoints are checked with the manifest, before anything is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from generators.errors import InputError
from pipelines.manifest.load import load_manifest
from tests.support import write_manifest


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 36}, r"m\.yaml, line \d+: checkpoint sd: stable_diffusion: options: size: .*multiple of 8, not 36"),
        ({"sizes": 32}, r"checkpoint sd: stable_diffusion: options: sizes: .*size"),
        ({"precision": "float8"}, r"precision: .*not 'float8'"),
    ],
)
def test_a_wrong_option_is_refused_with_its_checkpoint(
    options: dict[str, Any], said: str, tmp_path: Path, manifest_data: dict[str, Any]
) -> None:
    manifest_data["checkpoints"]["sd"] = {"generators": ["stable_diffusion"], "file": "x", "licence": "MIT", "options": options}
    real = next(iter(manifest_data["reals"]))
    chain = [{"prompt": "stable_diffusion", "checkpoint": "sd", "prompts": ["a sky"]}]
    manifest_data["subsets"]["SD"] = {"count": 1, "real": real, "chain": chain}
    with pytest.raises(InputError, match=said):
        load_manifest(write_manifest(tmp_path / "m.yaml", manifest_data))
