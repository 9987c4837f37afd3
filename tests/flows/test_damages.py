"""Every command on a store that is damaged: one line and exit code 2, never a traceback; and `verify`, `mend` and the next build."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.build.build import run_build
from pipelines.store import Store
from tests.commands import Answer, run_ntf
from tests.pipelines.store.fakes import fake_dataset, fake_generators, planned

Damage = Callable[[Path], object]
Ntf = Callable[..., Answer]


def flip(file: Path, place: float) -> None:
    content = bytearray(file.read_bytes())
    content[int(len(content) * place)] ^= 0xFF
    file.write_bytes(bytes(content))


DAMAGES: dict[str, Damage] = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:200]),
    "cut at its end": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "missing": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    **{f"a bit at {place:.0%}": lambda file, place=place: flip(file, place) for place in (0.02, 0.3, 0.5, 0.65, 0.8, 0.95, 0.999)},
}
FEW = ("cut", "missing", "zeros", "a bit at 30%", "a bit at 95%")  # one of each kind
UNREADABLE = ("cut", "cut at its end", "missing", "empty", "zeros")
COMMANDS: dict[str, tuple[str, ...]] = {
    "build": ("build", "MANIFEST", "--device", "cpu"),
    "plan": ("plan", "MANIFEST"),
    "digest": ("store", "digest", "fake"),
    "log": ("store", "log", "fake"),
    "show": ("store", "show", "fake"),
    "ledger": ("store", "ledger", "fake"),
    "pairs": ("store", "pairs", "fake"),
    "duplicates": ("store", "duplicates", "fake"),
    "diff": ("store", "diff", "fake", "1", "2"),
    "forget": ("store", "forget", "fake", "--identity", "person3"),
    "tag": ("store", "tag", "fake", "name"),
    "checkout": ("store", "checkout", "fake", "1"),
    "gc": ("store", "gc", "fake", "--keep", "1"),
    "audit": ("audit", "fake"),
    "export": ("export", "fake", "OUT"),
    "report": ("report", "fake", "--output", "OUT"),
    "train": ("train", "fake", "--detector", "ojha2023", "--output", "OUT", "--device", "cpu"),
}


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A manifest, and a store with two versions of its dataset."""
    folder = tmp_path_factory.mktemp("damages")
    with fake_generators():
        manifest = fake_dataset(folder / "data")
        run_build(planned(manifest), Store(folder / "store", "fake"), "cpu")
        (manifest.parent / "swapper.txt").write_text("9")
        run_build(planned(manifest), Store(folder / "store", "fake"), "cpu")
        yield manifest, folder / "store"


@pytest.fixture
def ntf(two_versions: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ntf:
    """Runs `ntf` on a copy of the store, `tmp_path/store`. MANIFEST and OUT stand for paths."""
    manifest, store = two_versions
    shutil.copytree(store, tmp_path / "store")
    monkeypatch.setenv("NTF_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    places = {"MANIFEST": str(manifest), "OUT": str(tmp_path / "out")}
    return lambda *words: run_ntf([places.get(word, word) for word in words], monkeypatch, capsys)


def store_in(folder: Path) -> Store:
    return Store(folder / "store", "fake")


def a_file_of(store: Store, subset: str = "Swapped") -> Path:
    """The data file of the newest version with the first images of a subset."""
    rows = store.rows(f"subset = '{subset}' AND `index` = 0")
    number = store.keys()[rows[0].shard_key]
    return Path(store.data.location) / store.dataset().get_fragment(number).metadata.files[0].path


def newest_manifest(store: Store) -> Path:
    return Path(store.place.location) / "_versions" / store.records.files()[max(store.records.files())]


def is_one_line(answer: Answer) -> bool:
    """Whether a command that failed said so in one line, after warnings of one line each."""
    lines = [line for line in answer.err.splitlines() if not line.startswith(("warning: ", "failed to ", "thread ", "note: "))]
    return answer.code == 2 and len(lines) == 1 and lines[0].startswith("error: ") and "Traceback" not in answer.err


@pytest.mark.parametrize("command", ["build", "digest", "export"])
def test_a_cut_data_file(ntf: Ntf, tmp_path: Path, command: str) -> None:
    file = a_file_of(store_in(tmp_path))
    DAMAGES["cut"](file)
    answer = ntf(*COMMANDS[command])
    assert is_one_line(answer), answer
    assert file.name in answer.err and "`ntf store mend fake`" in answer.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("damage", FEW)
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_on_a_damaged_data_file(ntf: Ntf, tmp_path: Path, damage: str, command: str) -> None:
    """A command that reads the file says so in one line. One that does not, or not where a bit is wrong, does its work."""
    DAMAGES[damage](a_file_of(store_in(tmp_path)))
    answer = ntf(*COMMANDS[command])
    reads_nothing = ("log", "tag", "checkout", "gc", *(("build", "plan") if damage == "zeros" else ()))  # these look at its size alone
    if damage in UNREADABLE and command not in reads_nothing:
        assert is_one_line(answer), answer
    if damage == "zeros" and command in ("build", "plan"):
        assert answer.code == 0, answer
        assert ntf("store", "verify", "fake").code in (1, 2), "what they do not read, this does"
    assert is_one_line(answer) or answer.code in (0, 1), answer
    assert "Traceback" not in answer.err


@pytest.mark.slow
@pytest.mark.parametrize("damage", FEW)
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_on_a_damaged_manifest(ntf: Ntf, tmp_path: Path, damage: str, command: str) -> None:
    """The version before is read, and the command says so; what writes refuses, in one line."""
    file = newest_manifest(store_in(tmp_path))
    DAMAGES[damage](file)
    answer = ntf(*COMMANDS[command])
    assert is_one_line(answer) or answer.code in (0, 1), answer
    assert "Traceback" not in answer.err
    if damage in UNREADABLE and answer.code == 0 and command not in ("diff",):
        assert "version 2" in answer.err and "version 1" in answer.err, answer.err


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("what", ["data", "manifest"])
def test_verify_names_it_and_mend_and_build_bring_it_back(ntf: Ntf, tmp_path: Path, damage: str, what: str) -> None:
    store = store_in(tmp_path)
    digest, shards = store.digest(), len(store.keys())
    file = a_file_of(store) if what == "data" else newest_manifest(store)
    content = file.read_bytes()
    DAMAGES[damage](file)
    verified = ntf("store", "verify", "fake")
    is_harmless = verified.code == 0  # a byte of padding
    if damage in UNREADABLE:
        assert not is_harmless
    if is_harmless:
        return
    assert verified.code == 1 and (what == "manifest" or "Swapped" in verified.out), verified
    mended = ntf("store", "mend", "fake")
    assert mended.code == 0 and mended.out.count("damaged") >= 1, mended
    assert ntf("store", "verify", "fake").code == 0
    built = ntf(*COMMANDS["build"])
    assert built.code == 0, built
    assert store_in(tmp_path).digest() == digest
    assert len(store_in(tmp_path).keys()) == shards
    if what == "data":
        assert "made 1 shard" in built.out
        file.write_bytes(content)
        assert ntf("store", "checkout", "fake", "2").code == 0  # mending can be undone
        assert store_in(tmp_path).digest() == digest
    assert ntf("store", "mend", "fake").out.startswith("nothing to mend")
    assert ntf("store", "gc", "fake", "--keep", "1").code == 0


def test_a_lost_version_is_missed(ntf: Ntf, tmp_path: Path) -> None:
    assert ntf("store", "tag", "fake", "release").code == 0
    newest_manifest(store_in(tmp_path)).unlink()
    answer = ntf("store", "log", "fake")
    assert answer.code == 0 and "warning: version 2 is lost" in answer.err
    answer = ntf("store", "verify", "fake")
    assert answer.code == 1 and "version 2 is lost" in answer.out
    answer = ntf("store", "digest", "fake", "--version", "2")
    assert is_one_line(answer) and "is lost" in answer.err
    answer = ntf("store", "mend", "fake")
    assert answer.code == 0 and "removed the tags of these versions: release" in answer.out
    answer = ntf("store", "verify", "fake")
    assert answer.code == 0 and answer.err == ""


def test_a_version_that_gc_dropped_is_not_missed(ntf: Ntf, tmp_path: Path) -> None:
    digest = store_in(tmp_path).digest()
    assert ntf("store", "gc", "fake", "--keep", "1").code == 0
    assert ntf("store", "verify", "fake").code == 0
    store = store_in(tmp_path)
    assert store.digest() == digest and store.manifests.lost() == []
    assert store.records.sums().keys() == set(store.data.sizes())  # of kept files too, which came with the version that went


def test_all_versions_lost(ntf: Ntf, tmp_path: Path) -> None:
    digest = store_in(tmp_path).digest()
    shutil.rmtree(tmp_path / "store" / "fake.lance" / "_versions")
    for command in ("build", "plan", "log", "digest"):
        assert is_one_line(ntf(*COMMANDS[command])), command
    assert ntf("store", "mend", "fake").code == 0
    assert ntf(*COMMANDS["build"]).code == 0
    assert store_in(tmp_path).digest() == digest


def test_a_row_whose_words_are_spoilt_is_traced_to_its_shard(ntf: Ntf, tmp_path: Path) -> None:
    """A wrong letter in a column that no sha256 stands for is found by the sum of the rows of the file."""
    store = store_in(tmp_path)
    file = a_file_of(store)
    content = file.read_bytes()
    assert content.count(b"person") > 0
    place = content.index(b"person")
    file.write_bytes(content[:place] + b"q" + content[place + 1 :])
    answer = ntf("store", "verify", "fake")
    assert answer.code == 1 and file.name in answer.out and "Swapped" in answer.out
    assert is_one_line(ntf("store", "digest", "fake"))
    assert ntf("store", "mend", "fake").code == 0
    assert "made 1 shard" in ntf(*COMMANDS["build"]).out


def test_lost_notes_and_a_spoilt_audit(ntf: Ntf, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "store" / "fake.pending")
    assert ntf(*COMMANDS["build"]).code == 0
    (tmp_path / "store" / "fake.audits" / "2.json").write_text("{")
    answer = ntf(*COMMANDS["report"])
    assert is_one_line(answer) and "`ntf audit fake`" in answer.err


def test_gc_takes_probes_and_partials(ntf: Ntf, tmp_path: Path) -> None:
    store = tmp_path / "store"
    left = [
        store / ".fake.123.probe",
        store / "..fake.124.probe.124.0123abcd.partial",
        store / "fake.pending" / ".a.json.1.0123abcd.partial",
    ]
    kept = [store / ".fake.other.123.probe", store / "fake.audits" / ".2.json.1.0123abcd.partial"]  # another dataset's; still being written
    for file in (*left, *kept):
        file.write_bytes(b"")
    answer = ntf("store", "gc", "fake")
    assert answer.code == 0 and "2 half-written files" in answer.out
    assert not any(file.exists() for file in left) and all(file.exists() for file in kept)
