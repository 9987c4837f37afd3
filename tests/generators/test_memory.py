"""Memory that runs out, on a GPU or a CPU: the batch is halved, and one line says so where even one image does not fit."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from generators.base import SampleRequest
from generators.memory import OutOfMemory, batch_memory, free_memory, is_out_of_memory
from generators.networks.diffusion.latents import images_at_once
from tests.generators.test_base import Shift

SAID = [
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 64 bytes."),
    RuntimeError("MPS backend out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("could not create a memory object"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
]


@pytest.mark.parametrize("error", SAID, ids=lambda error: str(error)[:30] or "MemoryError")
def test_the_batch_is_halved_whoever_says_that_memory_ran_out(error: Exception) -> None:
    sizes: list[int] = []

    class Hungry(Shift):
        batch_size = 8

        def _sample(self, seeds: list[int], settings: Any) -> np.ndarray:
            sizes.append(len(seeds))
            if len(seeds) > 2:
                raise error
            return np.stack([np.full((4, 4, 3), seed, np.uint8) for seed in seeds])

    assert Hungry().run(SampleRequest(range(5))).images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert sizes == [5, 4, 2, 2, 1]


def test_one_image_that_does_not_fit_is_an_error_with_a_way_out() -> None:
    class Huge(Shift):
        def _sample(self, seeds: list[int], settings: Any) -> np.ndarray:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(OutOfMemory, match=r"shift does not fit in the device's memory even with a batch of one.*precision"):
        Huge().run(SampleRequest(range(5)))


def test_other_errors_are_not_taken_for_it() -> None:
    assert not is_out_of_memory(RuntimeError("The size of tensor a (9) must match the size of tensor b (4)"))
    assert not is_out_of_memory(ValueError("out of memory"))


LIMITED = """
import resource
import torch
from diffusers import DDPMScheduler, UNet2DModel
from generators.base import SampleRequest
from generators.methods.ddpm import DDPM
blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
unet = UNet2DModel(sample_size=256, block_out_channels=(32, 32), layers_per_block=1, norm_num_groups=8, **blocks)
model = DDPM(unet, DDPMScheduler().config, "cpu", torch.float32)
model.run(SampleRequest([0]), steps=1)
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
print(model.run(SampleRequest(range(8)), steps=1).images.shape, model.batch_size)
"""


@pytest.mark.slow
def test_a_real_process_with_little_memory_halves_its_batch() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("(8, 256, 256, 3)"), done.stderr
    assert int(done.stdout.split()[-1]) < 8


def test_what_pytorch_keeps_of_earlier_batches_is_free_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a batch would shrink to one image as soon as the first large one has been made."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 20, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 70 << 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 6 << 30)
    assert free_memory("cuda:0") == batch_memory("cuda:0") == (64 << 30) + (1 << 20)
    vae: Any = SimpleNamespace(dtype=torch.float16, config=SimpleNamespace(block_out_channels=(128, 256)))
    assert images_at_once(vae, 512 * 512, torch.device("cuda", 0)) == 64
