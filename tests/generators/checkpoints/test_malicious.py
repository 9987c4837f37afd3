"""Files that want something run, or more memory than they are worth, end in a CheckpointError that says so, and nothing happens."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import subprocess
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from generators.checkpoints import inspect, read
from generators.errors import CheckpointError
from tests.lookalikes import write_nvidia_pickle

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)


class Calls:
    """Pickles as a call of `function` with `args`."""

    def __init__(self, function: Any, *args: Any):
        self.function, self.args = function, args

    def __reduce__(self) -> Any:
        return self.function, self.args


def refusal(path: Path, data: bytes) -> str:
    """The message with which `data` is refused. What it would have run must not have been run."""
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert not (path.parent / "ran").exists()
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "network.pkl"


@pytest.fixture
def command(tmp_path: Path) -> str:
    return f"touch {tmp_path / 'ran'}"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.system, subprocess.Popen, builtins.eval, builtins.getattr, builtins.open, torch.load])
def test_call_is_refused_by_name(file: Path, command: str, protocol: int, function: Any) -> None:
    assert f"{function.__name__} called" in refusal(file, pickle.dumps({"G_ema": Calls(function, command)}, protocol=protocol))


@pytest.mark.parametrize("is_zip", [True, False])
def test_call_in_a_torch_file_is_refused(file: Path, command: str, is_zip: bool) -> None:
    torch.save({"weight": torch.ones(2), "hook": Calls(os.system, command)}, file, _use_new_zipfile_serialization=is_zip)
    assert "system" in refusal(file, file.read_bytes())


def test_nothing_at_all_may_be_called_inside_a_storage(file: Path, command: str) -> None:
    for value, named in ((Calls(os.system, command), "system"), (torch.ones(2), "collections.OrderedDict")):
        inner = io.BytesIO()
        torch.save(value, inner, _use_new_zipfile_serialization=False)
        assert named in refusal(file, pickle.dumps({"weight": Calls(torch.storage._load_from_bytes, inner.getvalue())}))


def test_chain_of_getattr_is_refused(file: Path) -> None:
    chain = Calls(getattr, Calls(getattr, Calls(builtins.__import__, "os"), "system"), "__call__")
    assert "__import__" in refusal(file, pickle.dumps({"a": chain}))


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",  # REDUCE
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"\x80\x02cos\nsystem\nU\x04true\x85\x81.",  # NEWOBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85}\x92.",  # NEWOBJ_EX
        b"\x80\x04\x8c\x05torch\x8c\x08hub.load\x93\x8c\x04true\x85R.",  # a dotted name
        b"\x80\x02cbuiltins\nexec\nU\x04true\x85R.",
        b"\x80\x02csomebodys.library\nrun\nU\x04true\x85R.",
    ],
)
def test_every_calling_opcode_is_refused(file: Path, data: bytes) -> None:
    assert "called" in refusal(file, data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80\x02cos\nsystem\n}U\x01aK\x01sb.", "os.system"),  # state set on a function
        (b"\x80\x02ccollections\nOrderedDict\n)R)R.", "not a name"),  # the result of a call is called
        (b"\x80\x02\x82\x01.", "opcode 0x82"),  # the extension registry
        (b"Pos.system\n.", "persistent id"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f" + b"\xff" * 100 + b".", "integer"),  # LONG4
        (b"L" + b"9" * 500 + b"L\n.", "integer"),
        (b"\x80\x02B\xff\xff\xff\x7fabc.", "cut short"),  # BINBYTES longer than the file
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**63) + b"abc.", "cut short"),
        (b"\x80\x02c" + b"a" * 5000 + b"\nb\n.", "name"),
        (b"\x80\x02" + b"(" * 100 + b".", "no valid pickle"),
        (b"\x80\x02h\x07.", "no valid pickle"),  # memo never written
        (b"\x80\x02}]K\x01s.", "key"),
        (b"\x80\x02}\x8a\x0f" + b"\xff" * 14 + b"\x00K\x01s.", "key"),  # integers that collide in a dict
        (b"\x80\x09.", "protocol"),
        (b"\x80\x02c\x1b[2Jos\nsystem\n.", "no valid pickle"),  # a name that would write to the terminal
        (b"\x80\x02ca\nNet\n)\x81}(U\tvariablesK\x05U\rstatic_kwargs}ub.", "make no sense"),
        (b"", "cannot read"),
        (b"not a checkpoint at all", "no valid pickle"),
        (b"PK\x03\x04" + bytes(40), "zip"),
    ],
)
def test_malformed(file: Path, data: bytes, message: str) -> None:
    assert message in refusal(file, data)


def tensor(shape: Any, stride: Any, offset: Any = 0) -> bytes:
    """A tensor with its description made up, over a storage of 16 numbers."""
    return pickle.dumps(
        {"weight": Calls(torch._utils._rebuild_tensor_v2, torch.zeros(16)._typed_storage(), offset, shape, stride, False, {})}
    )


@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [
        ((10**12,), (1,), 0),
        ((10**6, 10**6), (0, 0), 0),  # strides of zero would need no storage
        ((4, 4), (4, 5), 0),  # the last row ends beyond it
        ((16,), (1,), 1),
        ((2,), (2**62,), 0),
        ((-1,), (1,), 0),
        ((4,), (-1,), 4),
        ((4,), (1, 1), 0),
        ((1,) * 100, (1,) * 100, 0),
        (("4",), (1,), 0),
        ((4,), (1,), None),
    ],
)
def test_tensor_beyond_its_storage_is_refused(file: Path, shape: Any, stride: Any, offset: Any) -> None:
    assert "tensor" in refusal(file, tensor(shape, stride, offset))


def test_tensor_within_its_storage_is_read(file: Path) -> None:
    file.write_bytes(tensor((3, 2), (5, 2), 1))
    assert read(file).tensors["weight"].shape == (3, 2)


def test_storage_that_claims_more_than_there_is(file: Path) -> None:
    torch.save(torch.arange(16.0), file, _use_new_zipfile_serialization=False)
    data = file.read_bytes()
    claimed = data.replace(b"K\x10N", b"\x8a\x05\x00\x00\x00\x00\x7fN", 1)  # 16 numbers become 2**38 * 127
    assert claimed != data
    assert "cut short" in refusal(file, claimed)


def test_array_of_another_size_than_its_bytes(file: Path) -> None:
    data = pickle.dumps({"array": np.zeros(200, np.float32)}, protocol=4)
    assert b"K\xc8\x85" in data
    assert "array" in refusal(file, data.replace(b"K\xc8\x85", b"K\xc9\x85", 1))


def test_cycles_are_refused(file: Path) -> None:
    looped: list[Any] = []
    looped.append({"again": looped})
    assert "contains itself" in refusal(file, pickle.dumps({"a": looped}))
    module = torch.nn.Module()
    module._modules["self"] = module
    assert "contains itself" in refusal(file, pickle.dumps(module))


def test_deep_nesting_is_refused(file: Path) -> None:
    assert "deeper" in refusal(file, b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".")
    assert "deeper" in refusal(file, b"\x80\x02)" + b"\x85" * 200_000 + b".")
    assert "key" in refusal(file, b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.")


def test_file_that_multiplies_is_refused(file: Path) -> None:
    """Each list holds ten times the one before ("a billion laughs"), and sets are made again and again from one list."""
    laughs = b"\x80\x02]q\x00" + b"".join(b"](" + b"h%c" % (level) * 10 + b"eq%c" % (level + 1) for level in range(12)) + b"."
    started = time.process_time()
    assert "parts" in refusal(file, laughs)
    copies = b"\x80\x02](" + b"K\x01" * 50_000 + b"eq\x000cbuiltins\nset\nq\x01" + b"h\x01h\x00\x85R0" * 50_000 + b"N."
    tracemalloc.start()
    assert "repeats itself" in refusal(file, copies)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000
    encoded = b"\x80\x02(X" + struct.pack("<I", 50_000) + b"a" * 50_000 + b"q\x00c_codecs\nencode\nq\x01"
    assert "repeats itself" in refusal(file, encoded + b"h\x01h\x00X\x06\x00\x00\x00latin1\x86R0" * 5_000 + b"tN.")
    once = b"cnumpy.core.multiarray\n_reconstruct\nq\x02h\x01h\x00X\x06\x00\x00\x00latin1\x86Rq\x03"
    state = b"h\x02)R(K\x01M\x50\xc3\x85cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R\x89h\x03tb0"
    assert "repeats itself" in refusal(file, encoded + once + state * 3 + b"tN.")
    assert time.process_time() - started < 20


def test_many_tensors_over_one_storage_are_refused(file: Path) -> None:
    storage = torch.zeros(100_000)._typed_storage()
    tensors = {str(index): Calls(torch._utils._rebuild_tensor_v2, storage, 0, (100_000,), (1,), False, {}) for index in range(50)}
    assert "many times its own size" in refusal(file, pickle.dumps(tensors))


@pytest.mark.parametrize("config", ["[" * 100_000, "[1]", "{"])
def test_header_of_safetensors_is_read_as_data_alone(tmp_path: Path, config: str) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", metadata={"config": config})
    with pytest.raises(CheckpointError, match="safetensors"):
        read(tmp_path / "a.safetensors")


def test_compressed_zip_is_refused(file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickle.dumps({"a": 1}, 2))
        archive.writestr("x/data/0", bytes(10_000_000))
    assert "compressed" in refusal(file, file.read_bytes())


def test_zip_without_its_storage_is_refused(file: Path) -> None:
    torch.save({"weight": torch.ones(2)}, file)
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist() if not name.endswith("data/0")}
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in entries.items():
            archive.writestr(name, value)
    assert "no entry" in refusal(file, file.read_bytes())


def test_source_inside_a_persistent_object_is_left_alone(file: Path) -> None:
    """Its source raises when it is run."""
    write_nvidia_pickle(file, {"G_ema": ("Generator", {"fc.weight": torch.ones(2, 2)}, {"z_dim": 2})})
    seen = inspect(file)
    assert seen["globals"] == sorted(seen["globals"])
    assert "torch_utils.persistence._reconstruct_persistent_obj" in seen["globals"]
    assert seen["tensors"] == [{"name": "G_ema.fc.weight", "shape": [2, 2], "dtype": "float32"}]


def whole_files() -> list[bytes]:
    """One file of each form."""
    weights = {"conv.weight": torch.randn(3, 2), "count": torch.arange(3)}
    files = []
    for is_zip in (True, False):
        stream = io.BytesIO()
        torch.save({"state_dict": weights, "epoch": 3}, stream, _use_new_zipfile_serialization=is_zip)
        files.append(stream.getvalue())
    files.append(pickle.dumps({"G_ema": torch.nn.Linear(2, 2), "array": np.arange(6.0).reshape(2, 3)}, protocol=4))
    files.append(pickle.dumps({"G_ema": torch.nn.Linear(2, 2), "array": np.float32(2.0)}, protocol=0))
    return files


WHOLE = whole_files()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_prefix_is_an_error_and_never_another_exception(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from(WHOLE))
    length = data.draw(st.integers(0, len(whole) - 1))
    refusal(tmp_path_factory.getbasetemp() / "prefix.pkl", whole[:length])


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_changed_byte_is_read_or_an_error_and_never_another_exception(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(data.draw(st.sampled_from(WHOLE)))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.pkl"
    path.write_bytes(whole)
    try:
        dict(read(path).tensors)
    except CheckpointError as error:
        assert str(path) in str(error)
