"""Seconds of it: a changed file is read, or refused in one line. What was found once stays a test (`tests/fuzz/found/READER.*`)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import mutated
from tests.fuzz.readers import READERS
from tests.fuzz.run import answer_of

FOUND = sorted((Path(__file__).parent / "found").glob("*.*"))
EXAMPLES = {"lmdb": 1, "zip": 25, "tar": 25, "parquet": 25, "arrow": 25, "manifest": 25}


@cache
def seeds_of(name: str) -> list[bytes]:
    return READERS[name].seeds()


@pytest.mark.parametrize("name", READERS)
def test_a_changed_file_is_read_or_refused(name: str) -> None:
    @settings(max_examples=EXAMPLES.get(name, 60), deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(st.sampled_from(seeds_of(name)), st.integers(0, 2**32))
    def attempt(data: bytes, seed: int) -> None:
        answer_of(READERS[name], mutated(data, seed))

    attempt()


@pytest.mark.parametrize("name", sorted(READERS.keys() - {"manifest", "safetensors", "shards"}))
def test_the_valid_files_are_read(name: str) -> None:
    """Otherwise the changes would only ever meet the first check."""
    assert "read" in {answer_of(READERS[name], data) for data in seeds_of(name)}


@pytest.mark.parametrize("file", FOUND, ids=lambda file: file.name)
def test_what_was_found_once_stays_fixed(file: Path) -> None:
    answer_of(READERS[file.name.partition(".")[0]], file.read_bytes())
