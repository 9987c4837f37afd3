"""Folders as data, splits, sampling and views."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ntf_model.data.data import FAKE, REAL, DetectionSplits, from_folders, single_split
from ntf_model.data.images import center_crop, read_image, reflect_to
from ntf_model.data.loader import Cached, read_batches
from ntf_model.data.sampling import BalancedBatches
from ntf_model.errors import InputError
from ntf_model.ntf.augment import Augmentation, Views


def save(file: Path, value: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file)


def test_subsets_have_their_own_reals(splits: DetectionSplits) -> None:
    assert splits.train.fake_subsets == ["blocky", "smooth"]
    rows = splits.test.rows_of("smooth")
    assert set(splits.test.subsets[rows].tolist()) == {"smooth", "smooth/real"}
    assert {splits.test.dataset[int(row)].subset for row in rows} == {"smooth", "smooth/real"}


def test_every_picture_is_in_one_split(splits: DetectionSplits) -> None:
    ids = [[split.dataset[row].id for row in range(len(split))] for split in splits]
    assert sum(map(len, ids)) == 96
    assert len({name for part in ids for name in part}) == 96
    for split in splits:
        assert set(Counter(split.labels.tolist())) == {REAL, FAKE}


def test_the_same_folders_give_the_same_splits_and_a_changed_picture_another_digest(tmp_path: Path) -> None:
    for index in range(12):
        for kind in ("real", "fake"):
            save(tmp_path / kind / f"{index}.png", index)
    first = from_folders(tmp_path)
    assert from_folders(tmp_path).digest == first.digest
    save(tmp_path / "fake" / "3.png", 99)
    assert from_folders(tmp_path).digest != first.digest


def test_a_fake_goes_with_the_real_of_its_name(tmp_path: Path) -> None:
    for index in range(20):
        for kind in ("0_real", "1_fake"):
            save(tmp_path / kind / f"{index}.png", index)
    for split in from_folders(tmp_path):
        names = [Path(split.dataset[row].id).stem for row in range(len(split))]
        assert set(Counter(names).values()) == {2}
        assert split.real_of == {"fake": "real"}


def test_given_splits_are_kept(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("val", 3), ("test", 2)):
        for kind in ("real", "fake"):
            for index in range(count):
                save(tmp_path / split / "GAN" / kind / f"{index}.png", index)
    assert [len(split) for split in from_folders(tmp_path)] == [12, 6, 4]


@pytest.mark.parametrize("kinds", [(), ("real",), ("fake",)])
def test_a_missing_class_is_named(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        for index in range(6):
            save(tmp_path / kind / f"{index}.png")
    with pytest.raises(InputError, match=r"real|fake"):
        from_folders(tmp_path)


def test_one_split_may_hold_fakes_alone(tmp_path: Path) -> None:
    save(tmp_path / "fake" / "a.png")
    assert single_split(tmp_path).labels.tolist() == [FAKE]


def test_only_keeps_the_test_split(splits: DetectionSplits) -> None:
    part = splits.only(["smooth"])
    assert part.train.fake_subsets == part.validation.fake_subsets == ["smooth"]
    assert part.test.fake_subsets == ["blocky", "smooth"]
    with pytest.raises(InputError, match="no subset 'sharp'"):
        splits.only(["sharp"])


def test_small_pictures_are_reflected_not_resized() -> None:
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    grown = reflect_to(image, 8)
    assert grown.shape == (8, 8, 3)
    assert np.array_equal(grown[2:6, 1:6], image)
    assert np.array_equal(center_crop(image, 4), image[:, 0:4])


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    with pytest.raises(InputError, match=r"broken\.png"):
        read_image(file)
    with pytest.raises(InputError, match="there is no file"):
        read_image(tmp_path / "absent.png")


def test_a_truncated_picture_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:-600])
    with pytest.raises(InputError, match=r"cut\.jpg"):
        read_image(file)


def test_batches_are_balanced(splits: DetectionSplits) -> None:
    batches = BalancedBatches(splits.train, 8, seed=0, epoch=0)
    for draws in batches:
        labels = splits.train.labels[[draw.row for draw in draws]]
        assert Counter(labels.tolist()) == {REAL: 4, FAKE: 4}
        names = Counter(splits.train.subsets[[draw.row for draw in draws]].tolist())
        assert set(names.values()) == {2}


def test_an_uneven_subset_counts_as_much_as_the_others(splits: DetectionSplits) -> None:
    train = splits.train
    fakes = np.flatnonzero((train.labels == FAKE) & (train.subsets == "smooth"))
    uneven = train.take(np.setdiff1d(np.arange(len(train)), fakes[3:]))
    rows = BalancedBatches(uneven, 8, seed=0, epoch=0).rows()
    counts = Counter(uneven.subsets[rows[uneven.labels[rows] == FAKE]].tolist())
    assert abs(counts["smooth"] - counts["blocky"]) <= 1


def test_each_fake_is_drawn_beside_a_real_of_its_own_source(splits: DetectionSplits) -> None:
    subsets = np.array(["faces"] * 6 + ["photos"] * 6 + ["A"] * 4 + ["B"] * 4 + ["C"] * 4)
    labels = np.repeat([REAL, FAKE], 12)
    data = replace(
        splits.train.take(np.arange(24) % len(splits.train)),
        labels=labels,
        subsets=subsets,
        real_of={"A": "faces", "B": "faces", "C": ("photos",)},
    )
    rows = BalancedBatches(data, 6, seed=0, epoch=0).rows()
    reals, fakes = rows[labels[rows] == REAL], rows[labels[rows] == FAKE]
    assert len(reals) == len(fakes) == 12
    assert [data.sources_of(name)[0] for name in subsets[fakes]] == subsets[reals].tolist()
    assert Counter(subsets[reals].tolist()) == {"faces": 8, "photos": 4}
    alone = BalancedBatches(data, 6, seed=0, epoch=0, labels=(REAL,)).rows()
    assert Counter(subsets[alone].tolist()) == {"faces": 6, "photos": 6}


def test_processes_share_a_batch_and_a_restart_goes_on(splits: DetectionSplits) -> None:
    whole = list(BalancedBatches(splits.train, 8, seed=1, epoch=2))
    parts = [list(BalancedBatches(splits.train, 8, seed=1, epoch=2, rank=rank, world_size=2)) for rank in (0, 1)]
    assert whole == [first + second for first, second in zip(*parts, strict=True)]
    assert whole[3:] == list(BalancedBatches(splits.train, 8, seed=1, epoch=2, start=3))
    assert whole != list(BalancedBatches(splits.train, 8, seed=1, epoch=3))
    with pytest.raises(InputError, match="cannot be shared"):
        BalancedBatches(splits.train, 7, seed=1, epoch=0, world_size=2)


def test_views_follow_from_the_draw_whatever_the_threads(splits: DetectionSplits) -> None:
    views = Views(Cached(splits.train.dataset), Augmentation(blur=0.5, jpeg=0.5).view, 16, views=2)
    batches = list(BalancedBatches(splits.train, 8, seed=0, epoch=0))
    by_one, by_four = ([batch.pixels for batch in read_batches(views, batches, threads)] for threads in (1, 4))
    assert all(a.equal(b) for a, b in zip(by_one, by_four, strict=True))
    assert by_one[0].shape == (8, 2, 3, 16, 16)
    assert not by_one[0][:, 0].equal(by_one[0][:, 1])


def test_plain_augmentation_only_crops_and_flips() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    for seed in range(20):
        view = Augmentation().view(image, 8, np.random.default_rng(seed))
        windows = [image[top : top + 8, left : left + 8] for top in range(5) for left in range(5)]
        assert any(np.array_equal(view, window) or np.array_equal(view, window[:, ::-1]) for window in windows)


def test_an_unreadable_picture_stops_the_batch_with_its_name(tmp_path: Path) -> None:
    for index in range(12):
        for kind in ("real", "fake"):
            save(tmp_path / kind / f"{index}.png", index)
    for file in (tmp_path / "fake").iterdir():
        file.write_bytes(b"no picture")
    split = from_folders(tmp_path).train
    with pytest.raises(InputError, match=r"fake/\d+\.png"):
        list(read_batches(Views(split.dataset, Augmentation().view, 8), BalancedBatches(split, 4, 0, 0)))
