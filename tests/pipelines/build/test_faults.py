"""Which faults are tried again, and what a person is told of those that are not."""

from __future__ import annotations

import os
import pickle
from multiprocessing.connection import Pipe

import pytest
import torch

from generators.errors import InputError
from generators.memory import OutOfMemory
from pipelines.build import workers
from pipelines.build.faults import PassingFault, as_input_error, is_passing
from pipelines.build.workers import WorkerDied, _sendable
from pipelines.plan.shards import Shard

PASSING = [
    OSError(28, "No space left on device"),
    ConnectionResetError("reset by peer"),
    TimeoutError(),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("the device fell over"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    OutOfMemory("ddpm does not fit"),
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
    WorkerDied("killed by SIGKILL"),
]
FIXED = [
    ValueError("class_labels should be provided when doing class conditioning"),
    KeyError("token_emb.weight"),
    IndexError("index 1000 is out of bounds for dimension 0 with size 1000"),
    TypeError("must give uint8 RGB"),
    RuntimeError("The size of tensor a (9) must match the size of tensor b (4) at non-singleton dimension 1"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (77x768 and 1024x320)"),
    RuntimeError(
        "Given groups=1, weight of size [8, 3, 3, 3], expected input[1, 4, 16, 16] to have 3 channels, but got 4 channels instead"
    ),
    NotImplementedError("Cannot copy out of meta tensor; no data!"),
    InputError("there is no such file"),
    FileNotFoundError(2, "No such file"),
]


def shard(generator: str = "ddpm") -> Shard:
    return Shard("final", "X", "faces", 0, 0, 0, 2, "k", (), generator, "ck")


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    assert is_passing(error)


@pytest.mark.parametrize("error", FIXED, ids=repr)
def test_what_comes_again_every_time_is_not(error: Exception) -> None:
    assert not is_passing(error)


def test_a_fixed_fault_names_the_shard_the_generator_and_the_checkpoint() -> None:
    told = as_input_error(shard(), KeyError("token_emb.weight"))
    assert told.message == "X step 1 faces 0-1: ddpm with the checkpoint ck makes no image (KeyError: 'token_emb.weight')"
    assert "options" in told.fix
    assert "\n" not in str(as_input_error(shard(), RuntimeError("shapes\nmany lines")))
    kept = InputError("as it is")
    assert as_input_error(shard(), kept) is kept


@pytest.mark.parametrize("error", [PASSING[0], OutOfMemory("full"), ValueError("wrong"), InputError("wrong", "fix")], ids=repr)
def test_a_worker_sends_what_its_parent_can_read(error: Exception) -> None:
    sent = pickle.loads(pickle.dumps(_sendable(shard(), error)))
    assert is_passing(sent) == is_passing(error)
    assert isinstance(sent, (PassingFault, InputError))


@pytest.mark.parametrize(("error", "ends"), [(torch.AcceleratorError("CUDA error: invalid argument"), True), (OSError("disk"), False)])
def test_a_worker_that_lost_its_gpu_answers_and_ends(monkeypatch: pytest.MonkeyPatch, error: Exception, ends: bool) -> None:
    """So that its parent starts another one for the next attempt."""
    ended: list[int] = []

    class Failing:
        def __init__(self, *_: object) -> None: ...

        def produce(self, shard: Shard) -> None:
            raise error

    monkeypatch.setattr(workers, "Producer", Failing)
    monkeypatch.setattr(workers, "Store", lambda *_: None)
    monkeypatch.setattr(workers.os, "_exit", ended.append)
    ours, theirs = Pipe()
    monkeypatch.setattr("sys.argv", ["worker", str(os.dup(theirs.fileno()))])
    ours.send_bytes(pickle.dumps((None, (), "cuda:1", torch.get_num_threads(), None)))
    ours.send((7, shard()))
    ours.send(None)
    workers.main()
    number, answer = ours.recv()
    assert number == 7 and isinstance(answer, PassingFault) and str(error) in str(answer)
    assert ended == ([1] if ends else [])
