"""Each recipe through a build: what comes out is made from the real that its row names, and is made again to the bit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generators.demo.pictures import distinct_crops, held_out_pictures
from pipelines.build.build import run_build, status
from pipelines.examine.verify import verify
from pipelines.images import decode, fit, read_image
from pipelines.make.past import compressed_as, read_history
from pipelines.make.regions.aligning import mix_frequencies, mix_pixels
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import Plan, make_plan
from pipelines.store import Row, Store
from tests.support import write_manifest

VQ = "vqgan/vqgan-demo-32"
COUNT = 6


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty JPEG files of 32 px, half of them with full chroma."""
    folder: Path = tmp_path_factory.mktemp("photographs")
    for number, (_, cut) in enumerate(distinct_crops(held_out_pictures("photos"), 30, seed=0)):
        square = Image.fromarray(fit(np.asarray(cut), 32))
        square.save(folder / f"{number:02d}.jpg", quality=40 + number, subsampling=0 if number % 2 else 2)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> tuple[Plan, Store]:
    folder: Path = tmp_path_factory.mktemp("recipes")
    always = {"pixels": {"real": [0.3, 0.3]}, "frequency": {"real": [0.6, 0.6], "above": 0.5}}
    parts = {
        "Aligned": {"recipe": "aligned", "by": VQ},
        "DDA": {"recipe": "dda", "by": VQ},
        "Compressed": {"recipe": "dda", "by": VQ, "parameters": {"real_jpeg": 1.0, "mix": None}},
        "Mixed": {"recipe": "dda", "by": VQ, "parameters": {"real_jpeg": None, "mix": always}},
        "DRCT": {"recipe": "drct", "by": "ldm/ldm-demo-32", "parameters": {"steps": 2}},
        "REM": {"recipe": "rem", "by": VQ, "parameters": {"latent_noise": 0.5}},
        "RemLDM": {"recipe": "rem", "by": "ldm/ldm-demo-32"},
        "BFree": {"recipe": "bfree", "by": "stable_diffusion/stable-diffusion-demo-32", "parameters": {"steps": 2}},
    }
    data = {
        "dataset": "recipes",
        "size": 32,
        "shard_size": 1,  # a batch of one, as images are made again: another batch may move a pixel by one grey level
        "audit": {"gate": False},
        "reals": {"photos": {"path": str(photographs), "licence": "test"}},
        "subsets": {name: {"count": COUNT, "real": "photos", **part} for name, part in parts.items()},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NTF_ALLOW_OUTSIDE", "1")
        plan, store = make_plan(load_manifest(write_manifest(folder / "m.yaml", data))), Store(folder / "store", "recipes")
        assert run_build(plan, store, "cpu").short == {}
    return plan, store


def pictures(store: Store, subset: str) -> dict[str, tuple[Row, np.ndarray]]:
    """The final images of a subset by the id of the real that each was made from."""
    rows = [row for row in store.rows(images=True) if row.role == "final" and row.subset == subset]
    return {row.target_id or "": (row, decode(row.image or b"", row.id)) for row in rows}


def real(plan: Plan, name: str) -> np.ndarray:
    image = plan.real_image(name)
    assert image is not None
    return image.load()


@pytest.mark.slow
def test_every_fake_names_its_real_of_its_own_split_and_no_real_is_taken_twice(built: tuple[Plan, Store]) -> None:
    plan, store = built
    rows = {row.id: row for row in store.rows()}
    for subset in plan.manifest.subsets:
        fakes = [row for row in rows.values() if row.role == "final" and row.subset == subset]
        assert len(fakes) == COUNT
        for row in fakes:
            assert row.target_id == row.chain[0]["target"]
            assert plan.real_image(row.target_id).split == row.split  # type: ignore[union-attr]
        for split in ("train", "validation", "test"):
            times = Counter(row.target_id for row in fakes if row.split == split)
            pool = sum(image.split == split for image in plan.pools["photos"].images)
            assert not times or (max(times.values()) - min(times.values()) <= 1 and (max(times.values()) == 1 or len(times) == pool))
    assert status(plan, store).missing == ()


@pytest.mark.slow
def test_every_recipe_is_made_again_to_the_bit(built: tuple[Plan, Store]) -> None:
    _, store = built
    remade = verify(store, sample=8 * COUNT).remade
    assert len(remade) == 8 * COUNT
    assert set(remade.values()) == {"bit-exact"}


@pytest.mark.slow
def test_the_reals_own_jpeg_is_in_the_fake(built: tuple[Plan, Store]) -> None:
    """The same seeds draw the same targets, so that the subsets differ only in what is done to the reconstruction."""
    plan, store = built
    for name, (row, pixels) in pictures(store, "Compressed").items():
        image = plan.real_image(name)
        assert image is not None and image.file is not None
        history = read_history(image.file)
        plain = _reconstructed(plan, image.load())
        assert np.array_equal(pixels, compressed_as(plain, history, (0, 0)))
        assert not np.array_equal(pixels, plain)
        assert row.measures["alignment"] == {"jpeg": int(image.file.stem) + 40}
        assert row.chain[0]["real_jpeg"] == 1.0


@pytest.mark.slow
def test_the_real_is_mixed_into_pixels_and_frequencies(built: tuple[Plan, Store]) -> None:
    plan, store = built
    for name, (row, pixels) in pictures(store, "Mixed").items():
        plain = _reconstructed(plan, real(plan, name))
        assert np.array_equal(pixels, mix_frequencies(mix_pixels(plain, real(plan, name), 0.3), real(plan, name), 0.6, 0.5))
        assert row.measures["alignment"] == {"real_in_pixels": 0.3, "real_in_frequency": 0.6}
    done = [row.measures["alignment"] for row, _ in pictures(store, "DDA").values()]
    assert any("jpeg" in entry for entry in done) and not all("jpeg" in entry for entry in done)


@pytest.mark.slow
def test_an_empty_mask_makes_the_whole_picture_anew(built: tuple[Plan, Store]) -> None:
    plan, store = built
    empty = 0
    for name, (row, pixels) in pictures(store, "BFree").items():
        mask = decode(row.mask or b"", row.id)[..., 0] > 127
        changed = (pixels != real(plan, name)).any(-1)
        assert row.measures["mask_share"] == pytest.approx(mask.mean(), abs=1e-3)
        if row.measures.get("empty_mask"):
            empty += 1
            assert mask.all() and changed.mean() > 0.5
        else:
            assert mask.any() and not mask.all() and not changed[~mask].any() and changed[mask].any()
    assert 0 < empty < COUNT


@pytest.mark.slow
def test_noise_on_the_latents_moves_the_reconstruction(built: tuple[Plan, Store]) -> None:
    plan, store = built
    for name, (row, pixels) in pictures(store, "REM").items():
        plain = _reconstructed(plan, real(plan, name)).astype(int)
        assert 0.5 < np.abs(pixels - plain).mean() < 60
        assert row.chain[0]["parameters"]["latent_noise"] == 0.5
    assert all("latent_noise" not in row.chain[0]["parameters"] for row, _ in pictures(store, "Aligned").values())


def test_mixing_all_frequencies_is_mixing_pixels() -> None:
    """The DCT is linear: only a bound on the frequency makes the two differ."""
    rng = np.random.default_rng(0)
    fake, target = (rng.integers(0, 256, (31, 20, 3), dtype=np.uint8) for _ in range(2))
    everything = mix_frequencies(fake, target, 0.4, above=0.0)
    assert np.abs(everything.astype(int) - mix_pixels(fake, target, 0.4)).max() <= 1
    high = mix_frequencies(fake, target, 0.4, above=0.5)
    assert np.abs(high.astype(int) - everything).max() > 20
    assert np.abs(high.mean((0, 1)) - fake.mean((0, 1))).max() < 2, "the mean is a low frequency"
    assert np.array_equal(mix_pixels(fake, target, 0.0), fake) and np.array_equal(mix_frequencies(fake, target, 0.0, 0.25), fake)


def _reconstructed(plan: Plan, pixels: np.ndarray) -> np.ndarray:
    from generators.loading import load_generator

    generator = load_generator("vqgan", plan.catalogue.checkpoint("vqgan-demo-32"), "cpu")
    return generator.edit(fit(pixels, 32)[None], [0])[0]


def test_the_photographs_are_what_the_tests_say(photographs: Path) -> None:
    assert {read_image(file).shape for file in photographs.iterdir()} == {(32, 32, 3)}
