"""Loading a generator by name, with what its checkpoint's options say about speed.

- `precision`: "float32" (the default), "float16" or "bfloat16". Half precision is what a GPU is fast in, and recent CPUs in bfloat16.
  It changes pixels by more than a grey level, which is why it is an option of the checkpoint: options are part of a shard's key.
- `compile`: true for `torch.compile`. Worth it on a GPU and for thousands of images, since the first batch waits for the compiler
  (minutes); on a CPU it needs a C++ compiler. It changes pixels by rounding only.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from generators import registry
from generators.base import Generator
from generators.checkpoints import Checkpoint
from generators.errors import InputError
from generators.memory import OutOfMemory, is_out_of_memory

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_generator(name: str, checkpoint: Checkpoint, device: str | torch.device = "cpu") -> Generator:
    """The generator `name` with `checkpoint` on `device`. InputError for options that are wrong, CheckpointError if it cannot be loaded."""
    method = registry.get(name)
    try:
        options = method.parse_options(checkpoint.options)
    except InputError as error:
        raise InputError(f"{checkpoint.path.name}: {error.message}", error.fix) from None
    checkpoint = replace(checkpoint, options=options)
    try:
        generator = method.load(checkpoint, device, PRECISIONS[options.get("precision", "float32")])
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"{name} with {checkpoint.path.name} does not fit in the memory of {device}", "Use a device with more") from None
    if options.get("compile"):
        compile_networks(generator)
    return generator


def compile_networks(generator: Generator, backend: str = "inductor") -> None:
    """Lets `torch.compile` translate the generator's `networks`, each when it is first called."""
    for network in find_networks(generator):
        network.compile(backend=backend)


def find_networks(generator: Generator) -> list[torch.nn.Module]:
    """The modules behind a generator's `networks`; those of the generator inside, where one wraps another."""
    networks = []
    for dotted in generator.networks:
        part = generator
        for name in dotted.split("."):
            part = getattr(part, name)
        networks += find_networks(part) if isinstance(part, Generator) else [part]
    return networks
