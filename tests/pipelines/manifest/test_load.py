"""A manifest is refused with the line, the key and the fix, before any work starts."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.errors import InputError
from pipelines.manifest.load import load_manifest
from tests.support import write_manifest


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_manifest(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_right_manifest_is_read(manifest_file: Path) -> None:
    manifest = load_manifest(manifest_file)
    assert manifest.subsets["DDIM"].parts[0].chain[0].settings()["steps"] == 2
    assert manifest.reals["faces"].package == "faces"


def test_an_unknown_key_names_line_and_neighbour(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("dataset: x\nsize: 32\nsubsetz: {}\nreals: {}\nsubsets: {}\n")
    message = refusal(path)
    assert "m.yaml, line 3" in message
    assert "unknown key subsetz" in message
    assert "'subsets'" in message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m["subsets"]["DDIM"].update(real="face"), "Did you mean 'faces'?"),
        (lambda m: m["subsets"]["DDIM"]["chain"][0].update(checkpoint="une"), "Did you mean 'unet'?"),
        (lambda m: m["subsets"]["DDIM"]["chain"][0].update(checkpoint="sg2"), "is a checkpoint of stylegan2, not of ddim"),
        (lambda m: m["subsets"]["DDIM"].update(chain=[{"sample": "ddimm", "checkpoint": "unet"}]), "Did you mean 'ddim'?"),
        (lambda m: m["subsets"]["DDIM"]["chain"][0].update(etta=1), "etta"),
        (lambda m: m["subsets"]["DDIM"].update(chain=[{"swap": "ddim", "checkpoint": "unet", "source": "faces"}]), "ddim cannot swap"),
        (lambda m: m["subsets"]["DDIM"].update(chain=[]), "at least 1 item"),
        (lambda m: m["subsets"]["DDIM"].update(count=0), "greater than or equal to 1"),
        (lambda m: m["subsets"]["SimSwap_Style2"]["chain"].pop(0), "nothing to work on"),
        (lambda m: m["subsets"]["SimSwap_Style2"]["chain"][1].pop("source"), "a swap needs `source"),
        (lambda m: m["subsets"]["SimSwap_Style2"]["chain"].reverse(), "nothing to work on"),
        (lambda m: m["reals"]["faces"].pop("licence"), "licence"),
        (lambda m: m["reals"]["faces"].update(path="x"), "either `path"),
        (lambda m: m.update(size="big"), "size"),
        (lambda m: m.update(dataset="../up"), "dataset"),
        (lambda m: m.update(splits={"train": 0.9, "validation": 0.2}), "below 1"),
        (lambda m: m["checkpoints"]["sg2"].update(sha256="abc"), "sha256"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, manifest_data: dict[str, Any], change: Any, expected: str) -> None:
    change(manifest_data)
    message = refusal(write_manifest(tmp_path / "m.yaml", manifest_data))
    assert expected in message
    assert "line " in message


@pytest.mark.parametrize("listed", [False, True])
def test_a_name_that_leads_nowhere_has_the_line_of_its_own_key(tmp_path: Path, manifest_data: dict[str, Any], listed: bool) -> None:
    """Whether a subset is written with `parts` or without, and whichever part it is in."""
    wrong = deepcopy({**manifest_data["subsets"]["DDIM"], "real": "nobody"})  # a shared chain would be a YAML anchor
    manifest_data["subsets"]["DDIM"] = {"parts": [manifest_data["subsets"]["DDIM"], wrong]} if listed else wrong
    path = write_manifest(tmp_path / "m.yaml", manifest_data)
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if "nobody" in text)
    assert f"m.yaml, line {line}: subset DDIM: there is no real source 'nobody'" in refusal(path)


def test_paths_are_relative_to_the_manifest(tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    manifest_data["reals"]["faces"] = {"path": "pictures", "identities": "who.csv", "licence": "CC0"}
    source = load_manifest(write_manifest(tmp_path / "m.yaml", manifest_data)).reals["faces"]
    assert (source.path, source.identities) == (tmp_path / "pictures", tmp_path / "who.csv")


def test_a_repeated_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("dataset: a\ndataset: b\n")
    assert "line 2: the key 'dataset' stands twice" in refusal(path)


def test_anchors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("a: &x [1]\nb: [*x, *x]\n")
    assert "anchors" in refusal(path)


@pytest.mark.parametrize("text", ["", "just text", "[1, 2]", "a: [", "\x00"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    refusal(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "nowhere.yaml" in refusal(tmp_path / "nowhere.yaml")


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(st.sampled_from(["dataset", "size", "reals", "subsets", "chain", "count", "a"]), x, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_any_yaml_is_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    path = write_manifest(tmp_path_factory.mktemp("any") / "m.yaml", data)
    try:
        load_manifest(path)
    except InputError as error:
        assert "\n" not in str(error)
