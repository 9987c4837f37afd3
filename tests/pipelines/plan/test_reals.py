"""Real sources: who is on the lists, who is left out, and what is said of the rest."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generators.errors import InputError
from pipelines.manifest.schema import RealSource, Splits
from pipelines.plan.reals import RealPool, open_pool

PEOPLE = ["alice", "bob", "carol", "dora"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "f").mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "f" / f"{number:02}.png")
    (tmp_path / "ids.csv").write_text("".join(f"{number:02}.png,{PEOPLE[number % 4]}\n" for number in range(12)))
    return tmp_path


def pool(folder: Path, exclude: bytes | str | None = None, listed: bool = True, count: int | None = None) -> RealPool:
    if exclude is not None:
        (folder / "gone.txt").write_bytes(exclude if isinstance(exclude, bytes) else exclude.encode())
    source = RealSource(
        path=folder / "f",
        licence="consented",
        identities=folder / "ids.csv" if listed else None,
        exclude=None if exclude is None else folder / "gone.txt",
        count=count,
    )
    return open_pool("faces", source, Splits(), 100)


@pytest.mark.parametrize("text", [b"\xef\xbb\xbfalice\r\nbob\r\n", "alice\nbob", "  bob \n\nalice\n\n", "alice\nbob\nalice\n"])
def test_who_is_excluded_is_nowhere_in_the_pool(folder: Path, text: bytes | str) -> None:
    assert {image.identity for image in pool(folder, text).images} == {"carol", "dora"}


def test_letters_and_their_accents_may_come_apart(folder: Path) -> None:
    (folder / "ids.csv").write_text((folder / "ids.csv").read_text().replace("alice", unicodedata.normalize("NFD", "Zoë")))
    assert "Zoë" not in {image.identity for image in pool(folder, unicodedata.normalize("NFC", "Zoë")).images}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Alice\nbob", "line 1: 'Alice' is nobody in .*Did you mean 'alice'"),
        ('alice\n"bob"\n', "line 2: '\"bob\"' is nobody"),
        ("alice,bob\n", "line 1: 'alice,bob' is nobody"),
        ("alice\nerin\nfay\n", r"line 2: 'erin' is nobody in \S+ids.csv \(and 1 more lines\)"),
        ("", "is empty"),
        ("alice\nbob".encode("utf-16"), "UTF-16"),
        ("alice\nbob\ncarol\ndora", "leaves no image"),
    ],
)
def test_a_withdrawn_name_that_matches_nobody_ends_the_command(folder: Path, text: bytes | str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        pool(folder, text)


def test_exclusion_needs_identities(folder: Path) -> None:
    with pytest.raises(InputError, match="`exclude` needs `identities`"):
        pool(folder, "alice\nbob\n", listed=False)
    one = pool(folder, listed=False).images[0].identity
    assert len(pool(folder, f"{one}\n", listed=False).images) == 11


def test_packaged_people_can_be_excluded_and_strangers_cannot(folder: Path) -> None:
    source = RealSource(package="faces", licence="x", count=20)
    person = open_pool("faces", source, Splits(), 20).images[0].identity
    (folder / "gone.txt").write_text(f"{person}\n")
    excluded = source.model_copy(update={"exclude": folder / "gone.txt"})
    images = open_pool("faces", excluded, Splits(), 20).images
    assert len(images) == 20 and person not in {image.identity for image in images}
    (folder / "gone.txt").write_text("nobody at all\n")
    with pytest.raises(InputError, match="is nobody in real source faces"):
        open_pool("faces", excluded, Splits(), 20)


def test_every_file_needs_an_identity_and_more_lines_than_files_are_said(folder: Path) -> None:
    text = (folder / "ids.csv").read_text()
    (folder / "ids.csv").write_text(text + "99.png,Bob\n")
    assert pool(folder).notes == (
        f"real source faces: 1 line of {folder / 'ids.csv'} names no picture of the folder",
        f"real source faces: {folder / 'ids.csv'} has 'Bob' and 'bob', which count as two people (1 such cases)",
    )
    (folder / "ids.csv").write_text(text.replace("03.png,dora\n", ""))
    with pytest.raises(InputError, match=r"no identity for 03\.png"):
        pool(folder)
    (folder / "ids.csv").write_text(text.replace("03.png", "x\\\\03.png"))
    with pytest.raises(InputError, match="Write `/` between folders"):
        pool(folder)


def test_what_is_left_out_of_the_folder_is_said(folder: Path) -> None:
    for name in ("._00.png", "notes.txt"):
        (folder / "f" / name).write_bytes(b"\0\5\26\7")
    opened = pool(folder)
    assert len(opened.images) == 12
    assert opened.notes == ("real source faces: 2 files are left out (1 .txt, 1 hidden)",)


def test_two_files_of_one_name_and_an_empty_folder_are_refused(folder: Path) -> None:
    (folder / "f" / "é.png").write_bytes((folder / "f" / "00.png").read_bytes())
    (folder / "f" / "e\u0301.png").write_bytes((folder / "f" / "01.png").read_bytes())
    with pytest.raises(InputError, match="have one name but for spaces or accents"):
        pool(folder)
    (folder / "empty").mkdir()
    (folder / "empty" / ".a.png").touch()
    with pytest.raises(InputError, match=r"no images in .*1 hidden"):
        open_pool("faces", RealSource(path=folder / "empty", licence="x"), Splits(), 5)


def test_one_picture_twice_counts_once_and_a_count_that_cannot_be_met_is_refused(folder: Path) -> None:
    (folder / "f" / "copy.png").write_bytes((folder / "f" / "00.png").read_bytes())
    (folder / "ids.csv").write_text((folder / "ids.csv").read_text() + "copy.png,alice\n")
    opened = pool(folder)
    assert len(opened.images) == 12 and len(pool(folder, count=12).images) == 12
    assert [image.sha256 for image in opened.images] == sorted(image.sha256 for image in opened.images)
    with pytest.raises(InputError, match="has 12 images, and 13 are asked for"):
        pool(folder, count=13)
    assert pool(folder, count=5).images == opened.images[:5]
