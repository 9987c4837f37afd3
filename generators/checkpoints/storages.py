"""Where a checkpoint's numbers lie: torch's storages in zip files and in the older streams, and NumPy's arrays.

A tensor stays a reference into the file until somebody wants it, so that networks that nobody asks for are never copied.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from generators.checkpoints.records import Global, MalformedError, check_key

STORAGE_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "QInt8Storage": torch.int8,
    "QUInt8Storage": torch.uint8,
    "QInt32Storage": torch.int32,
    "UntypedStorage": torch.uint8,
}
NUMPY_TYPES = {
    "f8": torch.float64,
    "f4": torch.float32,
    "f2": torch.float16,
    "i8": torch.int64,
    "i4": torch.int32,
    "i2": torch.int16,
    "i1": torch.int8,
    "u1": torch.uint8,
    "b1": torch.bool,
}
MAX_DIMENSIONS = 32
MAX_SIZE = 2**48  # of a dimension, a stride, an offset, and of all numbers of a tensor


def is_size(value: Any) -> bool:
    """Whether `value` is a whole number that a tensor's shape, strides or offset may have. True and False are none."""
    return type(value) is int and 0 <= value <= MAX_SIZE


@dataclass(eq=False)
class Storage:
    """A run of bytes. `data` is filled in when it is known where they lie; `is_shared` says that tensors may stay views of it."""

    length: int
    data: memoryview | bytes | None = None
    is_shared: bool = False

    def part(self, start: int, length: int) -> memoryview:
        """`length` bytes from `start`."""
        if self.data is None or len(self.data) < self.length or not 0 <= start <= start + length <= self.length:
            raise MalformedError(f"is cut short: a storage of {self.length:,} bytes has not all of them")
        return memoryview(self.data)[start : start + length]


@dataclass(eq=False)
class TensorRef:
    """A tensor by where it lies; offset and strides count its own numbers. `check` it before anything is read."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    def check(self) -> TensorRef:
        """This reference, if its numbers lie within its storage and are no more than the storage has; otherwise MalformedError."""
        if len(self.shape) != len(self.stride) or len(self.shape) > MAX_DIMENSIONS:
            raise MalformedError("holds a tensor whose shape, strides or offset make no sense")
        sound = all(is_size(value) for value in (*self.shape, *self.stride, self.offset))
        # torch multiplies the sizes of an empty tensor, too.
        if not sound or math.prod(max(size, 1) for size in self.shape) > MAX_SIZE:
            raise MalformedError("holds a tensor whose shape, strides or offset make no sense")
        capacity = self.storage.length // self.dtype.itemsize
        if self.numel > capacity or self.offset + self._extent() > capacity:
            raise MalformedError(
                f"holds a tensor of shape {list(self.shape)}, strides {list(self.stride)} in a storage of {capacity:,} numbers"
            )
        self._bytes()
        return self

    def _extent(self) -> int:
        """How many numbers of the storage it spans."""
        return 0 if self.numel == 0 else 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))

    def _bytes(self) -> memoryview:
        return self.storage.part(self.offset * self.dtype.itemsize, self._extent() * self.dtype.itemsize)

    def read(self) -> torch.Tensor:
        """The tensor: a view of the file where the storage is shared, otherwise a copy of its own numbers alone."""
        if self.numel == 0:
            return torch.empty(self.shape, dtype=self.dtype)
        part = self._bytes()
        if self.storage.is_shared:
            return torch.frombuffer(part, dtype=self.dtype).as_strided(self.shape, self.stride)
        # A bytearray is aligned and writable, which a place in the middle of a pickle is not.
        return torch.frombuffer(bytearray(part), dtype=self.dtype).as_strided(self.shape, self.stride)


class Tensors(Mapping[str, torch.Tensor]):
    """Tensors by name, each read from the file when it is asked for."""

    def __init__(self, references: Mapping[str, TensorRef]):
        self._references = dict(references)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._references[name].read()

    def __contains__(self, name: object) -> bool:
        return name in self._references

    def __iter__(self) -> Iterator[str]:
        return iter(self._references)

    def __len__(self) -> int:
        return len(self._references)


def make_contiguous_ref(data: memoryview | bytes, dtype: torch.dtype, shape: tuple[int, ...], fortran: bool = False) -> TensorRef:
    """A tensor whose numbers are all of `data`, in C order or in Fortran's."""
    storage = Storage(len(data), data)
    order = range(len(shape)) if fortran else range(len(shape) - 1, -1, -1)
    stride, step = [0] * len(shape), 1
    for axis in order:
        stride[axis] = step
        step *= max(shape[axis], 1)
    return TensorRef(storage, 0, shape, tuple(stride), dtype)


def make_scalar_ref(value: int | float | bool) -> TensorRef:
    """A tensor without dimensions: float32 or, of whole numbers, int64."""
    is_float = isinstance(value, float)
    if not is_float and not -(2**63) <= value < 2**63:
        raise MalformedError("holds a number that no tensor can hold")
    return make_contiguous_ref(struct.pack("<f" if is_float else "<q", value), torch.float32 if is_float else torch.int64, ())


def _parse_id(key: Any) -> tuple[torch.dtype, str, int, Any]:
    """Type, name, count and view of a persistent id `("storage", type, key, location, count[, view])`."""
    if not isinstance(key, tuple) or not 5 <= len(key) <= 8 or key[0] != "storage" or not isinstance(key[1], Global):
        raise MalformedError("refers to something outside itself that is no tensor storage")
    _, kind, name, _, count, *view = key
    if kind.name not in STORAGE_TYPES or kind.module.partition(".")[0] != "torch":
        raise MalformedError(f"holds a storage of an unknown type ({kind})")
    if not is_size(count) or not isinstance(name, str):
        raise MalformedError("holds a storage without a proper key and length")
    return STORAGE_TYPES[kind.name], name, count, view[0] if view else None


@dataclass(eq=False)
class TypedStorage:
    """A storage and the type that its pickle gives it."""

    storage: Storage
    dtype: torch.dtype


class ZipStorages:
    """Storages in a torch zip file, each an entry of its own. They stay views of the file, which is mapped copy-on-write."""

    def __init__(self, entries: Mapping[str, memoryview]):
        self.entries = entries
        self.storages: dict[str, Storage] = {}

    def find(self, key: Any) -> TypedStorage:
        dtype, name, count, _ = _parse_id(key)
        if name not in self.entries:
            raise MalformedError(f"is cut short: it has no entry for storage {name}")
        storage = self.storages.setdefault(name, Storage(count * dtype.itemsize, self.entries[name], is_shared=True))
        return TypedStorage(storage, dtype)


class StreamStorages:
    """Storages of the older stream, whose numbers follow the pickle: made empty first, filled by `fill`."""

    def __init__(self) -> None:
        self.roots: dict[str, tuple[Storage, torch.dtype]] = {}
        self.views: list[tuple[Storage, Storage, int]] = []

    def find(self, key: Any) -> TypedStorage | Global:
        if isinstance(key, tuple) and len(key) == 4 and key[0] == "module" and isinstance(key[1], Global):
            return key[1]  # a class with its source beside it, as torch stored whole modules
        dtype, name, count, view = _parse_id(key)
        root, root_dtype = self.roots.setdefault(name, (Storage(count * dtype.itemsize), dtype))
        if view is None:
            return TypedStorage(root, dtype)
        if not isinstance(view, tuple) or len(view) != 3:
            raise MalformedError("holds a view of a storage without a proper place")
        _, offset, length = view
        if not (is_size(offset) and is_size(length)):
            raise MalformedError("holds a view of a storage without a proper place")
        part = Storage(length * root_dtype.itemsize)
        self.views.append((part, root, offset * root_dtype.itemsize))
        return TypedStorage(part, dtype)

    def fill(self, data: memoryview, position: int, names: Any) -> None:
        """Finds the numbers of the storages `names` from `position` on, each after its count."""
        if not isinstance(names, list):
            raise MalformedError("has no list of its storages")
        if len(names) != len({check_key(name) for name in names}):
            raise MalformedError("lists a storage twice")
        for name in names:
            root, dtype = self.roots.get(check_key(name), (None, None))
            start = position + 8
            if root is None or dtype is None or start > len(data):
                raise MalformedError("is cut short, or lists a storage that no tensor uses")
            (count,) = struct.unpack_from("<q", data, position)
            position = start + root.length
            if count * dtype.itemsize != root.length or position > len(data):
                raise MalformedError(f"is cut short: storage {name} should have {root.length:,} bytes")
            root.data = data[start:position]
        for part, root, offset in self.views:
            part.data = root.part(offset, part.length)
