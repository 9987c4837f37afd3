"""Splits by the names of folders, and groups that stay in one split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntf_model.data.reading.grouping import Entry, divide, group_entries
from ntf_model.data.reading.labels import FAKE, REAL
from ntf_model.data.reading.split_names import SPLIT_NAMES, by_split, looks_like_a_split, split_level, split_of
from ntf_model.errors import InputError

ROOT = Path("/data")


def entries(*paths: str) -> list[Entry]:
    """`CLASS/folder/.../NAME.png` as entries of one subset."""
    listed = []
    for path in paths:
        kind, *below, _ = path.split("/")
        listed.append(Entry(ROOT / path, FAKE if kind == "fake" else REAL, kind, path, None, tuple(below)))
    return listed


def above(*parts: str) -> list[tuple[int, str, bool]]:
    return [(depth, name, True) for depth, name in enumerate(parts)]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Training", "train"), ("VAL", "validation"), ("valid", "validation"), ("Dev", "validation"),
        ("validation", "validation"), ("TEST", "test"), ("testing", "test"), (" Test ", "test"),
        ("tests", None), ("train2", None), ("", None),
    ],
)  # fmt: skip
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_of(name) == split


@given(st.sampled_from([(name, split) for split, names in SPLIT_NAMES.items() for name in names]), st.data())
def test_a_split_has_its_name_in_any_case(named: tuple[str, str], data: st.DataObject) -> None:
    name, split = named
    upper = data.draw(st.lists(st.booleans(), min_size=len(name), max_size=len(name)))
    written = "".join(letter.upper() if up else letter for letter, up in zip(name, upper, strict=True))
    assert split_of(written) == split
    assert looks_like_a_split(f"{written}_2")


@pytest.mark.parametrize("name", ["train2", "test-hard", "my_train", "holdout", "Evaluation", "trainval", "val1", "fold_1", "split1"])
def test_names_that_look_like_splits(name: str) -> None:
    assert looks_like_a_split(name)
    assert split_of(name) is None
    with pytest.raises(InputError, match=name):
        split_level([above(name), above("GAN")], "d")


@pytest.mark.parametrize("name", ["trainer", "attest", "devil", "SDXL", "LDM", "valley"])
def test_names_that_do_not(name: str) -> None:
    assert split_level([above(name)], "d") is None


def test_splits_may_lie_at_any_depth_but_at_one() -> None:
    assert split_level([above("Train", "GAN"), above("test", "GAN")], "d") == 0
    assert split_level([above("GAN", "train"), above("DM", "test")], "d") == 1
    assert split_level([above("GAN"), above("DM")], "d") is None
    assert split_level([above("test", "progan", "train"), above("test", "progan", "cat")], "d") == 0  # a category of ForenSynths
    assert split_level([[(1, "train", False)], [(1, "test", False)]], "d") == 1  # below the class
    for folders, message in (
        ([above("train"), above("test"), above("extra")], "has the split 'test' beside 'extra', which is none"),
        ([above("train"), above()], "the folder 'train' in d is a split, and not all pictures lie in one"),
        ([above("train", "test"), above("test", "train")], "splits at two depths"),
    ):
        with pytest.raises(InputError, match=message):
            split_level(folders, "d")


def test_parts_of_a_dataset_are_splits_or_refused() -> None:
    assert by_split(["Train", "dev", "testing"], "d") == {"train": "Train", "validation": "dev", "test": "testing"}
    with pytest.raises(InputError, match="two splits for validation: 'val' and 'dev'"):
        by_split(["val", "dev"], "d")
    with pytest.raises(InputError, match="the split 'extra' of d is not known"):
        by_split(["train", "extra"], "d")


def groups_of(*paths: str, how: str = "auto") -> list[str]:
    return group_entries(entries(*paths), ROOT, how).groups


def test_frames_of_a_video_stay_together_by_folder_or_by_name() -> None:
    by_folder = [f"real/video{video}/{frame}.png" for video in "abc" for frame in range(3)]
    assert Counter(groups_of(*by_folder)) == {"videoa": 3, "videob": 3, "videoc": 3}
    by_name = [f"real/id{person}_{frame:04d}.png" for person in range(3) for frame in range(3)]
    assert Counter(groups_of(*by_name)) == {"id0": 3, "id1": 3, "id2": 3}
    words = [f"real/{person}_frame{frame}.png" for person in "abcdefgh" for frame in range(2)]
    assert set(groups_of(*words)) == set("abcdefgh")
    bracketed = [f"real/clip {video} ({frame}).png" for video in range(3) for frame in range(3)]
    assert Counter(groups_of(*bracketed)) == {"clip 0": 3, "clip 1": 3, "clip 2": 3}
    frame_first = [f"real/frame{frame:03d}_id{person}.png" for person in range(3) for frame in range(4)]
    assert Counter(groups_of(*frame_first)) == {"id0": 4, "id1": 4, "id2": 4}
    assert "kept together in one split: 9 pictures by folder (3 groups)" in group_entries(entries(*by_folder), ROOT).note


def test_a_common_beginning_is_no_group() -> None:
    """Or every picture would be in the same one."""
    assert groups_of(*[f"fake/fake_{number}.png" for number in range(20)]) == [f"fake_{number}" for number in range(20)]
    sources = [f"fake/{source}_{number}.png" for source in ("biggan", "sd") for number in range(5)]
    assert len(set(groups_of(*sources))) == 10
    assert groups_of("real/a.png", "real/b.png") == ["a", "b"]
    assert groups_of("real/all/a.png", "real/all/b.png") == ["a", "b"]  # one folder says nothing


def test_two_folders_or_two_beginnings_are_not_certain() -> None:
    with pytest.raises(InputError, match="are the folders x and y two videos or people"):
        groups_of("real/x/1.png", "real/y/2.png")
    with pytest.raises(InputError, match="frames of two videos"):
        groups_of("real/v1_1.png", "real/v1_2.png", "real/v2_1.png", "real/v2_2.png")
    assert groups_of("real/x/1.png", "real/y/2.png", how="none") == ["1", "2"]
    assert groups_of("real/x/1.png", "real/y/2.png", how="folders") == ["x", "y"]
    assert groups_of("real/v1_1.png", "real/v1_2.png", "real/v2_1.png", how="names") == ["v1", "v1", "v2"]


def test_numbered_folders_of_an_import_are_no_videos() -> None:
    assert len(set(groups_of("real/0000/00000001.png", "real/0001/00001002.png", "real/0002/00002003.png"))) == 3
    assert len(set(groups_of("real/01000/01001.png", "real/02000/02002.png", "real/00000/00003.png"))) == 3
    assert set(groups_of("real/000/0001.png", "real/001/0001.png", "real/002/0001.png")) == {"000", "001", "002"}


def test_a_list_says_what_stays_together(tmp_path: Path) -> None:
    file = tmp_path / "groups.csv"
    file.write_text("picture,group\nreal/a.png,p\nb.png,p\nfake/c.png,q\n")
    assert groups_of("real/a.png", "real/b.png", "fake/c.png", how=str(file)) == ["p", "p", "q"]
    with pytest.raises(InputError, match=r"has no group for real/d\.png"):
        groups_of("real/a.png", "real/b.png", "fake/c.png", "real/d.png", how=str(file))
    with pytest.raises(InputError, match="which no picture is called"):
        groups_of("real/a.png", "real/b.png", how=str(file))
    file.write_text("picture,group\n")
    with pytest.raises(InputError, match="a header and nothing else"):
        groups_of("real/a.png", how=str(file))
    file.write_bytes("./real/a\u0308.png;p\r\nb.png;q\r\n".encode("utf-8-sig"))
    assert groups_of("real/\u00e4.png", "real/b.png", how=str(file)) == ["p", "q"]
    assert groups_of("real/a\u0308.png", "real/b.png", how=str(file)) == ["p", "q"]


def test_identities_of_an_import_stay_together(tmp_path: Path) -> None:
    (tmp_path / "real-identities.csv").write_text("0000/00000000.png,ann\n0000/00000001.png,bob\n0000/00000002.png,ann\n")
    listed = [
        Entry(tmp_path / "real" / "0000" / f"{number:08d}.png", REAL, "real", f"real/0000/{number:08d}.png", None, ("0000",))
        for number in range(3)
    ]
    assert group_entries(listed, tmp_path).groups == ["ann", "bob", "ann"]


@given(st.lists(st.tuples(st.sampled_from(["real", "fake"]), st.integers(0, 30), st.integers(0, 5)), unique=True), st.integers(0, 5))
def test_no_group_is_divided_and_nothing_is_lost(pictures: list[tuple[str, int, int]], seed: int) -> None:
    listed = entries(*[f"{kind}/p{person}/{frame}.png" for kind, person, frame in pictures])
    groups = [entry.below[0] for entry in listed]
    parts = divide(listed, groups, (0.15, 0.15), seed)
    assert sorted(entry.id for part in parts for entry in part) == sorted(entry.id for entry in listed)
    people = [{entry.below[0] for entry in part} for part in parts]
    assert not (people[0] & people[1] or people[0] & people[2] or people[1] & people[2])
    assert divide(listed[::-1], groups[::-1], (0.15, 0.15), seed) == parts


def test_shares_are_those_that_were_asked_for_in_each_class() -> None:
    listed = entries(*[f"real/p{person}/{frame}.png" for person in range(20) for frame in range(2)], *[f"fake/{n}.png" for n in range(40)])
    groups = ["/".join(entry.below) or entry.file.stem for entry in listed]
    parts = divide(listed, groups, (0.15, 0.2), 0)
    people = [len({group for entry, group in zip(listed, groups, strict=True) if entry in part and entry.label == REAL}) for part in parts]
    assert people == [13, 3, 4]
    assert [sum(entry.label != REAL for entry in part) for part in parts] == [26, 6, 8]
    assert [len(part) for part in divide(listed, groups, (0.0, 0.5), 0)] == [40, 0, 40]
    assert parts != divide(listed, groups, (0.15, 0.2), 1)
    three = entries("real/a.png", "real/b.png", "real/c.png")
    assert [len(part) for part in divide(three, ["a", "b", "c"], (0.1, 0.1), 0)] == [1, 1, 1], "each split that is asked for gets one"
    assert [len(part) for part in divide(three[:2], ["a", "b"], (0.1, 0.1), 0)] == [2, 0, 0], "two cannot be divided into three"


def test_folders_of_a_thousand_end_where_the_next_begins() -> None:
    numbered = ["0001/00001000", "0001/00001999", "0002/00002000", "0002/00002001", "0003/00003000"]
    assert groups_of(*[f"real/{name}.png" for name in numbered]) == [name.split("/")[1] for name in numbered]


@pytest.mark.parametrize("name", ["eval", "My_Holdout", "valset", "testset-2", "devset", "trn", "tst", "trainval", "heldout", "trainset"])
def test_a_word_for_a_split_is_no_subset(name: str) -> None:
    assert looks_like_a_split(name) and split_of(name) is None
    with pytest.raises(InputError, match="is no split that is known"):
        split_level([[(0, name, True)], [(0, "celeb", True)]], "d")


@pytest.mark.parametrize(("count", "more"), [(3, False), (4, True)])
def test_at_most_three_names_are_listed(count: int, more: bool) -> None:
    others = [f"x{number}" for number in range(count)]
    with pytest.raises(InputError, match="'x0', 'x1', 'x2'") as caught:
        split_level([[(0, name, True)] for name in ("train", *others)], "d")
    assert ("and others" in caught.value.message) == more
    assert "'x3'" not in caught.value.message
