"""What a folder holds beside pictures is counted by kind, and nothing in it is waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from foreign.folders import list_pictures, said, why_left_out


def test_all_that_is_no_picture_is_counted_by_kind(tmp_path: Path) -> None:
    pictures = ["a.png", "b/c.JPG", "b/d.jfif", "b/e.avif", "f.gif"]
    rest = [
        "._a.png",
        ".hidden.png",
        ".trash/x.png",
        "b/@eaDir/c.JPG/SYNO.jpg",
        "__MACOSX/._a.png",
        "n.heic",
        "m.HEIC",
        "readme",
        "Thumbs.db",
    ]
    for name in [*pictures, *rest]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link").symlink_to(tmp_path / "b")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "linked.png").symlink_to(tmp_path / "a.png")
    listing = list_pictures(tmp_path)
    assert [file.relative_to(tmp_path).as_posix() for file in listing.files] == [
        "a.png",
        "b/c.JPG",
        "b/d.jfif",
        "b/e.avif",
        "f.gif",
        "linked.png",
    ]
    assert listing.left_out == {
        "hidden": 2,
        "in a hidden folder": 1,
        "in @eaDir": 1,
        "in __MACOSX": 1,
        ".heic": 2,
        "without a suffix": 1,
        "Thumbs.db": 1,
        "pipe or device": 1,
        "link to a folder": 1,
        "link to nothing": 1,
    }
    assert said(listing.left_out).startswith("12 files are left out (2 .heic, 1 Thumbs.db,")
    assert said({}) == "" and said({".txt": 1}) == "1 file is left out (1 .txt)"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a.png", ""),
        ("./a/b.JPEG", ""),
        ("../x.png", ""),
        ("a/.b/c.png", "in a hidden folder"),
        ("a/._c.png", "hidden"),
        ("a.png/c.txt", ".txt"),
    ],
)
def test_names_tell(name: str, why: str) -> None:
    assert why_left_out(name) == why
