"""Which faults pass when a shard is tried again (memory, disk, network, a device) and which come again every time."""

from __future__ import annotations

import re

from generators.errors import InputError
from generators.memory import is_out_of_memory
from pipelines.plan.shards import Shard

# A bug or a checkpoint that does not fit its method raises these, and does so every time.
FIXED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, NotImplementedError, AssertionError, ImportError, NameError)
# PyTorch raises RuntimeError for faults of both kinds. These are its words for tensors that do not fit each other.
MISFIT = re.compile(
    r"must match|shapes? |size mismatch|expected|not implemented|invalid|is not divisible|should be|out of bounds|state_dict|meta tensor",
    re.IGNORECASE,
)


class PassingFault(Exception):
    """What went wrong in another process and may go right at the next attempt: its exception's name and message."""


def is_passing(error: BaseException) -> bool:
    """Whether trying again may help. What nobody knows is tried again."""
    if is_out_of_memory(error):
        return True
    if isinstance(error, FIXED):  # InputError is a ValueError
        return False
    if isinstance(error, OSError):
        return not isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError))
    return not (isinstance(error, RuntimeError) and MISFIT.search(str(error)))


def as_input_error(shard: Shard, error: Exception) -> InputError:
    """`error`, which will not pass, as one line that names the shard, its generator, its checkpoint and what to do."""
    if isinstance(error, InputError):
        return error
    reason = f"{type(error).__name__}: {str(error).strip()}".split("\n", 1)[0].rstrip(":. ")
    if not shard.generator:
        return InputError(f"{shard.title} cannot be made ({reason})", "Look at the images of this real source")
    return InputError(
        f"{shard.title}: {shard.generator} with the checkpoint {shard.checkpoint} makes no image ({reason})",
        "Trying again would not help. Check that the checkpoint's options and the step's parameters are those that its network needs",
    )
