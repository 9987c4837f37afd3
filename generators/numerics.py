"""How a GPU rounds: which shortcuts PyTorch may take. Stated here once, and recorded with what was made."""

from __future__ import annotations

from typing import Any

import torch


def state_numerics(exact: bool = False) -> None:
    """Sets what PyTorch leaves to its defaults, so that no other library's choice decides.

    Matrix products are in full float32, and convolutions may use TF32 (10 bits of mantissa) as in the authors' releases, whose code leaves
    both as PyTorch has them. cuDNN chooses its kernels by rule and not by timing, which could choose another one each time. `exact` also
    takes TF32 from convolutions and allows only kernels whose result is the same at each call.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = not exact
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = exact


def numerics() -> dict[str, Any]:
    """The settings as they are, as plain data for a version's record."""
    return {
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
    }
