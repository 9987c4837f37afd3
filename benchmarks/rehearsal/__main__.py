"""The paper's dataset rehearsed from a bare machine, with stand-ins in place of the checkpoints that nobody has here.

    python -m benchmarks.rehearsal --scale small --work /tmp/rehearsal
    python -m benchmarks.rehearsal --scale full --work /tmp/rehearsal --threads 2 --each    # 35 GB on the disk, hours on two cores

It writes a stand-in of every checkpoint that `manifests/paper.yaml` names, in the form of the release and with random weights, into a
folder of downloads, and runs what a person would: `ntf fetch paper --from`, `ntf checkpoint inspect`, `ntf plan paper`, `ntf check paper`,
`ntf build` and `ntf plan` again. With --each every step is checked, and every subset built, in a process of its own too, whose memory is
its own. With --stages a long rehearsal is run in pieces; what a piece has done already is not done again.

What is built is paper.yaml with fewer denoising steps and one change: `faces: detector` is a stand-in, an ONNX file in the form of
insightface's that sees a face in every picture, because random weights draw none. `ntf check paper` takes the manifest as it ships, and
finds the faces of the photographs that stand in for the real ones. Pictures of random weights show nothing. That they come out at all,
how long that takes and how much memory, is what is measured.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rehearsal.commands import Commands, Run
from benchmarks.rehearsal.manifests import few_steps, single_steps, subsets
from benchmarks.rehearsal.stand_ins import STAND_INS
from benchmarks.rehearsal.tables import Rehearsal, markdown


class Stages:
    """What a rehearsal does, in this order. After each command the result is kept in the work folder; what it holds is not done again."""

    def __init__(self, commands: Commands, scale: str, limit: int, result: Rehearsal):
        self.commands, self.work, self.scale, self.limit, self.result = commands, commands.work, scale, limit, result

    def fetch(self) -> None:
        """Stand-ins are written and taken in. At full size one by one, because a disk has room for one of them twice, and not for all."""
        absent = [name for name in STAND_INS if name not in self.result.places(self.work)]
        for names in [[name] for name in absent] if self.scale == "full" else [absent] if absent else []:
            self.result.written[names[0]] = self.commands.write(self.work / "Downloads", self.scale, names)
            self._run(self.result.fetched, names[0], "fetch", "paper", "--from", "Downloads", "--json")
            shutil.rmtree(self.work / "Downloads")

    def inspect(self) -> None:
        for name, path in self.result.places(self.work).items():
            self._run(self.result.inspected, name, "checkpoint", "inspect", str(path))

    def plan(self) -> None:
        self.result.plans = [self.commands.ntf("plan", "paper", "--json") for _ in range(2)]

    def each(self) -> None:
        for title, file in single_steps(self.work).items():
            self._run(self.result.each, title, "check", str(file), "--device", "cpu", "--json")

    def rows(self) -> None:
        for subset in subsets():
            self._run(self.result.rows, subset, *self._build(few_steps(self.work, subset)))

    def check(self) -> None:
        self.result.check = self.commands.ntf("check", "paper", "--device", "cpu", "--json")

    def build(self) -> None:
        self.result.build = self.commands.ntf(*self._build(few_steps(self.work)))

    def again(self) -> None:
        limited = ("plan", str(few_steps(self.work)), "--limit", str(self.limit), "--json")
        self.result.again = [self.commands.ntf("plan", "paper", "--json"), self.commands.ntf(*limited)]

    def _build(self, manifest: Path) -> tuple[str, ...]:
        return "build", str(manifest), "--device", "cpu", "--limit", str(self.limit)

    def _run(self, runs: dict[str, Run], name: str, *words: str) -> None:
        """`ntf WORDS`, unless it has ended well before."""
        if name not in runs or runs[name].code:
            runs[name] = self.commands.ntf(*words)
            self.result.save(self.work)


STAGES = ("fetch", "inspect", "plan", "each", "rows", "check", "build", "again")
ALONE = ("each", "rows")  # what --each adds


def rehearse(work: Path, scale: str = "small", threads: int = 1, limit: int = 1, stages: Sequence[str] = ()) -> Rehearsal:
    """Runs `stages`, by default all but those of --each, in the folder `work`."""
    result, commands = Rehearsal.load(work, scale, threads), Commands(work, threads)
    if not (work / "data").is_dir():
        commands.write(work, scale, ["data"])
    run = Stages(commands, scale, limit, result)
    for stage in STAGES:
        if stage in (stages or set(STAGES).difference(ALONE)):
            getattr(run, stage)()
            result.save(work)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=["small", "full"], default="small", help="few channels, or the size of the releases")
    parser.add_argument("--work", type=Path, required=True, help="a folder for everything that is written; it is not removed")
    parser.add_argument("--limit", type=int, default=1, help="fakes of each part that are built (default 1)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each command (default 2)")
    parser.add_argument("--each", action="store_true", help="check each step and build each subset in a process of its own, too")
    parser.add_argument("--stages", nargs="*", choices=STAGES, help="only these, with what the folder holds of the others")
    parser.add_argument("--table", action="store_true", help="print the table of what the folder holds, and run nothing")
    arguments = parser.parse_args()
    work: Path = arguments.work.resolve()
    stages = arguments.stages or [stage for stage in STAGES if arguments.each or stage not in ALONE]
    if arguments.table:
        result = Rehearsal.load(work, arguments.scale, arguments.threads)
    else:
        result = rehearse(work, arguments.scale, arguments.threads, arguments.limit, stages)
    print(markdown(result, work))
    problems = result.problems()
    print("\n".join(f"PROBLEM: {problem}" for problem in problems) or "no problem")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
