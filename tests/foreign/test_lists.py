"""Lists as editors and spreadsheets write them are read, or refused in one line with the line's number."""

from __future__ import annotations

import csv
import io
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreign.errors import InputError
from foreign.lists import closest, plain, read_lines, read_pairs, read_rows

PEOPLE = {"0000.png": "Zoë", "0001.png": "Ana"}


def pairs(folder: Path, data: bytes | str) -> dict[str, str]:
    file = folder / "ids.csv"
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_pairs(file, "the identity list")


def refusal(folder: Path, data: bytes | str) -> str:
    with pytest.raises(InputError) as caught:
        pairs(folder, data)
    assert "\n" not in str(caught.value) and "ids.csv" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mark", [",", ";", "\t", " "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("header", ["", "file{}identity"])
def test_every_usual_form_says_the_same(tmp_path: Path, mark: str, end: str, bom: bytes, header: str) -> None:
    lines = [header.format(mark)] * bool(header) + [f"{name}{mark}{person}" for name, person in PEOPLE.items()]
    assert pairs(tmp_path, bom + (end.join(lines) + end).encode()) == PEOPLE


def test_spaces_empty_lines_composed_letters_and_quotes_do_not_matter(tmp_path: Path) -> None:
    apart = unicodedata.normalize("NFD", "Zoë")
    assert pairs(tmp_path, f'\n  0000.png , {apart}  \n\n"./0001.png", "Ana"\n') == PEOPLE
    assert pairs(tmp_path, '"a,b;c.png";Ana\n"d.png";Zoë') == {"a,b;c.png": "Ana", "d.png": "Zoë"}
    assert pairs(tmp_path, "a b.png\tAna Maria\n") == {"a b.png": "Ana Maria"}
    assert pairs(tmp_path, "a\x0cb.png,Ana\u2028x\n") == {"a\x0cb.png": "Ana\u2028x"}  # characters that str.splitlines cuts at


@pytest.mark.parametrize(
    ("encoding", "named"), [("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-32", "UTF-32"), ("latin-1", "line 1")]
)
def test_other_encodings_are_refused_by_name(tmp_path: Path, encoding: str, named: str) -> None:
    message = refusal(tmp_path, "0000.png,Zoë\n".encode(encoding))
    assert named in message and "UTF-8" in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("file,identity\n", "a header and nothing else"),
        ("a.png,Ana\nb.png\n", "line 2 has 1 columns"),
        ("a.png,Ana,x\n", "line 1 has 3 columns"),
        ("a.png,Ana\nb.png;Zoë\n", "line 2 has 1 columns"),
        ("a.png,Ana\n\nb.png,\n", "line 3 has an empty column"),
        (",Ana\n", "line 1 has an empty column"),
        ("a.png,Ana\nb.png,Zoë\na.png,Ana\n", "line 3 names 'a.png' again, after line 1"),
        ('a.png,Ana\n"b.png,Zoë\nc.png,Zoë\n', "line 2"),
        ("a;b.png,Ana\n", "line 1 has several separators"),
        ("a,b,c;d;e\n", "line 1 has several separators"),
        ("a b.png Ana\n", "line 1 has 3 columns"),
        ("a.png,A\0na\n", "UTF-16"),
    ],
)
def test_what_is_not_certain_is_refused_with_its_line(tmp_path: Path, text: str, named: str) -> None:
    assert named in refusal(tmp_path, text)


def test_what_is_no_file_is_never_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for place in ("pipe", ".", "nowhere.csv"):
        with pytest.raises(InputError, match="the identity list"):
            read_pairs(tmp_path / place, "the identity list")


def test_lines_have_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "gone.txt").write_bytes("p0\r\n\r\n  p 1  \r\n".encode("utf-8-sig"))
    assert read_lines(tmp_path / "gone.txt", "the list") == [(1, "p0"), (3, "p 1")]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b,c\n\n1, 2 ,\n", [(1, ["a", "b", "c"]), (3, ["1", "2", ""])]),
        ("a;0,5;x\nb;1,5\n", [(1, ["a", "0,5", "x"]), (2, ["b", "1,5"])]),  # the mark that cuts the first line into the most cells
        ('"a,b"\t1\n', [(1, ["a,b", "1"])]),
        ("a 1\nb  2 3\n", [(1, ["a", "1"]), (2, ["b", "2", "3"])]),
        ("alone\n", [(1, ["alone"])]),
    ],
)
def test_a_table_has_any_number_of_columns(tmp_path: Path, text: str, rows: list[tuple[int, list[str]]]) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert read_rows(tmp_path / "t.csv", "the scores") == rows


@pytest.mark.parametrize(("text", "named"), [("a;0,5\n", "line 1 has several separators"), ('a,b\n"c,d\n', "line 2"), ("", "is empty")])
def test_a_table_that_is_not_certain_is_refused(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=named):
        read_rows(tmp_path / "t.csv", "the scores")


def test_a_name_close_by_is_suggested() -> None:
    assert closest("Alice", {"alice", "bob"}) == "Did you mean 'alice'?"
    assert closest('"bob"', {"alice", "bob"}) == "Did you mean 'bob'?"
    assert closest("zzz", {"alice", "bob"}) == ""


CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda text: plain(text) == text and '"' not in text
)


@given(st.dictionaries(CELL.map("{}.png".format), CELL, min_size=1, max_size=6), st.sampled_from(",;\t"))
def test_what_a_spreadsheet_writes_is_read_back_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, str], mark: str
) -> None:
    """Never with another name or another person than the writer gave."""
    text = io.StringIO()
    csv.writer(text, delimiter=mark, quoting=csv.QUOTE_ALL).writerows(rows.items())
    assert pairs(tmp_path_factory.mktemp("lists"), text.getvalue()) == rows


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    try:
        read = pairs(tmp_path_factory.mktemp("bytes"), data)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert read and all(plain(name) == name and person for name, person in read.items())
