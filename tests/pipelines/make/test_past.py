"""Fakes get the past of real images: their compression, their place in its grid, their size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.audit import crop
from generators.errors import InputError
from pipelines.build.build import run_build
from pipelines.images import decode, read_image
from pipelines.make.past import CHROMA, LUMA_TABLE, quality_of, read_history, recompressed, with_history
from pipelines.manifest.load import load_manifest
from pipelines.manifest.schema import RECONSTRUCTION, Manifest, Parity, Recompression
from pipelines.plan.plan import make_plan
from pipelines.store import Store
from tests.support import write_manifest

QUALITIES = (60, 85)


def jpeg(pixels: np.ndarray, path: Path, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, "JPEG", **options)
    return path


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Sixteen JPEG files of 64 x 52 px in two qualities and two chromas."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(16):
        options = {"quality": QUALITIES[number % 2], "subsampling": 2 * (number % 2)}
        jpeg(crop(rng, 64)[:52], folder / f"{number}.jpg", **options)
    return folder


@pytest.mark.parametrize("quality", [10, 50, 75, 92, 100])
def test_quality_is_read_from_the_tables(tmp_path: Path, quality: int) -> None:
    picture = crop(np.random.default_rng(1), 64)
    past = read_history(jpeg(picture[:40], tmp_path / "a.jpg", quality=quality, subsampling=1))
    assert (quality_of(past.tables[0]), CHROMA[past.subsampling], past.height, past.width, past.side) == (quality, "4:2:2", 40, 64, 40)


def test_the_standard_table_is_quality_50() -> None:
    assert quality_of(LUMA_TABLE) == 50


def test_a_file_without_compression_has_its_size_alone(tmp_path: Path) -> None:
    Image.fromarray(crop(np.random.default_rng(1), 48)).save(tmp_path / "a.png")
    past = read_history(tmp_path / "a.png")
    assert past.as_data() == {"side": 48}
    picture = crop(np.random.default_rng(2), 32)
    assert with_history(picture, past, Parity(jpeg="reals")) is picture
    assert with_history(picture, past, Parity(sizes="reals")).shape == (48, 48, 3)
    (tmp_path / "b.jpg").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"b\.jpg is not an image"):
        read_history(tmp_path / "b.jpg")


def test_a_past_is_given_at_the_donors_place_in_the_grid(tmp_path: Path) -> None:
    """A picture that has the past already is left as it was: nothing is compressed a second time somewhere else."""
    file = jpeg(crop(np.random.default_rng(3), 90)[:64], tmp_path / "a.jpg", quality=70, subsampling=0)
    past, whole = read_history(file), read_image(file)
    square, aligned = whole[:, 13 : 13 + 64], whole[:, 16 : 16 + 64]  # the centre, which begins within a block, and whole blocks
    kept, moved = (np.abs(with_history(each, past, Parity(jpeg="reals")).astype(int) - each).mean() for each in (square, aligned))
    assert 3 * kept < moved


def test_recompression_draws_by_the_image(tmp_path: Path) -> None:
    picture, asked = crop(np.random.default_rng(4), 64), Recompression(quality=(40, 90))
    assert np.array_equal(recompressed(picture, asked, 7), recompressed(picture, asked, 7))
    assert len({recompressed(picture, asked, seed).tobytes() for seed in range(8)}) > 4


def test_a_build_gives_the_fakes_the_reals_past(tmp_path: Path, manifest_data: dict[str, Any], photographs: Path) -> None:
    manifest_data["reals"] = {"photographs": {"path": str(photographs), "licence": "test"}}
    manifest_data["subsets"] = {"StyleGAN2": {**manifest_data["subsets"]["StyleGAN2"], "real": "photographs", "count": 12}}
    manifest_data["parity"] = {"jpeg": "reals", "sizes": "reals"}
    plan, store = make_plan(load_manifest(write_manifest(tmp_path / "m.yaml", manifest_data))), Store(tmp_path / "store", "tiny")
    run_build(plan, store, "cpu")
    reals, fakes = store.rows("role = 'real'"), store.rows("role = 'final'", images=True)
    given = [row.measures["history"] for row in reals]
    assert {past["quality"] for past in given} == set(QUALITIES)
    assert all(fake.measures["history"] in given for fake in fakes)
    assert len({fake.measures["history"]["quality"] for fake in fakes}) == 2
    plan = make_plan(load_manifest(write_manifest(tmp_path / "n.yaml", {**manifest_data, "parity": {}})))
    other = Store(tmp_path / "other", "tiny")
    run_build(plan, other, "cpu")
    plain = {row.id: row for row in other.rows("role = 'final'", images=True)}
    assert all(np.any(decode(row.image or b"", row.id) != decode(plain[row.id].image or b"", row.id)) for row in fakes)
    assert "history" not in next(iter(plain.values())).measures
    assert [row.sha256 for row in reals] == [row.sha256 for row in other.rows("role = 'real'")]


def test_recompression_is_for_real_and_fake(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    manifest_data["subsets"].pop("DDIM")
    stores = []
    for name, parity in (("with", {"recompress": {"quality": [40, 60]}}), ("without", {})):
        plan = make_plan(load_manifest(write_manifest(tmp_path / f"{name}.yaml", {**manifest_data, "parity": parity})))
        stores.append(Store(tmp_path / name, "tiny"))
        run_build(plan, stores[-1], "cpu")
    images = [{row.id: row.sha256 for row in store.rows("role IN ('real', 'final')")} for store in stores]
    assert images[0].keys() == images[1].keys()
    assert all(images[0][name] != images[1][name] for name in images[0])


def test_reconstructions_are_a_subset_of_their_own(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    manifest_data["subsets"] = {"StyleGAN2": {**manifest_data["subsets"]["StyleGAN2"], "count": 4}}
    manifest_data["parity"] = {"reconstruct": "ldm/ldm-demo-32"}
    manifest = load_manifest(write_manifest(tmp_path / "m.yaml", manifest_data))
    assert manifest.subsets[RECONSTRUCTION].count == 4
    assert Manifest.model_validate(json.loads(json.dumps(manifest.model_dump(mode="json")))) == manifest
    store = Store(tmp_path / "store", "tiny")
    run_build(make_plan(manifest), store, "cpu")
    rows = store.rows(f"subset = '{RECONSTRUCTION}' AND role = 'final'", images=True)
    reals = {row.id: row for row in store.rows("role = 'real'", images=True)}
    assert len(rows) == 4
    for row in rows:
        again, real = decode(row.image or b"", row.id), reals[row.target_id or ""]
        shown = decode(real.image or b"", real.id)
        assert row.split == real.split
        assert 0 < np.abs(again.astype(int) - shown).mean() < np.abs(shown.astype(int) - shown.mean()).mean()


@pytest.mark.parametrize(
    ("parity", "said"),
    [
        ({"reconstruct": "stylegan2/sg2"}, "stylegan2 has no autoencoder"),
        ({"reconstruct": "ldm/nowhere"}, "there is no checkpoint 'nowhere'"),
        ({"recompress": {"quality": [90, 60]}}, "the lower quality comes first"),
        ({"jpg": "reals"}, "Did you mean 'jpeg'"),
    ],
)
def test_what_parity_cannot_be(tmp_path: Path, manifest_data: dict[str, Any], parity: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_manifest(write_manifest(tmp_path / "m.yaml", {**manifest_data, "parity": parity}))
