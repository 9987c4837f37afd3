"""Numbers as a reader wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.manifest.chains import ChainStep


def count(number: int, noun: str, plural: str | None = None) -> str:
    """ "1 image", "1,200 images"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


# What scores without any knowledge have, where it does not depend on how many reals and fakes there are.
CHANCE = {"auroc": 0.5, "tpr_at_fpr_1": 0.01, "tpr_at_fpr_5": 0.05}


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent, without the sign: "87.3"; a dash where it is not known."""
    return "–" if value is None else f"{100 * value:.{digits}f}".replace("-", "−")


def interval(measure: Mapping[str, Any], digits: int = 1) -> str:
    """A measure's 95 % interval in per cent: "[84.0, 90.1]", or nothing where it has none."""
    low, high = measure.get("low"), measure.get("high")
    return "" if low is None or high is None else f"[{percent(low, digits)}, {percent(high, digits)}]"


def spoken(measure: Mapping[str, Any]) -> str:
    """A measure in a sentence: "87.3 % (95 % interval 84.0 to 90.1)"."""
    low, high = measure.get("low"), measure.get("high")
    if measure.get("value") is None:
        return "not defined"
    tail = "" if low is None or high is None else f" (95 % interval {100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * measure['value']:.1f} %{tail}"


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def size(octets: int) -> str:
    """Bytes as "812 kB", "3.4 MB", "1.2 GB"."""
    amount, unit = float(octets), "bytes"
    for following in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, following
    return f"{amount:.0f} {unit}" if amount >= 100 or unit == "bytes" else f"{amount:.1f} {unit}"


def describe_chain(chain: Sequence[ChainStep]) -> str:
    """A chain in words: "sample ldm, then swap simswap with a source from faces"."""
    parts = []
    for step in chain:
        origin = f" on {step.target}" if step.target else ""
        source = f" with a source from {step.source}" if step.source else ""
        parts.append(f"{step.kind} {step.generator}{origin}{source}")
    return ", then ".join(parts)
