"""Hours of it by hand: `python -m tests.fuzz.run --seconds 3600 [--readers zip,tar] [--corpus DIR]`.

Inputs that are answered in a new way are kept in the corpus and changed further. Each fault is kept too, and ends up in `tests/fuzz/found`
as a test of its own (`READER.ANYTHING`). Runs in a child process, so that a crash is a fault and not the end. Exit code 1 on any fault.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

from foreign.errors import InputError
from tests.fuzz.mutate import mutated
from tests.fuzz.readers import READERS, Reader

SECONDS = 5.0
MEMORY = 10**9


def answer_of(reader: Reader, data: bytes) -> str:
    """How a reader answers: "read", or the first words of its refusal without names and numbers. Other exceptions go on to the caller."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "in" / reader.name
        file.parent.mkdir()
        (Path(folder) / "work").mkdir()
        file.write_bytes(data)
        try:
            reader.run(file, Path(folder) / "work")
        except InputError as error:
            assert str(error).replace("\n", "").isprintable() or "\\" in str(error), "control characters"
            return re.sub(r"\d+|/\S+", "#", str(error).replace(folder, ""))[:60]
        return "read"


def fuzz(name: str, seconds: float, corpus: Path, seed: int) -> tuple[int, int]:
    """Inputs tried and faults seen. A child does the work and writes each input down before it tries it."""
    reader, tried, faults, ends = READERS[name], 0, 0, time.monotonic() + seconds
    folder = corpus / name
    (folder / "faults").mkdir(parents=True, exist_ok=True)
    while time.monotonic() < ends:
        process = os.fork()
        if process == 0:
            _child(reader, folder, ends, seed + tried)
        _, status = os.waitpid(process, 0)
        count = folder / "tried"
        tried += max(1, int(count.read_text() or 0) if count.exists() else 1)
        if os.WIFSIGNALED(status) or os.WEXITSTATUS(status):
            faults += 1
            data = (folder / "now").read_bytes()
            place = folder / "faults" / hashlib.sha256(data).hexdigest()[:12]
            place.write_bytes(data)
            print(f"  {name}: fault {place} (status {status})", flush=True)
    return tried, faults


def _child(reader: Reader, folder: Path, ends: float, seed: int) -> None:
    rng, seen, tried = random.Random(seed), set(), 0
    inputs = [*reader.seeds(), *(file.read_bytes() for file in sorted(folder.glob("*.kept")))]
    try:
        while time.monotonic() < ends and tried < 20_000:
            data = inputs[tried] if tried < len(inputs) else mutated(rng.choice(inputs), rng.randrange(2**63))
            tried += 1
            (folder / "now").write_bytes(data)
            (folder / "tried").write_text(str(tried))
            started, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            answer = answer_of(reader, data)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024
            if len(data) < 2**20 and (time.process_time() - started > SECONDS or grown > MEMORY):
                raise AssertionError(f"{time.process_time() - started:.1f} s, {grown:,} bytes")
            if answer not in seen:
                seen.add(answer)
                inputs.append(data)
                (folder / f"{hashlib.sha256(answer.encode()).hexdigest()[:12]}.kept").write_bytes(data)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--seconds", type=float, default=60.0, help="for each reader")
    asked.add_argument("--readers", default=",".join(READERS))
    asked.add_argument("--corpus", type=Path, default=Path("fuzz-corpus"))
    asked.add_argument("--seed", type=int, default=0)
    options, faults = asked.parse_args(), 0
    for name in options.readers.split(","):
        tried, wrong = fuzz(name, options.seconds, options.corpus, options.seed)
        print(f"{name}: {tried:,} inputs, {wrong} faults", flush=True)
        faults += wrong
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
