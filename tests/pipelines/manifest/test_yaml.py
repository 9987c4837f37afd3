"""YAML by its newer reading, or not at all: what two readings take differently, tags, deep nesting, in one line with line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from flows.commands.options import settings_of
from generators.errors import InputError
from pipelines.manifest.load import check_manifest, load_manifest
from pipelines.manifest.yaml_lines import load, parse
from tests.support import write_manifest

MIDDLE = "x: 1\nkey: {}\ny: 2"


def refusals(text: str) -> list[str]:
    try:
        return [str(problem) for problem in parse(text, "t.yaml")[2]]
    except InputError as error:
        return [str(error)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("32", 32),
        ("+3", 3),
        ("0", 0),
        ("0x20", 32),
        ("1e-4", "1e-4"),
        ("089", "089"),
        (".5", 0.5),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("y", "y"),
        ("off", "off"),
        ("ON", "ON"),
        ("'yes'", "yes"),
        ('"032"', "032"),
        ("!!str 3", "3"),
        ("4:2:0 chroma", "4:2:0 chroma"),
        ("|\n  1:30", "1:30\n"),
    ],
)
def test_values_are_read_as_yaml_1_2_says(text: str, value: Any) -> None:
    got = parse(f"x: 1\nkey: {text}\n", "t.yaml")[0]["key"]
    assert (got, type(got)) == (value, type(value))


UNCERTAIN = ["032", "00", "-010", "yes", "No", "1:30", "12:30:45", "1:30.5", "1_000", "0b11", "2024-02-30", "2024-02-03"]
TAGGED = ["!env LICENCE", "!!python/object:os.system x", "!!int x", "!!binary aGk=", "!!set {a}", "!!map x", "!env [1]"]


@pytest.mark.parametrize("text", [*UNCERTAIN, *TAGGED, "=", "<<", ".nan", "-.inf", "1.0e+999", "9" * 5000, "{[a]: 1}", "{a: 1, a: 2}"])
def test_what_cannot_be_read_for_certain_is_one_line_with_line_and_key(text: str) -> None:
    (message,) = refusals(MIDDLE.format(text))
    assert message.startswith("t.yaml, line 2: ") and "key" in message and "\n" not in message and len(message) < 200


@pytest.mark.parametrize("text", ["[" * 100, "{a: " * 5000, "- " * 100, "a: &x 1", "a: [", "a\x07: 1", "- 1\n---\n- 2"])
def test_what_is_no_document_names_its_line(text: str) -> None:
    (message,) = refusals(f"# a manifest\n{text}")
    assert message.startswith("t.yaml, line ") and "line 1 " not in message and "\n" not in message


def test_every_wrong_value_is_listed_once(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    path = write_manifest(tmp_path / "m.yaml", manifest_data)
    text = (
        path.read_text().replace("size: 32", "size: 032").replace("count: 10", "count: yes").replace("licence: test", "licence: 2024-02-30")
    )
    path.write_text(text + "sede: 1\n")
    messages = [str(problem) for problem in sorted(check_manifest(path).problems, key=lambda problem: problem.line or 0)]
    lines = text.splitlines()
    assert [message.split(": ", 1)[0] for message in messages] == [
        f"{path}, line {number}"
        for number, line in enumerate([*lines, "sede"], 1)
        if any(sign in line for sign in ("032", "yes", "2024", "sede"))
    ]


def test_wrong_names_are_listed_beside_wrong_values_and_nothing_follows_from_either(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    """A subset whose real source is itself wrong is not said to have none."""
    manifest_data["size"] = "big"
    manifest_data["reals"]["faces"]["licenc"] = manifest_data["reals"]["faces"].pop("licence")
    manifest_data["subsets"]["DDIM"]["chain"][0]["checkpoint"] = "une"
    manifest_data["subsets"]["StyleGAN2"]["chain"] = []
    problems = check_manifest(write_manifest(tmp_path / "m.yaml", manifest_data)).problems
    said = [problem.message.split(": ", 1)[1] for problem in problems]
    assert len(said) == 4
    assert any(text.startswith("size") for text in said) and "unknown key reals.faces.licenc" in said
    assert "subset DDIM: there is no checkpoint 'une'" in said and any(text.startswith("subsets.StyleGAN2.chain") for text in said)


@pytest.mark.parametrize(
    "place",
    [("size",), ("subsets", "DDIM", "count"), ("subsets", "DDIM", "chain", 0, "steps"), ("splits", "train"), ("reals", "faces", "count")],
)
def test_true_is_no_number(tmp_path: Path, manifest_data: dict[str, Any], place: tuple[Any, ...]) -> None:
    section: Any = manifest_data
    for key in place[:-1]:
        section = section[key]
    section[place[-1]] = True
    (problem,) = check_manifest(write_manifest(tmp_path / "m.yaml", manifest_data)).problems
    assert str(place[-1]) in problem.message and "no numbers" in problem.message


def test_a_number_with_an_exponent_is_a_number_where_one_is_wanted(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    path = write_manifest(tmp_path / "m.yaml", {**manifest_data, "splits": {"train": 0.25, "validation": 0.2}})
    path.write_text(path.read_text().replace("train: 0.25", "train: 25e-2"))
    assert load_manifest(path).splits.train == 0.25


@given(st.text(max_size=20))
@example("yes")
@example("0\xa0")  # a space that is none to YAML
def test_any_plain_value_is_text_or_a_number_or_refused(text: str) -> None:
    """What is read as text is the very text, whatever YAML 1.1 takes it for."""
    try:
        data, _, problems = parse(f"key: {text}", "t.yaml")
    except InputError as error:
        assert "\n" not in str(error)
        return
    plain = text.strip(" \t\r\n")
    if not problems and isinstance(data, dict) and isinstance(data.get("key"), str) and plain.isalnum():
        assert data["key"] == plain


@given(st.one_of(st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none(), st.text()))
def test_what_pyyaml_writes_is_read_back(value: Any) -> None:
    data, _, problems = parse(yaml.safe_dump({"key": value}), "t.yaml")
    assert not problems and data == {"key": value} and type(data["key"]) is type(value)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_bytes("a: 1\r\nb: 2\r\n".encode("utf-8-sig"))
    assert load(tmp_path / "m.yaml")[0] == {"a": 1, "b": 2}


@pytest.mark.parametrize("value", ["!env x", "[", "2024-02-30", "yes"])
def test_settings_of_the_command_line_are_read_by_the_same_rule(value: str) -> None:
    assert settings_of(["stage1.lr=1e-4", "seed=3"]) == {"stage1": {"lr": "1e-4"}, "seed": 3}
    with pytest.raises(InputError, match="--set seed"):
        settings_of([f"seed={value}"])
