"""A manifest is refused with the line, the key and the mend, before any work starts."""

from __future__ import annotations

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
    assert manifest.subsets["SimSwap_Style2"].mode == "GAN-GAN"
    assert manifest.subsets["SimSwap_Style2"].family == "multi-step"
    assert manifest.subsets["DDIM"].parts[0].chain[0].settings()["steps"] == 2


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
