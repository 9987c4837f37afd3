"""How many denoising steps a schedule allows."""

from __future__ import annotations

import copy
from typing import Any

from generators.errors import InputError


def require_steps(scheduler: Any, steps: int | None) -> None:
    """InputError if a schedule over trained timesteps cannot be cut into so many steps. diffusers would look beyond its end, or fail."""
    if steps is None or not hasattr(scheduler, "alphas_cumprod") or _allows(scheduler, steps):
        return
    largest = next((fewer for fewer in range(min(steps, _trained(scheduler)), 0, -1) if _allows(scheduler, fewer)), 0)
    raise InputError(f"{steps} steps are too many for the {type(scheduler).__name__} of this checkpoint", f"It allows at most {largest}")


def _allows(scheduler: Any, steps: int) -> bool:
    schedule = copy.copy(scheduler)
    try:
        schedule.set_timesteps(steps)
    except (ValueError, IndexError, ZeroDivisionError, RuntimeError):
        return False
    return len(schedule.timesteps) > 0 and float(max(schedule.timesteps)) <= _trained(scheduler) - 1


def _trained(scheduler: Any) -> int:
    return int(scheduler.config.num_train_timesteps)
