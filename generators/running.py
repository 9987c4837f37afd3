"""A request made batch by batch: cut to what fits in memory, the pixels of one batch on their way to the host while the next is made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from foreign.memory import release
from generators import half
from generators.batching import Growth
from generators.images import check_images
from generators.memory import OutOfMemory, is_out_of_memory
from generators.requests import Output, Request, Result
from generators.transfer import Fetched

Made = TypeVar("Made")


class Batched(Protocol):
    """What is asked of a generator here; `generators.base.Generator` says what each is."""

    batch_size: int
    precision: str
    exact: bool
    graphs: bool
    growth: Growth | None
    pad_to: int

    @property
    def name(self) -> str: ...

    def make_batch(self, request: Request, settings: Any) -> Output: ...


@dataclass
class _Begun:
    """A batch that the device was given: `count` images of the request from `start` on, and some more where it was filled up.

    `flags` are what was noted of images that are not finite, and `made_with` how all of it is made, where that is not the plain way."""

    start: int
    count: int
    request: Request
    output: Output
    flags: list[Fetched]
    made_with: dict[str, Any]

    @property
    def is_here(self) -> bool:
        return not isinstance(self.output, Fetched) or self.output.is_here


def batches(generator: Batched, request: Request, settings: Any) -> Iterator[Result]:
    """One result for each batch, in order. Where the pixels of a batch take their time to the host, the next batch is begun before them."""
    start, waiting = 0, deque[_Begun]()
    while start < len(request.seeds) or waiting:
        if start < len(request.seeds):
            begun = _begun(generator, request, start, settings)
            if begun is None:
                continue  # the batch size was halved: cut again
            waiting.append(begun)
            start += begun.count
        while waiting and (waiting[0].is_here or len(waiting) > 1 or start >= len(request.seeds)):
            first = waiting.popleft()
            batch = _within_memory(generator, partial(_finished, generator, first, settings))
            if batch is None:  # what is not finite did not fit in float32: this batch is cut again, and what follows it
                start = first.start
                waiting.clear()
                break
            yield batch.first(first.count)


def _begun(generator: Batched, request: Request, start: int, settings: Any) -> _Begun | None:
    """The next batch given to the device; None if it did not fit."""
    growth = generator.growth
    if growth is not None:
        generator.batch_size = growth.size
        growth.begin()
    part = request.part(slice(start, start + generator.batch_size))
    count, whole = len(part.seeds), part.padded(generator.batch_size if generator.exact or generator.graphs else generator.pad_to)

    def begin() -> tuple[Output, list[Fetched]]:
        with half.watching(generator.precision != "float32") as seen:
            return generator.make_batch(whole, settings), seen

    made = _within_memory(generator, begin)
    if made is None:
        return None
    if growth is not None:
        growth.end(count)
    return _Begun(start, count, whole, *made, _made_with(generator, len(whole.seeds)))


def _finished(generator: Batched, begun: _Begun, settings: Any) -> Result:
    """The batch with its pixels on the host. What is not finite in half precision is made again in float32."""
    result, size = _result(begun.output), len(begun.request.seeds)
    check_images(result.images, size, generator.name)
    again = half.not_finite([flags.array() for flags in begun.flags], size)
    if again:  # float16 ends at 65,504
        result.columns["made_with"] = [{"precision": "float32"} if place in again else {} for place in range(size)]
        rows = begun.request.rows(again)
        with half.in_float32(generator):
            wide = _result(generator.make_batch(rows, settings))
        wide.columns["made_with"] = [{"precision": "float32"}] * len(again)
        result.put(again, wide)
    known = result.columns.pop("made_with", [{}] * size)
    if begun.made_with or any(known):
        result.columns["made_with"] = [begun.made_with | more for more in known]
    return result


def _result(output: Output) -> Result:
    """Waits for the pixels."""
    return output if isinstance(output, Result) else Result(output.array() if isinstance(output, Fetched) else output)


def _made_with(generator: Batched, size: int) -> dict[str, Any]:
    """How a batch of `size` images is made, if not in the plain way: float32 in batches of the usual size."""
    if generator.precision != "float32":
        return {"batch": size, "precision": generator.precision}
    filled = generator.exact or generator.graphs or generator.growth is not None or generator.pad_to
    return {"batch": size} if filled or generator.batch_size != type(generator).batch_size else {}


def _within_memory(generator: Batched, make: Callable[[], Made]) -> Made | None:
    """`make()`, or None after halving the generator's `batch_size` because the device ran out of memory. A batch of one that fails is an
    error."""
    try:
        return make()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if generator.exact:
            raise OutOfMemory(
                f"{generator.name} does not fit in the device's memory with batches of {generator.batch_size}, which `exact` holds it to",
                "Give the checkpoint a smaller `batch_size` under `options`, or leave `exact` out",
            ) from None
        if generator.batch_size == 1:
            raise OutOfMemory(
                f"{generator.name} does not fit in the device's memory even with a batch of one",
                "Use a device with more memory, a smaller checkpoint, or its option `precision: bfloat16`",
            ) from None
    generator.batch_size //= 2
    if generator.growth is not None:
        generator.growth.halved(generator.batch_size)
    release()
    return None
