"""A manifest that plans more images than any dataset has is refused before anything is planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from generators.errors import InputError
from pipelines.manifest.bounds import MOST_IMAGES, VARIABLE
from pipelines.manifest.load import load_manifest

MANIFEST = """dataset: d
size: 32
reals: {{r: {{package: faces, licence: CC0, count: 3}}}}
subsets:
  A: {{count: {small}, real: r, chain: [{{sample: ddpm, checkpoint: ddpm-demo-32}}]}}
  B: {{count: {large}, real: r, chain: [
    {{sample: ddpm, checkpoint: ddpm-demo-32}}, {{swap: simswap, checkpoint: simswap-demo-32, source: r}}]}}
"""


def written(folder: Path, small: int, large: int) -> Path:
    (folder / "m.yaml").write_text(MANIFEST.format(small=small, large=large))
    return folder / "m.yaml"


def test_every_step_counts_and_the_bound_itself_is_allowed(tmp_path: Path) -> None:
    half = MOST_IMAGES // 4
    assert load_manifest(written(tmp_path, 2 * half, half))
    with pytest.raises(InputError, match=r"m\.yaml, line 6: the manifest plans 1,000,001 images, of 1,000,000 at most; B has the most"):
        load_manifest(written(tmp_path, 2 * half - 1, half + 1))


def test_huge_counts_are_one_line_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"set {VARIABLE}=") as caught:
        load_manifest(written(tmp_path, 1, 10**18))
    assert "\n" not in str(caught.value)


def test_the_bound_can_be_raised_for_a_manifest_that_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "2000000000001")
    assert load_manifest(written(tmp_path, 1, 10**12))
    with pytest.raises(InputError, match="2,000,000,000,002 images"):
        load_manifest(written(tmp_path, 2, 10**12))


@pytest.mark.parametrize("given", ["many", "-1", "0", "1e6", "9" * 400, "\x1b[2J"])
def test_a_bound_that_is_no_number_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(VARIABLE, given)
    with pytest.raises(InputError, match=f"{VARIABLE} is"):
        load_manifest(written(tmp_path, 1, 1))
