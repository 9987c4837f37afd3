"""Small files that ask for much: each is refused within 5 s and 1 GB, in another process so that its memory can be told."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from generators.checkpoints import inspect
from generators.errors import CheckpointError

ROOT = Path(__file__).parents[3]
READ = """
import json, re, sys, time
from pathlib import Path
from generators.checkpoints import convert, inspect
from generators.errors import InputError

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

for file in map(Path, sys.argv[1:]):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    started, before, answer = time.process_time(), peak(), "read"
    try:
        json.dumps(inspect(file))
        convert(file, file.with_suffix(".safetensors"))
    except InputError as error:
        answer = str(error)
    print(json.dumps([file.stem, time.process_time() - started, peak() - before, answer]))
"""


def text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


def put(number: int) -> bytes:
    return b"r" + struct.pack("<I", number)


def get(number: int) -> bytes:
    return b"j" + struct.pack("<I", number)


def leaves() -> bytes:
    """A list of 60,000 numbers, 8,000 times."""
    return b"\x80\x02](" + b"K\x01" * 60_000 + b"e" + put(1) + b"0](" + get(1) * 8_000 + b"e."


def arguments() -> bytes:
    """Arguments by the ten thousand, copied at each of 30,000 calls."""
    return (
        b"\x80\x02("
        + b"N" * 20_000
        + b"t"
        + put(1)
        + b"0cpathlib\nPosixPath\n"
        + put(2)
        + b"0]("
        + (get(2) + get(1) + b"R") * 30_000
        + b"e."
    )


def long_key() -> bytes:
    """A key of 60,000 characters above 50,000 values."""
    return b"\x80\x02}" + text(b"k" * 60_000) + b"](" + b"K\x01" * 50_000 + b"es."


def keys_in_depth() -> bytes:
    """Keys of 900 characters below each other, above many values: every value would have a name of 45,000 characters."""
    return b"\x80\x02" + (b"}" + text(b"k" * 900)) * 50 + b"](" + b"K\x01" * 100_000 + b"e" + b"s" * 50 + b"."


def colliding_keys() -> bytes:
    """Tuples of floats that are whole multiples of the modulus of Python's hash: all hash alike."""
    values = [float((2**61 - 1) * 2 ** (number % 400)) for number in range(30_000)]
    keys = b"".join(b"G" + struct.pack(">d", value) + b"\x85N" for value in values)
    return b"\x80\x02}(" + keys + b"u."


def shape(count: int = 20_000) -> bytes:
    """An array whose shape has 20,000 numbers of 16 bytes."""
    number = b"\x8a\x10" + b"\xff" * 15 + b"\x7f"
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01(" + number * count
    return head + b"tcnumpy\ndtype\nX\x02\0\0\0f4\x85R\x89C\x04abcdtb."


def names() -> bytes:
    """A thousand modules times a thousand names."""
    head = b"".join(text(b"M%03d" % number + b"m" * 400) + put(number) + b"0" for number in range(800))
    pairs = b"".join(get(first) + get(second) + b"\x930" for first in range(0, 800, 16) for second in range(800))
    return b"\x80\x04" + head + pairs + b"N."


def texts() -> bytes:
    """One text of 10,000 characters, 100,000 times."""
    return b"\x80\x02" + text(b"t" * 10_000) + put(1) + b"0](" + get(1) * 100_000 + b"e."


def attributes() -> bytes:
    """A module whose 50,000 attributes are those of 10,000 modules more."""
    fields = b"".join(text(b"a%d" % number) + b"N" for number in range(50_000))
    head = b"\x80\x02cn\nNet\n" + put(1) + b"0}(" + fields + text(b"_modules") + b"}" + text(b"_parameters") + b"}u" + put(2) + b"0"
    inner = b"".join(text(b"%d" % number) + get(1) + b")\x81" + get(2) + b"b" for number in range(10_000))
    return head + get(1) + b")\x81}(" + text(b"_parameters") + b"}" + text(b"_modules") + b"}(" + inner + b"uub."


ATTACKS = [leaves, arguments, long_key, keys_in_depth, colliding_keys, shape, names, texts, attributes]


def test_a_small_file_takes_at_most_5_seconds_and_1_gb(tmp_path: Path) -> None:
    files = []
    for attack in ATTACKS:
        files.append(tmp_path / f"{attack.__name__}.pkl")
        files[-1].write_bytes(attack())
        assert files[-1].stat().st_size < 2**20
    command = [sys.executable, "-c", READ, *map(str, files)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=True)
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(answers) == len(ATTACKS)
    for name, seconds, grown, answer in answers:
        assert seconds < 5 and grown < 10**9, (name, seconds, grown, answer[:300])
        assert len(answer) < 500 and answer.isprintable(), name


@pytest.mark.parametrize("value", [True, -1, 2**62, 2**100])
@pytest.mark.parametrize("place", ["shape", "stride"])
def test_sizes_that_are_none_are_one_line(value: int, place: str, tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"w": torch.zeros(0, 3)}, stream, _use_new_zipfile_serialization=False)
    data = stream.getvalue()
    number = b"\x88" if value is True else b"\x8a" + bytes([len(encoded := pickle.encode_long(value))]) + encoded
    before = b"K\x00K\x03\x86" if place == "shape" else b"K\x03K\x01\x86"
    assert before in data
    (tmp_path / "a.pth").write_bytes(data.replace(before, before[:2] + number + b"\x86"))
    with pytest.raises(CheckpointError, match=r"a\.pth holds a tensor"):
        inspect(tmp_path / "a.pth")


def test_a_fifo_is_no_checkpoint(tmp_path: Path) -> None:

    os.mkfifo(tmp_path / "a.pt")
    with pytest.raises(ValueError, match="is a FIFO"):
        inspect(tmp_path / "a.pt")
