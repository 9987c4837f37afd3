"""Folders as data, splits, sampling and views."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ntf_model.data.data import FAKE, REAL, DetectionSplits, from_folders, single_split
from ntf_model.data.images import center_crop, read_image, reflect_to
from ntf_model.data.loader import Cached, read_batches
from ntf_model.data.reading.labels import LabelRule
from ntf_model.data.sampling import BalancedBatches
from ntf_model.data.sources import evaluation_data
from ntf_model.errors import InputError
from ntf_model.ntf.augment import Augmentation, Views


def save(file: Path, value: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((8, 8, 3), value, np.uint8)
    pixels[0, 0, 0] = zlib.crc32("/".join(file.parts[-4:]).encode()) % 256  # no picture is another one's copy
    pixels[0, 1, 0] = zlib.crc32("/".join(file.parts[-4:]).encode()) // 256 % 256
    Image.fromarray(pixels).save(file)


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
    assert len(BalancedBatches(splits.train, 8, seed=1, epoch=2, start=3)) == len(whole) - 3
    seeds = [draw.seed for batch in whole for draw in batch]
    assert len(set(seeds)) == len(seeds) and max(seeds) > 2**62, "no two pictures of an epoch are varied alike"
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


def write_classes(folder: Path, count: int = 6, names: tuple[str, str] = ("real", "fake"), start: int = 0) -> Path:
    for name in names:
        for index in range(start, start + count):
            save(folder / name / f"{index:03d}.png", index % 256)
    return folder


@pytest.mark.parametrize("splits_named", [("Train", "Validation", "Test"), ("TRAINING", "val", "Testing"), ("train", "Dev", "test")])
@pytest.mark.parametrize("classes", [("REAL", "FAKE"), ("nature", "ai"), ("0_real", "1_fake"), ("original", "Manipulated")])
def test_splits_and_classes_in_any_case(tmp_path: Path, splits_named: tuple[str, ...], classes: tuple[str, str]) -> None:
    """det/06."""
    for number, name in enumerate(splits_named):
        write_classes(tmp_path / name, 3 + number, classes)
    splits = from_folders(tmp_path)
    assert [len(split) for split in splits] == [6, 8, 10]
    assert [split.fake_subsets for split in splits] == [["fake"]] * 3
    assert [name.split("/")[0] for name in splits.test.picture_ids()] == [splits_named[2]] * 10


def test_splits_below_the_class_or_the_subset(tmp_path: Path) -> None:
    for split, count in (("train", 5), ("val", 4), ("test", 3)):
        write_classes(tmp_path / "a" / "sd" / split, count, ("nature", "ai"))
        for kind in ("real", "fake"):
            for index in range(count):
                save(tmp_path / "b" / kind / split / f"{index}.png", index)
    below_subset, below_class = from_folders(tmp_path / "a"), from_folders(tmp_path / "b")
    assert [len(split) for split in below_subset] == [len(split) for split in below_class] == [10, 8, 6]
    assert below_subset.test.fake_subsets == ["sd"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train", "test", "holdout"), r"the folder 'holdout' in .* is no split that is known"),
        (("train", "val"), "has the splits train and validation, but no test split"),
        (("train_set", "test_set"), "'test_set'.* is no split that is known"),
        (("train", "val", "valid", "test"), None),
    ],
)
def test_splits_that_are_not_certain(tmp_path: Path, names: tuple[str, ...], message: str | None) -> None:
    for number, name in enumerate(names):
        write_classes(tmp_path / name, 3, start=10 * number)
    if message:
        with pytest.raises(InputError, match=message):
            from_folders(tmp_path)
    else:
        assert [len(split) for split in from_folders(tmp_path)] == [6, 12, 6]


def test_hidden_and_foreign_folders_are_left_out_and_said(tmp_path: Path) -> None:
    """det/17."""
    write_classes(tmp_path)
    write_classes(tmp_path / ".snapshot" / "daily.0")
    save(tmp_path / "real" / "@eaDir" / "000.png" / "SYNOPHOTO_THUMB_S.jpg")
    (tmp_path / "real" / "._001.png").write_bytes(b"\0\5\26\7")
    (tmp_path / "fake" / "list.txt").write_text("x")
    (tmp_path / "fake" / "linked").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "fake" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "fake" / "pipe.png")
    data = single_split(tmp_path)
    assert len(data) == 12
    assert data.notes == (
        f"{tmp_path}: 18 files are left out (1 .txt, 1 hidden, 1 in @eaDir, 12 in a hidden folder, 1 link to a folder, 1 link to nothing, "
        "1 pipe or device)",
    )


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("fake/real/x.png", "lies in folders of both classes"),
        ("other/x.png", "lies in no folder of a class"),
        ("x.png", r"x\.png lies in no folder of a class"),
    ],
)
def test_a_picture_has_one_class(tmp_path: Path, where: str, message: str) -> None:
    save(write_classes(tmp_path) / where, 77)
    with pytest.raises(InputError, match=message):
        single_split(tmp_path)


def test_unknown_pairs_of_names_are_answered_with_those_that_are_known_and_can_be_named(tmp_path: Path) -> None:
    write_classes(tmp_path, 8, ("cats", "dogs"))
    with pytest.raises(InputError, match=r"it has the folders cats, dogs.*for real: real.*for fake: fake.*--labels real=NAME"):
        from_folders(tmp_path)
    data = single_split(tmp_path, labels=LabelRule.parse("real=dogs,fake=cats"))
    assert {name.split("/")[0] for name in data.ids[data.labels == FAKE]} == {"cats"}
    write_classes(tmp_path / "third", 2, ("birds",))
    with pytest.raises(InputError, match="lie in no folder of a class"):
        single_split(tmp_path, labels=LabelRule.parse("real=dogs,fake=cats"))


def test_the_same_picture_in_both_classes_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path)
    (tmp_path / "fake" / "copy.png").write_bytes((tmp_path / "real" / "003.png").read_bytes())
    with pytest.raises(InputError, match=r"real/003\.png is real and fake/copy\.png is fake, but they are the same picture"):
        single_split(tmp_path)


def test_test_pictures_that_were_trained_on_are_said(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        write_classes(tmp_path / split, 3)
    (tmp_path / "test" / "fake" / "x.png").write_bytes((tmp_path / "train" / "fake" / "000.png").read_bytes())
    assert "1 pictures of the test split are in training or validation too: the figures are too good" in from_folders(tmp_path).notes


def test_frames_of_a_video_are_never_divided(tmp_path: Path) -> None:
    for kind in ("real", "fake"):
        for video in range(10):
            for frame in range(4):
                save(tmp_path / kind / f"v{video}" / f"{frame}.png", 10 * video + frame)
    splits = from_folders(tmp_path)
    videos = [{name.split("/")[1] for name in split.picture_ids()} for split in splits]
    assert [len(split) for split in splits] == [48, 16, 16]
    assert not videos[0] & videos[1] and not videos[0] & videos[2] and not videos[1] & videos[2]
    assert any("kept together in one split: 80 pictures by folder (10 groups)" in note for note in splits.notes)


def test_a_folder_is_evaluated_on_its_test_split_on_what_training_set_apart_or_whole(tmp_path: Path) -> None:
    whole = write_classes(tmp_path / "whole", 20)
    trained = from_folders(whole)
    facts = [(str(whole.resolve()), trained.train.origin["folder_digest"])]
    assert evaluation_data(whole, trained=facts).test.digest == trained.test.digest
    assert evaluation_data(whole, trained=facts).validation.digest == trained.validation.digest
    alone = evaluation_data(whole)
    assert (len(alone.test), alone.validation) == (40, None)
    assert alone.said == f"all of the 40 pictures of {whole}, which has no split folders"
    save(whole / "real" / "new.png", 3)
    with pytest.raises(InputError, match="has changed since"):
        evaluation_data(whole, trained=facts)
    for split, count in (("train", 4), ("val", 3), ("test", 2)):
        write_classes(tmp_path / "split" / split, count)
    chosen = evaluation_data(tmp_path / "split")
    assert (len(chosen.test), len(chosen.validation), len(chosen.others)) == (4, 6, 18)
    write_classes(tmp_path / "none" / "train", 4)
    with pytest.raises(InputError, match="but no test split"):
        evaluation_data(tmp_path / "none")


def test_a_plain_class_name_goes_before_another_one(tmp_path: Path) -> None:
    """`nature/fake`: fakes of nature, and not pictures of both classes."""
    write_classes(tmp_path / "nature")
    write_classes(tmp_path / "AI")
    data = single_split(tmp_path)
    assert sorted(data.fake_subsets) == ["AI", "nature"]
    assert Counter(data.labels.tolist()) == {REAL: 12, FAKE: 12}
