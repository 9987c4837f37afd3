"""JSON of strangers: what it says, or why it is not certain."""

from __future__ import annotations

import pytest

from foreign.objects import read_object


@pytest.mark.parametrize(
    "data", [b'{"a": 1, "b": {"a": 2}}', b'\xef\xbb\xbf{"a": 1, "b": {"a": 2}}', '{"a": 1, "b": {"a": 2}}'.encode("utf-16")]
)
def test_an_object_in_every_encoding(data: bytes) -> None:
    assert read_object(data) == {"a": 1, "b": {"a": 2}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"label": 0, "x": 1, "label": 1}', "the key 'label' comes twice"),
        (b'[{"a": {"b": 1, "b": 1}}]', "the key 'b' comes twice"),
        (b"[" * 200_000, "nested too deeply"),
        (b"{", "line 1"),
        (b"\xff\xfe\xfa", "codec can't decode"),
    ],
)
def test_what_is_not_certain(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_object(data)
