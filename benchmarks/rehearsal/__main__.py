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
from pathlib import Path

from benchmarks.rehearsal.commands import Commands
from benchmarks.rehearsal.manifests import few_steps, single_steps, subsets
from benchmarks.rehearsal.stand_ins import STAND_INS
from benchmarks.rehearsal.tables import Rehearsal, markdown

STAGES = ("fetch", "inspect", "plan", "each", "rows", "check", "build", "again")


def rehearse(commands: Commands, scale: str, limit: int, stages: tuple[str, ...], result: Rehearsal) -> Rehearsal:
    """Runs the `stages` in their order; the result is also kept in the work folder after each command."""
    work = commands.work
    if not (work / "data").is_dir():
        commands.write(work, scale, ["data"])
    if "fetch" in stages:
        absent = [name for name in STAND_INS if name not in result.places(work)]
        for names in [[name] for name in absent] if scale == "full" else [absent] if absent else []:  # a disk has room for one twice
            result.written[names[0]] = commands.write(work / "Downloads", scale, names)
            result.fetched[names[0]] = commands.ntf("fetch", "paper", "--from", "Downloads", "--json")
            shutil.rmtree(work / "Downloads")
            result.save(work)
    if "inspect" in stages:
        for name, path in [(name, path) for name, path in result.places(work).items() if name not in result.inspected]:
            result.inspected[name] = commands.ntf("checkpoint", "inspect", str(path))
        result.save(work)
    if "plan" in stages:
        result.plans = [commands.ntf("plan", "paper", "--json") for _ in range(2)]
        result.save(work)
    if "each" in stages:
        for title, file in [(title, file) for title, file in single_steps(work).items() if title not in result.each]:
            result.each[title] = commands.ntf("check", str(file), "--device", "cpu", "--json")
            result.save(work)
    if "rows" in stages:
        for subset in [name for name in subsets() if name not in result.rows or result.rows[name].code]:
            file = few_steps(work, subset)
            result.rows[subset] = commands.ntf("build", str(file), "--device", "cpu", "--limit", str(limit))
            result.save(work)
    if "check" in stages:
        result.check = commands.ntf("check", "paper", "--device", "cpu", "--json")
        result.save(work)
    if "build" in stages:
        manifest = few_steps(work)
        result.build = commands.ntf("build", str(manifest), "--device", "cpu", "--limit", str(limit))
        result.save(work)
    if "again" in stages:
        result.again = [
            commands.ntf("plan", "paper", "--json"),
            commands.ntf("plan", str(few_steps(work)), "--limit", str(limit), "--json"),
        ]
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
    result = Rehearsal.load(work, arguments.scale, arguments.threads)
    if not arguments.table:
        stages = tuple(arguments.stages or (stage for stage in STAGES if stage not in ("each", "rows") or arguments.each))
        rehearse(Commands(work, arguments.threads), arguments.scale, arguments.limit, stages, result)
    print(markdown(result))
    problems = result.problems()
    print("\n".join(f"PROBLEM: {problem}" for problem in problems) or "no problem")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
