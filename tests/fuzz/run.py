"""One reader's turn: changed files in a child process, which dies instead of us, with each kind of fault counted and its input kept."""

from __future__ import annotations

import hashlib
import mmap
import os
import random
import re
import shutil
import signal
import struct
import tempfile
import time
import traceback
from pathlib import Path

from foreign.errors import InputError
from foreign.text import escape_controls
from tests.fuzz.mutate import mutated, repaired
from tests.fuzz.readers import READERS, Reader
from tests.fuzz.watch import Amplified, Executed, Hang, Watch

NAMES = ("inputs", "read", "refused", "faults", "crashes", "hangs", "amplified", "executed")
FAULTS = NAMES[3:]
SILENCE = 60.0  # seconds without an answer after which a child is killed; SIGPROF reaches no loop in C
MOST_KEPT = 400  # files of one reader's corpus


class Counts:
    """A number for each of NAMES, in memory that a child shares with its parent."""

    def __init__(self) -> None:
        self.shared = mmap.mmap(-1, 8 * len(NAMES))

    def add(self, name: str, number: int = 1) -> None:
        place = 8 * NAMES.index(name)
        struct.pack_into("q", self.shared, place, struct.unpack_from("q", self.shared, place)[0] + number)

    def all(self) -> dict[str, int]:
        return dict(zip(NAMES, struct.unpack(f"{len(NAMES)}q", self.shared[:]), strict=True))


def answer_of(reader: Reader, data: bytes) -> str:
    """How a reader answers: "read", or the first words of its refusal without names and numbers. Other exceptions go on to the caller."""
    with tempfile.TemporaryDirectory() as folder:
        return _answer(reader, data, *_places(reader, Path(folder)))


def take_turn(name: str, seconds: float, corpus: Path, seed: int, counts: Counts, most: int) -> None:
    """Gives one reader changed files for some seconds, at most until `counts` has `most` inputs."""
    folder = corpus / name
    (folder / "faults").mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and counts.all()["inputs"] < most:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
            process = os.fork()
            if process == 0:
                _child(READERS[name], folder, Path(work), ends, seed + counts.all()["inputs"], counts, most)
            killed, status = _wait(process, counts)
            if killed or os.WIFSIGNALED(status):
                counts.add("hangs" if killed else "crashes")
                why = f"no answer for {SILENCE:.0f} s" if killed else f"died of signal {os.WTERMSIG(status)}"
                file, _ = _places(READERS[name], Path(work))
                _keep(folder, "hang" if killed else "crash", file.read_bytes() if file.exists() else b"", why)


def _wait(process: int, counts: Counts) -> tuple[bool, int]:
    """Whether a child had to be killed because it no longer answered, and its exit status."""
    seen, since = -1, time.monotonic()
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return False, status
        now = counts.all()["inputs"]
        if now != seen:
            seen, since = now, time.monotonic()
        if time.monotonic() - since > SILENCE:
            os.kill(process, signal.SIGKILL)
            return True, os.waitpid(process, 0)[1]
        time.sleep(0.1)


def _child(reader: Reader, folder: Path, work: Path, ends: float, seed: int, counts: Counts, most: int) -> None:
    """Tries inputs until the time is over, and ends this process."""
    try:
        rng, watch, seen = random.Random(seed), Watch(work), set[str]()
        tempfile.tempdir = str(work)
        inputs = [*reader.seeds(), *(file.read_bytes() for file in sorted(folder.glob("*.kept")))]
        fresh, tried = len(inputs), 0
        watch.limit()
        while time.monotonic() < ends and counts.all()["inputs"] < most:
            data = inputs[tried] if tried < fresh else repaired(mutated(rng.choice(inputs), rng.randrange(2**63)), rng)
            tried += 1
            answer = _watched(reader, data, work, watch, counts, folder)
            if answer and answer not in seen:
                seen.add(answer)
                if len(inputs) < MOST_KEPT and len(data) < 2**16:
                    inputs.append(data)
                    (folder / f"{hashlib.sha256(answer.encode()).hexdigest()[:12]}.kept").write_bytes(data)
    except BaseException:
        counts.add("faults")
        _keep(folder, "fuzzer", b"", traceback.format_exc())
    os._exit(0)


def _watched(reader: Reader, data: bytes, work: Path, watch: Watch, counts: Counts, folder: Path) -> str | None:
    """The answer to one input, which is counted; None after a fault, which is kept."""
    counts.add("inputs")
    try:
        file, output = _places(reader, work)
        watch.start()
        try:
            answer = _answer(reader, data, file, output)
        finally:
            watch.stop(len(data))
    except BaseException as error:
        kinds = {Hang: "hangs", Amplified: "amplified", MemoryError: "amplified", Executed: "executed"}
        kind = kinds.get(type(error), "faults")
        counts.add(kind)
        _keep(folder, kind, data, traceback.format_exc())
        return None
    counts.add("read" if answer == "read" else "refused")
    return answer


def _places(reader: Reader, work: Path) -> tuple[Path, Path]:
    """The file that is changed, and a folder that is empty."""
    file, output = work / "in" / reader.name, work / "work"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not output.exists():
        output.mkdir()
    elif any(output.iterdir()):
        shutil.rmtree(output)
        output.mkdir()
    return file, output


def _answer(reader: Reader, data: bytes, file: Path, output: Path) -> str:
    file.write_bytes(data)
    try:
        reader.run(file, output)
    except InputError as error:
        text = str(error)
        assert escape_controls(text) == text, f"control characters: {text!r}"
        return re.sub(r"\d+|/\S+", "#", text.replace(str(file.parent.parent), ""))[:60]
    return "read"


def _keep(folder: Path, kind: str, data: bytes, why: str) -> None:
    """Keeps the shortest input of each distinct fault, with what happened beside it."""
    frames = re.findall(r'File "[^"]*/([\w.]+)", line (\d+)', why)
    last = "-".join(frames[-1]) if frames else "outside"
    place = folder / "faults" / re.sub(r"[^\w.-]+", "_", f"{kind}-{last}")
    if not place.exists() or place.stat().st_size > len(data):
        place.write_bytes(data)
        place.with_name(f"{place.name}.txt").write_text(why, encoding="utf-8", errors="replace")
