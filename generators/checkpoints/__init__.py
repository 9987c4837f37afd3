"""Reading weights that strangers made, without running anything that is in them."""

from generators.checkpoints.files import Checkpoint, sha256_of
from generators.checkpoints.reader import Contents, read, write_safetensors

__all__ = ["Checkpoint", "Contents", "read", "sha256_of", "write_safetensors"]
