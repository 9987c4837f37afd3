"""Batches of pairs: each fake beside the very real picture that it was made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ntf_model.data.data import FAKE, REAL, DetectionData, DetectionSplits, from_folders
from ntf_model.data.rows import from_rows
from ntf_model.data.sampling import BalancedBatches
from ntf_model.errors import InputError


def paired(splits: DetectionSplits, known: int = 9) -> DetectionData:
    """Twelve reals and twelve fakes, of which the first `known` were made from the reals in backward order."""
    labels = np.repeat([REAL, FAKE], 12)
    ids = np.array([f"real/{number}" for number in range(12)] + [f"fake/{number}" for number in range(12)])
    originals = np.array([""] * 12 + [f"real/{11 - number}" if number < known else "" for number in range(12)])
    data = splits.train.take(np.arange(24) % len(splits.train))
    subsets = np.array(["faces"] * 12 + ["A"] * 12)
    return replace(data, labels=labels, subsets=subsets, real_of={"A": "faces"}, ids=ids, originals=originals)


def test_every_fake_stands_beside_its_own_real_and_is_varied_alike(splits: DetectionSplits) -> None:
    data = paired(splits)
    seen = set()
    for batch in BalancedBatches(data, 8, seed=0, epoch=0, pairs=True):
        for real, fake in zip(batch[::2], batch[1::2], strict=True):
            assert (data.labels[real.row], data.labels[fake.row]) == (REAL, FAKE)
            assert real.seed == fake.seed
            if fake.row < 12 + 9:
                assert real.row == 11 - (fake.row - 12)
            seen.add(fake.row)
    assert seen == set(range(12, 24)), "fakes whose real nobody knows are drawn too"


def test_without_pairs_nothing_changes_and_with_them_the_fakes_are_the_same(splits: DetectionSplits) -> None:
    data = paired(splits)
    plain, pairs = (BalancedBatches(data, 8, seed=3, epoch=1, pairs=asked) for asked in (False, True))
    assert plain.rows()[1::2].tolist() == pairs.rows()[1::2].tolist()
    assert plain.rows()[::2].tolist() != pairs.rows()[::2].tolist()
    assert plain.rows().tolist() == BalancedBatches(replace(data, originals=None), 8, seed=3, epoch=1).rows().tolist()


def test_processes_keep_pairs_whole_and_a_restart_goes_on(splits: DetectionSplits) -> None:
    data = paired(splits)
    whole = list(BalancedBatches(data, 8, seed=1, epoch=2, pairs=True))
    parts = [list(BalancedBatches(data, 8, seed=1, epoch=2, rank=rank, world_size=2, pairs=True)) for rank in (0, 1)]
    assert whole == [first + second for first, second in zip(*parts, strict=True)]
    assert whole[2:] == list(BalancedBatches(data, 8, seed=1, epoch=2, start=2, pairs=True))
    with pytest.raises(InputError, match="cuts a pair in two"):
        BalancedBatches(data, 6, seed=1, epoch=2, world_size=2, pairs=True)


def test_pairs_that_cannot_be_made_are_refused(splits: DetectionSplits) -> None:
    with pytest.raises(InputError, match="known to be made from a real"):
        BalancedBatches(paired(splits, known=0), 8, seed=0, epoch=0, pairs=True)
    with pytest.raises(InputError, match="known to be made from a real"):
        BalancedBatches(replace(paired(splits), originals=None), 8, seed=0, epoch=0, pairs=True)
    with pytest.raises(InputError, match="one class alone"):
        BalancedBatches(paired(splits), 8, seed=0, epoch=0, labels=(REAL,), pairs=True)


def test_a_part_of_the_data_keeps_its_pairs(splits: DetectionSplits) -> None:
    part = paired(splits).take([12, 11, 13, 0])
    assert part.original_rows().tolist() == [1, -1, -1, -1], "the real of the third is not in this part"


def picture(file: Path, value: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file)


def test_in_folders_the_real_of_one_name_is_the_real_of_a_fake(tmp_path: Path) -> None:
    value = iter(range(250))
    for split in ("train", "test"):
        for name in ("a", "b", "c"):
            picture(tmp_path / split / "real" / f"{name}.png", next(value))
            picture(tmp_path / split / "fake" / f"{name}.png", next(value))
        picture(tmp_path / split / "fake" / "alone.png", next(value))
        for ending in ("png", "bmp"):  # two reals of one name: nobody knows which
            picture(tmp_path / split / "real" / f"twice.{ending}", next(value))
        picture(tmp_path / split / "fake" / "twice.png", next(value))
    test = from_folders(tmp_path).test
    assert test.ids is not None and test.originals is not None
    pairs = {str(test.ids[row]): str(test.originals[row]) for row in range(len(test)) if test.labels[row] == FAKE}
    named = {f"test/fake/{name}.png": f"test/real/{name}.png" for name in ("a", "b", "c")}
    assert pairs == {**named, "test/fake/alone.png": "", "test/fake/twice.png": ""}
    assert (test.original_rows() >= 0).sum() == 3


def test_rows_name_the_real_by_its_id() -> None:
    def rows(start: int) -> list[dict[str, object]]:
        pixels = [Image.fromarray(np.full((8, 8, 3), start + number, np.uint8)) for number in range(4)]
        names = [("r0", None), ("f0", "r1"), ("r1", None), ("f1", "nobody")]
        return [
            {"image": image, "label": int(name[0] == "f"), "subset": "A" if name[0] == "f" else "faces", "id": f"{start}{name}",
             "target_id": target and f"{start}{target}"}
            for image, (name, target) in zip(pixels, names, strict=True)
        ]  # fmt: skip

    splits = from_rows({"train": rows(0), "validation": rows(50), "test": rows(100)})
    assert splits.train.original_rows().tolist() == [-1, 2, -1, -1]
