"""As many fakes as reals of each real source are looked at, and a folder's groups are as fine as its names allow."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from generators.errors import InputError
from pipelines.audit.classify import LEAST_GROUPS
from pipelines.audit.pictures import ROWS, Picture, balanced, of_equal_dimensions, pictures_of_folder


def pictures(counts: dict[tuple[str, int], int]) -> list[Picture]:
    return [Picture(f"{real}/{label}/{n}", label, real, str(n), n) for (real, label), count in counts.items() for n in range(count)]


def test_each_real_source_has_as_many_fakes_as_reals() -> None:
    chosen = balanced(pictures({("faces", 0): 30, ("faces", 1): 90, ("land", 0): 50, ("land", 1): 20, ("alone", 1): 40}))
    assert Counter((picture.real, picture.label) for picture in chosen) == {
        ("faces", 0): 30,
        ("faces", 1): 30,
        ("land", 0): 20,
        ("land", 1): 20,
    }
    assert [picture.label for picture in chosen[:6]] == [0, 1, 0, 1, 0, 1]


def test_no_more_than_the_bound_are_chosen_and_always_the_same() -> None:
    many = pictures({("faces", 0): 3 * ROWS, ("faces", 1): 2 * ROWS})
    chosen = balanced(many)
    assert Counter(picture.label for picture in chosen) == {0: ROWS, 1: ROWS}
    assert balanced(many[::-1]) == chosen


def groups_of(folder: Path, names: list[str]) -> set[str]:
    for label in ("real", "fake"):
        for name in names:
            (folder / label / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / label / name).touch()
    return {picture.group for picture in pictures_of_folder(folder)}


def test_groups_are_folders_then_beginnings_of_names_then_names(tmp_path: Path) -> None:
    enough = range(2 * LEAST_GROUPS)
    assert len(groups_of(tmp_path / "folders", [f"person{n}/{k}.png" for n in enough for k in range(2)])) == len(enough)
    assert len(groups_of(tmp_path / "beginnings", [f"id{n}_frame{k}.png" for n in enough for k in range(2)])) == len(enough)
    assert len(groups_of(tmp_path / "names", [f"{n}.png" for n in range(9)])) == 9


def test_both_classes_need_enough_groups_of_a_kind(tmp_path: Path) -> None:
    for number in range(60):
        for name in (f"real/p{number}_0.png", f"real/p{number}_1.png", f"fake/fake_{number}.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
    assert len({picture.group for picture in pictures_of_folder(tmp_path)}) == 180


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["a/0_Real/x.png", "a/1_FAKE/y.png"], {"a/0_Real/x.png": 0, "a/1_FAKE/y.png": 1}),
        (["nature/x.png", "AI/y.png", "nature/@eaDir/x.png/z.jpg", "AI/._y.png"], {"nature/x.png": 0, "AI/y.png": 1}),
        (["fake/real/x.png", "real/y.png"], None),
        (["real/x.png", "fake/y.png", "others/z.png"], None),
        (["real/x.png"], None),
    ],
)
def test_class_folders_are_those_of_training_and_what_is_not_certain_is_refused(
    tmp_path: Path, names: list[str], label: dict[str, int] | None
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    if label is None:
        with pytest.raises(InputError):
            pictures_of_folder(tmp_path)
    else:
        assert {picture.id: picture.label for picture in pictures_of_folder(tmp_path)} == label


def test_at_equal_dimensions_each_size_has_as_many_of_both_classes() -> None:
    sizes = [(16, 16), (24, 16), (32, 32)]
    reals = [Picture(f"r{number}", 0, "faces", f"r{number}", number, sizes[number % 3]) for number in range(90)]
    fakes = [Picture(f"f{number}", 1, "faces", f"f{number}", number, sizes[number % 2]) for number in range(60)]
    chosen = of_equal_dimensions([*reals, *fakes])
    counts = Counter((picture.dimensions, picture.label) for picture in chosen)
    assert counts == {((16, 16), 0): 30, ((16, 16), 1): 30, ((24, 16), 0): 30, ((24, 16), 1): 30}
    assert len(balanced([*reals, *fakes])) == 120


def test_the_bound_holds_for_any_number_of_sizes_and_each_size_has_as_many_of_both_classes() -> None:
    """Of pictures as they are nearly each has a size of its own."""
    pictures = [
        Picture(f"{side}{number}", side, "photos", str(number), number, (16 + number, 40)) for number in range(900) for side in (0, 1)
    ]
    chosen = of_equal_dimensions(pictures)
    assert Counter(picture.label for picture in chosen) == {0: ROWS, 1: ROWS}
    assert {picture.dimensions for picture in chosen if picture.label} == {picture.dimensions for picture in chosen if not picture.label}
    uneven = [Picture(f"{side}{number}", side, f"r{min(number // 300, 2)}", "", number) for number in range(900) for side in (0, 1)]
    counts = Counter((picture.real, picture.label) for picture in balanced(uneven, 100))
    assert sorted(counts.values()) == [33, 33, 33, 33, 34, 34]
    assert all(counts[real, 0] == counts[real, 1] for real, _ in counts)
