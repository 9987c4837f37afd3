"""Copies that the host does not wait for, with a simulated card: its copies are made when its event is waited for, and no earlier."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from generators import half, transfer
from generators.base import Generator, Output, SampleRequest
from generators.checkpoints import Checkpoint
from generators.images import fetch_uint8, to_float, to_uint8
from generators.transfer import Fetched, constant, fetch, send


class LateCopy:
    """An event of a copy that is made when somebody waits for it."""

    def __init__(self, source: torch.Tensor, log: list[str]):
        self.source, self.host, self.log = source, torch.full_like(source, 77), log

    def synchronize(self) -> None:
        self.log.append("waited")
        self.host.numpy()[:] = self.source.numpy()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A card in the place of the CPU; the list says what it was asked for, in order."""
    events: list[str] = []

    def begin_copy(tensor: torch.Tensor) -> tuple[torch.Tensor, LateCopy]:
        copy = LateCopy(tensor, events)
        events.append("sent")
        return copy.host, copy

    monkeypatch.setattr(transfer, "crosses", lambda device: True)
    monkeypatch.setattr("generators.images.crosses", lambda device: True)
    monkeypatch.setattr(transfer, "_begin_copy", begin_copy)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    return events


class Drawn(Generator):
    """Pictures as grey as their seeds, in batches of two; of a negative seed not-a-number in half precision."""

    name, title, family, licence, kinds = "drawn", "Drawn", "GAN", "MIT", ("sample",)
    resolution = 4
    batch_size = 2

    def __init__(self, log: list[str], fits: int = 1 << 20):
        self.log, self.fits, self.dtype = log, fits, torch.float32

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Drawn:
        return cls([])

    def _sample(self, seeds: list[int], settings: Any) -> Output:
        if len(seeds) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.log.append(f"made {seeds}")
        grey = torch.tensor(seeds, dtype=self.dtype)
        if self.dtype == torch.float16:
            grey = torch.where(grey < 0, torch.nan, grey)
        return fetch_uint8((grey.abs() / 255)[:, None, None, None].expand(-1, 3, 4, 4), 0.0, 1.0)


def greys(result: Any) -> list[int]:
    return result.images[:, 0, 0, 0].tolist()


def test_the_next_batch_is_made_before_the_pixels_of_this_one_are_waited_for(log: list[str]) -> None:
    result = Drawn(log).run(SampleRequest(range(5)))
    assert log == ["made [0, 1]", "sent", "made [2, 3]", "sent", "waited", "made [4]", "sent", "waited", "waited"]
    assert greys(result) == [0, 1, 2, 3, 4]


def test_without_such_a_card_each_batch_is_given_at_once_and_the_pixels_are_the_same(
    log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Drawn(log).run(SampleRequest(range(5))).images
    monkeypatch.undo()
    plain = Drawn([])
    batches = plain.batches(SampleRequest(range(5)))
    first = next(batches)
    assert plain.log == ["made [0, 1]"], "nothing is made ahead of who asks"
    assert np.array_equal(np.concatenate([first.images, *(batch.images for batch in batches)]), sent)


def test_a_batch_that_does_not_fit_is_cut_again_while_another_is_on_its_way(log: list[str]) -> None:
    generator = Drawn(log)
    batches = generator.batches(SampleRequest(range(6)))
    first = next(batches)
    generator.fits = 1
    rest = list(batches)
    assert greys(first) == [0, 1]
    assert [greys(batch) for batch in rest] == [[2, 3], [4], [5]], "the batch that had been begun is kept"
    assert rest[1].columns == {"made_with": [{"batch": 1}]} and rest[0].columns == {}


def test_what_is_not_finite_is_made_again_once_its_pixels_are_there(log: list[str]) -> None:
    generator = Drawn(log)
    generator.dtype, generator.precision = torch.float16, "float16"
    result = generator.run(SampleRequest([1, -2, 3, 4]))
    assert greys(result) == [1, 2, 3, 4]
    assert [entry["precision"] for entry in result.columns["made_with"]] == ["float16", "float32", "float16", "float16"]
    made = [entry for entry in log if entry.startswith("made")]
    assert made == ["made [1, -2]", "made [3, 4]", "made [-2]"]


def test_a_float32_that_does_not_fit_cuts_the_batch_again(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Drawn(log)
    generator.dtype, generator.precision = torch.float16, "float16"
    make, failed = generator.make_batch, []

    def once(request: Any, settings: Any) -> Output:
        if generator.dtype == torch.float32 and not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return make(request, settings)

    monkeypatch.setattr(generator, "make_batch", once)
    result = generator.run(SampleRequest([-1, -2, 3, 4, 5]))
    assert failed and greys(result) == [1, 2, 3, 4, 5]
    assert generator.batch_size == 1 and generator.dtype == torch.float16


def test_one_channel_becomes_three_on_either_way(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    grey = torch.linspace(-1.2, 1.2, 32).view(2, 1, 4, 4)
    fetched = fetch_uint8(grey, rounding="half_up")
    assert isinstance(fetched, Fetched) and not fetched.is_here
    there = fetched.array()
    assert fetched.is_here and there is not None and log.count("waited") == 1
    fetched.array()
    assert log.count("waited") == 1, "it is waited for once"
    monkeypatch.undo()
    plain = to_uint8(grey, rounding="half_up")
    assert plain.shape == (2, 4, 4, 3) and np.array_equal(there, plain)
    assert np.array_equal(plain, np.repeat(to_uint8(grey.expand(-1, 3, -1, -1), rounding="half_up")[..., :1], 3, -1))


def test_a_stream_of_its_own_copies_what_is_computed_into_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of calls to CUDA; without one of them a picture could be read, or its memory be given away, before it is copied."""
    calls: list[str] = []

    class Stream:
        def wait_stream(self, other: str) -> None:
            calls.append(f"wait for {other}")

        def record_event(self) -> str:
            calls.append("event")
            return "event"

    @contextmanager
    def within(stream: Any) -> Any:
        calls.append("enter")
        yield
        calls.append("leave")

    source = torch.arange(6, dtype=torch.uint8)
    monkeypatch.setattr(transfer, "_pinned", torch.zeros_like)
    monkeypatch.setattr(transfer, "_stream_of_copies", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the work")
    monkeypatch.setattr(torch.cuda, "stream", within)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: calls.append("kept"))
    monkeypatch.setattr(torch.Tensor, "copy_", lambda host, tensor, non_blocking: calls.append(f"copy {non_blocking}"))
    host, event = transfer._begin_copy(source)
    assert calls == ["wait for the work", "enter", "copy True", "event", "leave", "kept"]
    assert host.shape == source.shape and event == "event"


def test_numbers_are_sent_from_pinned_memory_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[int] = []
    monkeypatch.setattr(transfer, "crosses", lambda device: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.numel()) or tensor)
    assert send(torch.zeros(3), "meta").device.type == "meta"
    assert to_float(np.zeros((1, 2, 2, 3), np.uint8), device="meta").shape == (1, 3, 2, 2)
    assert pinned == [3, 12]


def test_without_a_card_that_copies_aside_what_is_fetched_is_there() -> None:
    fetched = fetch(torch.arange(3))
    assert fetched.is_here and fetched.array().tolist() == [0, 1, 2]
    with half.watching(False) as seen:
        half.note(torch.full((2, 2), torch.nan))
    assert seen == []


def test_a_constant_is_made_once_and_may_be_kept_for_a_gradient() -> None:
    with torch.inference_mode():
        first = constant((0.5, 2.0), torch.device("cpu"), torch.float32)
    assert constant((0.5, 2.0), torch.device("cpu"), torch.float32) is first
    x = torch.ones(2, requires_grad=True)
    (x / first).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2.0, 0.5]
