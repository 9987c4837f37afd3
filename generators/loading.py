"""Loading a generator by name, with what its checkpoint's options say about speed.

- `precision`: "float32" (the default), "float16", "bfloat16", or "released": as the authors run it, on a GPU; on a CPU that is float32.
  Half precision is what a GPU is fast in, and recent CPUs in bfloat16. It changes pixels by more than a grey level, which is why it is an
  option of the checkpoint: options are part of a shard's key. What becomes not-a-number in it is made again in float32.
- `batch_size`: how many images are made at once. Without it, a CPU makes as many as the generator says, and a GPU as many as fit and pay.
- `exact`: true holds every batch to one shape and PyTorch to kernels that give the same result at each call, so that a shard comes out the
  same on every card of one kind, whatever was made before it. What follows a gradient (DiffFace) is held to it on a CPU alone: PyTorch has
  no such kernels for the gradients of its warps on a GPU.
- `compile`: true for `torch.compile`. Worth it on a GPU and for thousands of images, since the first batch waits for the compiler
  (minutes); on a CPU it needs a C++ compiler. It changes pixels by rounding only.
- `cuda_graphs`: true lets `torch.compile` make CUDA graphs too, of a GAN: its hundreds of small kernels are then begun by one call. Graphs
  have one shape, so batches are of one size, `batch_size` or the generator's usual one, and are filled up.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any

import torch

from generators import registry
from generators.base import Generator
from generators.batching import CudaMeter, Growth
from generators.checkpoints import Checkpoint
from generators.errors import InputError
from generators.memory import OutOfMemory, is_out_of_memory
from generators.numerics import state_numerics

REPEATED = 0.8  # of the weights: from here on compiling the repeated blocks alone leaves little as it was
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_generator(
    name: str,
    checkpoint: Checkpoint,
    device: str | torch.device = "cpu",
    *,
    batch_size: int | None = None,
    remembered: MutableMapping[str, int] | None = None,
    title: str = "",
) -> Generator:
    """The generator `name` with `checkpoint` on `device`. InputError for options that are wrong, CheckpointError if it cannot be loaded.

    `batch_size` goes before that of the options, unless these say `exact`. `remembered` holds the sizes of batches that were found to fit
    and to pay; `title` says there which checkpoint this is. Without it, batches do not grow.
    """
    method = registry.get(name)
    try:
        options = method.parse_options(checkpoint.options)
    except InputError as error:
        raise InputError(f"{checkpoint.path.name}: {error.message}", error.fix) from None
    checkpoint = replace(checkpoint, options=options)
    precision, exact = precision_on(device, options.get("precision", "float32"), method), options.get("exact", False)
    graphs = options.get("cuda_graphs", False) and not exact
    if graphs:
        require_graphs(method, device, checkpoint.path.name)
    compiles = options.get("compile", False) and not exact
    if compiles:
        require_compiler(device, checkpoint.path.name)
    if torch.device(device).type == "cuda":
        state_numerics(exact)
    try:
        generator = method.load(checkpoint, device, PRECISIONS[precision])
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"{name} with {checkpoint.path.name} does not fit in the memory of {device}", "Use a device with more") from None
    generator.precision, generator.exact, generator.graphs = precision, exact, graphs
    wanted = options.get("batch_size") if exact else batch_size or options.get("batch_size")
    generator.batch_size = wanted or generator.batch_size
    if torch.device(device).type == "cuda" and not wanted and not exact and not graphs and remembered is not None:
        key = f"{name} {title}, {generator.resolution} px, {precision}, {torch.cuda.get_device_name(device)}"
        generator.growth = Growth(CudaMeter(torch.device(device)), remembered, key, generator.batch_size)
    if graphs or compiles:
        compile_networks(generator, graphs=graphs)
    return generator


def require_graphs(method: type[Generator], device: str | torch.device, source: str) -> None:
    """InputError if CUDA graphs cannot hold the networks of a method, or `device` has none."""
    if not method.repeats:
        able = ", ".join(name for name in registry.names() if registry.get(name).repeats)
        raise InputError(f"{source}: cuda_graphs is an option of networks that do the same in every batch ({able})", "Set `compile`")
    if torch.device(device).type != "cuda":
        raise InputError(f"{source}: cuda_graphs needs an NVIDIA GPU, and this is {device}", "Leave it out, or build on one")


def require_compiler(device: str | torch.device, source: str) -> None:
    """InputError if `torch.compile` is to make code for a CPU, and finds no C++ compiler. It would say so at the first image."""
    if torch.device(device).type != "cpu":
        return
    from torch._inductor.cpp_builder import get_cpp_compiler  # takes a second
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise InputError(
            f"{source}: compile needs a C++ compiler on a CPU, and none works here", "Install g++, name one in $CXX, or take `compile` out"
        ) from None


def precision_on(device: str | torch.device, asked: str, method: type[Generator]) -> str:
    """The precision that `asked` means on `device`: "released" is that of the method's authors on a GPU, and float32 on a CPU."""
    if asked != "released":
        return asked
    return "float32" if torch.device(device).type == "cpu" else method.released_precision


def compile_networks(generator: Generator, backend: str = "inductor", graphs: bool = False) -> None:
    """Lets `torch.compile` translate the generator's `networks`, each when it is first called; into CUDA graphs if so asked.

    Where a network of diffusers names the block that it repeats, that block is translated once and used for all: a transformer of 57 blocks
    then waits for the compiler a few times less long.
    """
    for network in find_networks(generator):
        if graphs:
            network.compile(backend=backend, mode="reduce-overhead", dynamic=False)
        elif repeated_blocks(network):
            network.compile_repeated_blocks(backend=backend)
        else:
            network.compile(backend=backend)


def repeated_blocks(network: Any) -> list[torch.nn.Module]:
    """The blocks that a network of diffusers says it repeats, where they hold nearly all of its weights; else none, as of a UNet, whose
    convolutions lie outside them."""
    names = getattr(network, "_repeated_blocks", None) if hasattr(network, "compile_repeated_blocks") else None
    blocks = [module for module in network.modules() if type(module).__name__ in names] if names else []
    inside = sum(weight.numel() for block in blocks for weight in block.parameters())
    return blocks if inside >= REPEATED * sum(weight.numel() for weight in network.parameters()) else []


def find_networks(generator: Generator) -> list[torch.nn.Module]:
    """The modules behind a generator's `networks`; those of the generator inside, where one wraps another."""
    networks = []
    for dotted in generator.networks:
        part = generator
        for name in dotted.split("."):
            part = getattr(part, name)
        networks += find_networks(part) if isinstance(part, Generator) else [part]
    return networks
