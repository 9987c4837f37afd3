"""Reading weights that strangers made, without running anything that is in them."""

from generators.checkpoints.files import Checkpoint, sha256_of, sha256_of_listing
from generators.checkpoints.names import read_weights
from generators.checkpoints.reader import Contents, convert, inspect, read, write_safetensors

__all__ = ["Checkpoint", "Contents", "convert", "inspect", "read", "read_weights", "sha256_of", "sha256_of_listing", "write_safetensors"]
