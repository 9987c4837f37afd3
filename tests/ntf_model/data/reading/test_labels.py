"""Labels by their names and values: right or refused, never guessed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntf_model.data.reading.labels import FAKE, OTHER_NAMES, PLAIN_NAMES, REAL, LabelRule
from ntf_model.errors import InputError

RULE = LabelRule()
NAMES = sorted({**PLAIN_NAMES, **OTHER_NAMES}.items())


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("real", REAL), ("REAL", REAL), ("Fake", FAKE), ("0_real", REAL), ("1_fake", FAKE), ("1_real", REAL),
        ("0-fake", FAKE),
        ("nature", REAL), ("ai", FAKE), ("AI", FAKE), ("original", REAL), ("Manipulated", FAKE),
        ("real_images", REAL), ("Fake Faces", FAKE),
        ("ai-generated", FAKE), (" real ", REAL), ("deepfakes", FAKE),
    ],
)  # fmt: skip
def test_folders_of_a_class(name: str, label: int) -> None:
    assert RULE.of_folder(name)[0] == label


@pytest.mark.parametrize("name", ["0", "1", "", "realistic", "unreal", "fakery", "cats", "realfake", "train", "00000", "sd15", "ai2"])
def test_folders_of_no_class(name: str) -> None:
    assert RULE.of_folder(name)[0] is None


@pytest.mark.parametrize(
    ("value", "label"),
    [(0, REAL), (1, FAKE), (np.int64(1), FAKE), (False, REAL), (True, FAKE), ("0", REAL), ("1", FAKE), ("Real", REAL),
     ("FAKE", FAKE), ("ai", FAKE)],
)  # fmt: skip
def test_values(value: object, label: int) -> None:
    assert RULE.of_value(value, "row 0") == label


@pytest.mark.parametrize("value", [2, -1, 0.0, 1.0, None, "", "maybe", "true", [0], {"label": 1}, "0.0", b"real", float("nan")])
def test_values_that_are_not_certain(value: object) -> None:
    with pytest.raises(InputError, match=r"row 7: the label .* is neither real nor fake.*--labels real=0,fake=1"):
        RULE.of_value(value, "row 7")


def test_a_class_label_is_read_by_its_names_and_not_by_its_numbers() -> None:
    assert [RULE.of_value(value, "row", ["fake", "real"]) for value in (0, 1)] == [FAKE, REAL]
    assert [RULE.of_value(value, "row", ["real", "fake"]) for value in (0, 1)] == [REAL, FAKE]
    assert [RULE.of_value(value, "row", ["0", "1"]) for value in (0, 1)] == [REAL, FAKE]
    for value, message in ((-1, "the label -1 is none of the classes fake, real"), (2, "none of the classes")):
        with pytest.raises(InputError, match=message):
            RULE.of_value(value, "row", ["fake", "real"])
    with pytest.raises(InputError, match="'cat' is neither"):
        RULE.of_value(0, "row", ["cat", "dog"])


def test_labels_of_the_user_go_before_everything() -> None:
    rule = LabelRule.parse("real=Nature Photos,fake=sd,fake=2")
    assert (rule.of_folder("nature-photos")[0], rule.of_folder("SD")[0], rule.of_folder("real")[0]) == (REAL, FAKE, None)
    assert (rule.of_value("sd", "row"), rule.of_value(2, "row"), rule.of_value(0, "row", ["sd", "x"])) == (FAKE, FAKE, FAKE)
    with pytest.raises(InputError, match="--labels does not say what 'real' is"):
        rule.of_value("real", "row")
    assert LabelRule.parse("real=1,fake=0").of_value(1, "row") == REAL
    assert LabelRule.parse("real=true,fake=false").of_value(True, "row") == REAL
    assert LabelRule.parse("real=0,fake=1").of_value(1, "row", ["cat", "dog"]) == FAKE
    assert LabelRule.parse(None) == RULE == LabelRule.parse("")


@pytest.mark.parametrize(
    "text", ["real", "real=0", "fake=1", "real=,fake=1", "0=real,1=fake", "real=0,fake=0", "real=a,fake=A", "real:0,fake:1"]
)
def test_labels_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="--labels"):
        LabelRule.parse(text)


@given(
    st.sampled_from(NAMES), st.sampled_from([str.upper, str.title, str.lower, str.swapcase]),
    st.sampled_from(["", "0_", "1_", "12 ", "3-"]),
    st.sampled_from(["", "_images", " Faces", "-frames"]), st.sampled_from(["", " "]),
)  # fmt: skip
def test_no_writing_of_a_name_changes_its_class(named: tuple[str, int], case: object, before: str, after: str, space: str) -> None:
    name, label = named
    assert RULE.of_folder(f"{space}{before}{case(name)}{after}{space}")[0] == label  # type: ignore[operator]


@given(st.one_of(st.text(max_size=12), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers())))
def test_a_value_is_one_of_the_two_classes_or_refused(value: object) -> None:
    try:
        label = RULE.of_value(value, "row")
    except InputError as error:
        assert str(error).startswith("row")
        return
    assert label in (REAL, FAKE)
    assert not isinstance(value, float)


@given(st.permutations(["real", "fake", "nature", "ai"]), st.integers(0, 3))
def test_the_order_of_classes_changes_nothing(names: list[str], value: int) -> None:
    assert RULE.of_value(value, "row", names) == RULE.of_value(names[value], "row")
