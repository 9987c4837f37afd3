"""Hours of it by hand: `python -m tests.fuzz --inputs 1000000 [--readers zip,tar] [--corpus DIR] [--turn 20]`.

The readers take turns until so many inputs are tried. Inputs that are answered in a new way are kept in the corpus, and changed further the
next time. Each distinct fault is kept in `DIR/READER/faults` with its shortest input; as `tests/fuzz/found/READER.ANYTHING` it is a test.
TMPDIR=/dev/shm spares the disk. Exit code 1 on any fault, crash, hang, amplification or execution.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

from tests.fuzz.readers import READERS
from tests.fuzz.run import FAULTS, NAMES, Counts, take_turn

MOST_OF_ONE = 4  # times the mean: how many inputs the fastest reader gets


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    asked.add_argument("--inputs", type=int, default=100_000, help="of all readers together")
    asked.add_argument("--readers", default=",".join(READERS))
    asked.add_argument("--corpus", type=Path, default=Path("fuzz-corpus"))
    asked.add_argument("--turn", type=float, default=20.0, help="seconds of one reader's turn")
    asked.add_argument("--seed", type=int, default=None, help="a new one for each run, unless given")
    options = asked.parse_args()
    seed = random.randrange(2**40) if options.seed is None else options.seed
    counts, started = {name: Counts() for name in options.readers.split(",")}, time.monotonic()
    share = max(1, options.inputs * MOST_OF_ONE // len(counts))
    print(f"seed {seed}", flush=True)
    while _sum(counts, "inputs") < options.inputs:
        for name, count in counts.items():
            tried = count.all()["inputs"]
            most = min(tried + options.inputs - _sum(counts, "inputs"), share)
            if tried < most:
                take_turn(name, options.turn, options.corpus, seed, count, most)
        print(f"{time.monotonic() - started:,.0f} s: {_line({each: _sum(counts, each) for each in NAMES})}", flush=True)
    for name, count in counts.items():
        print(f"{name}: {_line(count.all())}")
    for text in sorted(options.corpus.glob("*/faults/*.txt")):
        print(f"  {text.with_suffix('')}: {(text.read_text().strip().splitlines() or [''])[-1][:160]}")
    print(f"all: {_line({each: _sum(counts, each) for each in NAMES})}")
    sys.exit(any(_sum(counts, each) for each in FAULTS))


def _sum(counts: dict[str, Counts], name: str) -> int:
    return sum(count.all()[name] for count in counts.values())


def _line(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items())


if __name__ == "__main__":
    main()
