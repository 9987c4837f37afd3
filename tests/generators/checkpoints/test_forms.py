"""Forms that files come in under other names than theirs, and plain values that training programs leave beside the weights."""

from __future__ import annotations

import datetime
import decimal
import gzip
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
import torch

from generators.checkpoints import read
from generators.errors import CheckpointError
from tests.support import stylegan2_checkpoint

WEIGHTS = {"conv.weight": torch.arange(6.0).reshape(2, 3)}


@pytest.mark.parametrize("name", ["net.sft", "net.ckpt", "net.bin", "net.SAFETENSORS", "net"])
def test_safetensors_under_any_name(tmp_path: Path, name: str) -> None:
    wanted = read(stylegan2_checkpoint(tmp_path / "net.safetensors"))
    shutil.move(tmp_path / "net.safetensors", tmp_path / f"x{name}")
    contents = read(tmp_path / f"x{name}")
    assert (contents.form, contents.config) == ("safetensors", wanted.config)
    assert contents.tensors.keys() == wanted.tensors.keys()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_that_is_named_safetensors(tmp_path: Path, zipped: bool) -> None:
    torch.save(WEIGHTS, tmp_path / "net.safetensors", _use_new_zipfile_serialization=zipped)
    contents = read(tmp_path / "net.safetensors")
    assert contents.form == ("torch" if zipped else "torch-stream")
    assert torch.equal(contents.tensors["conv.weight"], WEIGHTS["conv.weight"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n <!DOCTYPE html><title>Google Drive - Virus scan warning</title>" + b" " * 99, "is a web page"),
        (b"\xef\xbb\xbf<html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "is a note of Git LFS"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file"),
        (gzip.compress(b"weights", mtime=0), "is a gzip archive"),
        (b"GGUF\x03" + bytes(99), "is a GGUF file"),
        (b"a/b".ljust(257, b"\0") + b"ustar\0" + bytes(99), "is a tar archive"),
    ],
)
@pytest.mark.parametrize("name", ["net.pkl", "net.safetensors"])
def test_what_the_bytes_are_is_said(tmp_path: Path, content: bytes, message: str, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_cut_safetensors_file_is_no_pickle(tmp_path: Path) -> None:
    whole = stylegan2_checkpoint(tmp_path / "net.safetensors").read_bytes()
    for length in (4, 100, len(whole) - 1):
        (tmp_path / "net.safetensors").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
            read(tmp_path / "net.safetensors")


EXTRAS: dict[str, Any] = {
    "frozenset": frozenset([1, "a"]),
    "aware": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "date": datetime.date(2026, 1, 2),
    "time": datetime.time(3, 4),
    "slice": slice(1, 2),
    "complex": 1 + 2j,
    "range": range(3),
    "bytearray": bytearray(b"ab"),
    "decimal": decimal.Decimal("1.5"),
    "uuid": uuid.UUID(int=1),
    "complex128": torch.zeros(2, dtype=torch.complex128),
    "sparse": torch.eye(2).to_sparse(),
}


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.filterwarnings("ignore")
def test_plain_values_beside_the_weights_are_no_reason_to_refuse_a_file(tmp_path: Path, extra: str, protocol: int) -> None:
    torch.save({"G_ema": WEIGHTS, "extra": EXTRAS[extra]}, tmp_path / "net.pt", pickle_protocol=protocol)
    assert torch.equal(read(tmp_path / "net.pt").tensors["G_ema.conv.weight"], WEIGHTS["conv.weight"])
