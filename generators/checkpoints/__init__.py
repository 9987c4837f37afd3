"""Reading weights that strangers made, without running anything that is in them."""

from generators.checkpoints.files import Checkpoint, sha256_of, sha256_of_listing
from generators.checkpoints.reader import Contents, convert, inspect, read, write_safetensors

__all__ = ["Checkpoint", "Contents", "convert", "inspect", "read", "sha256_of", "sha256_of_listing", "write_safetensors"]
