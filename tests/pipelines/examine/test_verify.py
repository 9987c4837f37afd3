"""A version is read back and made again, and damage is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lance
import pytest

from pipelines.examine.verify import verify
from pipelines.images import decode
from pipelines.store import Store
from tests.pipelines.store.fakes import FakeSampler


def test_verify_reads_back_and_makes_again(store: Store, manifest: Path) -> None:
    checked = verify(store, sample=12, device="cpu")
    assert checked.passed and checked.images == len(store.rows()) and checked.remade
    assert set(checked.remade.values()) == {"bit-exact"} and len(checked.remade) == 12
    (manifest.parent / "sampler.txt").write_text("4")
    checked = verify(store, sample=24, device="cpu")
    outcomes = {name.split("/")[0]: outcome for name, outcome in checked.remade.items()}
    assert outcomes == {"Sampled": "not possible here", "Chained": "not possible here", "Swapped": "bit-exact"}
    assert checked.passed


def test_verify_tells_an_image_that_comes_out_different(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    original = FakeSampler._sample
    monkeypatch.setattr(FakeSampler, "_sample", lambda self, seeds, settings: original(self, seeds, settings) + 1)
    checked = verify(store, sample=24, device="cpu")
    assert {outcome for name, outcome in checked.remade.items() if "Sampled" in name} == {"within one grey level"} and checked.passed
    monkeypatch.setattr(FakeSampler, "_sample", lambda self, seeds, settings: original(self, seeds, settings) + 9)
    checked = verify(store, sample=24, device="cpu")
    assert {outcome for name, outcome in checked.remade.items() if "Sampled" in name} == {"different"} and not checked.passed


def test_an_image_that_rounds_in_another_way_alone_is_made_again_in_a_batch_as_large_as_its_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever alone does to it: a rounding that the next step enlarges is no small difference any more."""
    original, made = FakeSampler._sample, []

    def rounding(self: FakeSampler, seeds: Any, settings: Any) -> Any:
        made.append(len(seeds))
        return original(self, seeds, settings) + 9 * (len(seeds) == 1)

    monkeypatch.setattr(FakeSampler, "_sample", rounding)
    checked = verify(store, sample=24, device="cpu")
    sampled = [name for name in checked.remade if "Sampled" in name]
    assert sampled and {checked.remade[name] for name in sampled} == {"bit-exact"}
    assert set(made) == {1, 4}  # the shards have four images


def test_verify_finds_damage(store: Store) -> None:
    file = Path(store.uri) / "data" / lance.dataset(store.uri).get_fragments()[0].metadata.files[0].path
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    checked = verify(store)
    assert not checked.passed and "instead of" in checked.damaged[0] and file.name in checked.damaged[0]
    png = whole.index(b"IDAT")
    file.write_bytes(whole[: png + 8] + bytes(byte ^ 0xFF for byte in whole[png + 8 : png + 16]) + whole[png + 16 :])
    checked = verify(store)
    assert not checked.passed and "sha256 differs" in checked.damaged[0]
    file.unlink()
    assert "is not there" in verify(store).damaged[0]
    file.write_bytes(whole)
    assert verify(store).passed and decode(store.rows("role = 'final'", images=True)[0].image, "").shape == (16, 16, 3)
