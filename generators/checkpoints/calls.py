"""The calls in a pickle that are carried out, by functions of ours: those that build tensors, arrays and plain containers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import torch

from generators.checkpoints.pickles import unpickle
from generators.checkpoints.records import Global, MalformedError, Record, RefusedError, check_key
from generators.checkpoints.storages import (
    MAX_DIMENSIONS,
    NUMPY_TYPES,
    StreamStorages,
    TensorRef,
    TypedStorage,
    is_size,
    make_contiguous_ref,
)

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
_SCALARS = {
    "f8": "d",
    "f4": "f",
    "f2": "e",
    "i8": "q",
    "i4": "i",
    "i2": "h",
    "i1": "b",
    "u8": "Q",
    "u4": "I",
    "u2": "H",
    "u1": "B",
    "b1": "?",
}


class NumpyType:
    """A NumPy dtype: `code` such as "f4", little-endian unless its state says otherwise."""

    def __init__(self, code: Any, *_: Any):
        if not isinstance(code, str):
            raise MalformedError("holds an array of an unknown type")
        self.code, self.order = code.lstrip("<>=|"), ">" if code.startswith(">") else "<"

    def set_state(self, state: Any) -> None:
        self.order = ">" if state[1] == ">" else "<"


class ArrayRef:
    """A NumPy array that becomes a `TensorRef` when its state arrives; None for an array of anything but numbers."""

    tensor: TensorRef | None = None

    def set_state(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.tensor = _make_array(data, dtype, shape, bool(fortran))


def _make_array(data: Any, dtype: Any, shape: Any, fortran: bool) -> TensorRef | None:
    if isinstance(data, str):
        data = data.encode("latin-1")  # Python 2 wrote bytes as text
    if not isinstance(dtype, NumpyType) or dtype.code not in NUMPY_TYPES or not isinstance(data, (bytes, memoryview)):
        return None
    if dtype.order != "<" and dtype.code[-1] != "1":
        raise MalformedError("holds a big-endian array")
    kind = NUMPY_TYPES[dtype.code]
    if not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS or not all(map(is_size, shape)):
        raise MalformedError("holds an array without a proper shape")
    array = make_contiguous_ref(data, kind, shape, fortran)
    if array.numel * kind.itemsize != len(data):
        raise MalformedError(f"holds an array of shape {list(shape)} in {len(data):,} bytes")
    return array


def _array_from_buffer(data: Any, dtype: Any, shape: Any, order: str = "C") -> ArrayRef:
    array = ArrayRef()
    array.tensor = _make_array(data, dtype, shape, order == "F")
    return array


def _scalar(dtype: Any, data: Any = b"") -> int | float | bool | None:
    if isinstance(data, str):
        data = data.encode("latin-1")
    if not isinstance(dtype, NumpyType) or dtype.code not in _SCALARS or not isinstance(data, bytes):
        return None
    return struct.unpack(dtype.order + _SCALARS[dtype.code], data)[0]


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> TensorRef:
    if not isinstance(storage, TypedStorage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise MalformedError("holds a tensor without a storage")
    if max(len(shape), len(stride)) > MAX_DIMENSIONS:
        raise MalformedError(f"holds a tensor of more than {MAX_DIMENSIONS} dimensions")
    return TensorRef(storage.storage, offset, shape, stride, storage.dtype)


def _tensor_of_type(storage: Any, offset: Any, shape: Any, stride: Any, _requires_grad: Any, _hooks: Any, dtype: Any, *_: Any) -> TensorRef:
    kind = getattr(torch, dtype.name, None) if isinstance(dtype, Global) and dtype.module == "torch" else None
    if not isinstance(kind, torch.dtype) or not isinstance(storage, TypedStorage):
        raise MalformedError("holds a tensor without a type")
    return _tensor(TypedStorage(storage.storage, kind), offset, shape, stride)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _typed(_function: Any, _kind: Any, args: Any, *_: Any) -> TensorRef:
    """A subclass of Tensor (an nn.Parameter with attributes), of which the numbers are taken."""
    return _tensor(*args)


def read_stream(data: memoryview, calls: dict[tuple[str, str], Callable[..., Any]]) -> tuple[Any, frozenset[Global]]:
    """The value of torch's older, non-zip format, and the names in it: magic number, version, platform, value, storages."""
    position, head = 0, []
    for _ in range(3):
        part = unpickle(data, {}, start=position)
        head.append(part.value)
        position = part.end
    magic, version, platform = head
    if magic != LEGACY_MAGIC or version != LEGACY_PROTOCOL or not isinstance(platform, dict):
        raise MalformedError("is no torch stream of a known version")
    if platform.get("little_endian") is False:
        raise MalformedError("was written on a big-endian machine")
    storages = StreamStorages()
    body = unpickle(data, calls, storages.find, position)
    names = unpickle(data, {}, start=body.end)
    storages.fill(data, names.end, names.value)
    return body.value, body.globals


def _storage_from_bytes(data: Any) -> TypedStorage:
    """A storage inside a pickle: a whole stream of its own, in which nothing may be called at all."""
    value, _ = read_stream(memoryview(data), {})
    if not isinstance(value, TypedStorage):
        raise MalformedError("holds a storage that is none")
    return value


def _set(items: Any = ()) -> set[Any]:
    return {check_key(item) for item in items}


def _dict(*items: Any, **named: Any) -> dict[Any, Any]:
    if not items:
        return dict(named)
    pairs = items[0].items() if isinstance(items[0], dict) else items[0]
    return {check_key(key): value for key, value in pairs} | named


def _size(sizes: Any = ()) -> tuple[int, ...]:
    if not isinstance(sizes, (list, tuple)):
        raise MalformedError("holds a size that is none")
    return tuple(sizes)


def _device(kind: Any, index: Any = None) -> str:
    if not isinstance(kind, str) or not isinstance(index, (int, type(None))):
        raise MalformedError("names a device that is none")
    return kind if index is None else f"{kind}:{index}"


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How protocol 2 writes bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise RefusedError(f"wants text encoded as {encoding}")
    return text.encode("latin-1")


def _persistent_object(meta: Any) -> Record:
    """NVIDIA's persistent classes: the source that they carry is left alone, class name and state are kept."""
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("class_name"), str):
        raise MalformedError("holds a persistent object without a class name")
    return Record(Global("", meta["class_name"]), state=meta.get("state"))


def _reconstructed(cls: Any, base: Any, state: Any = None) -> Any:
    """`copyreg`'s way to make an object of a class that derives from `base`, for protocols 0 and 1."""
    if not isinstance(cls, Global) or not isinstance(base, Global):
        raise MalformedError("rebuilds an object without a class")
    if (cls.module, cls.name) in DICTIONARIES:
        return _dict(state or {})
    return Record(cls, items=list(state) if isinstance(state, (list, tuple)) else [])


def _inert(module: str, name: str) -> Callable[..., Record]:
    return lambda *args: Record(Global(module, name), args)


DICTIONARIES = {
    ("collections", "OrderedDict"),
    ("dnnlib.util", "EasyDict"),
    ("dnnlib", "EasyDict"),
    ("easydict", "EasyDict"),
    ("builtins", "dict"),
    ("__builtin__", "dict"),
}
_STANDARD_OBJECTS = [
    ("argparse", "Namespace"),
    ("types", "SimpleNamespace"),
    ("functools", "partial"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("pathlib._local", "PosixPath"),
    ("pathlib", "PurePosixPath"),
    ("datetime", "datetime"),
    ("datetime", "timedelta"),
    ("datetime", "timezone"),
    ("datetime", "date"),
    ("datetime", "time"),
    ("decimal", "Decimal"),
    ("fractions", "Fraction"),
    ("uuid", "UUID"),
    *((module, name) for module in ("builtins", "__builtin__") for name in ("slice", "complex", "range", "bytearray")),
    ("__builtin__", "xrange"),
    # Tensors of a form that no generator has. They are left out, as every object is that is neither a tensor nor plain data.
    ("torch._utils", "_rebuild_qtensor"),
    ("torch._utils", "_rebuild_sparse_tensor"),
    ("torch.serialization", "_get_layout"),
    ("torch._utils", "_rebuild_meta_tensor_no_storage"),
    ("collections", "Counter"),
    ("collections", "deque"),
]

CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_type,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _typed,
    ("torch.storage", "_load_from_bytes"): _storage_from_bytes,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    ("numpy", "dtype"): NumpyType,
    ("builtins", "set"): _set,
    ("__builtin__", "set"): _set,
    ("builtins", "frozenset"): lambda items=(): frozenset(_set(items)),
    ("__builtin__", "frozenset"): lambda items=(): frozenset(_set(items)),
    ("_codecs", "encode"): _encode,
    ("copyreg", "_reconstructor"): _reconstructed,
    ("copy_reg", "_reconstructor"): _reconstructed,
    ("collections", "defaultdict"): lambda *_: {},
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent_object,
    **dict.fromkeys(DICTIONARIES, _dict),
    **{(module, name): _inert(module, name) for module, name in _STANDARD_OBJECTS},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: ArrayRef() for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array_from_buffer for core in ("core", "_core")},
}
