"""Every parity case that can be found, checked by the module of its system. What to build is decided from `system` and `config` alone,
so a case that nobody here has seen runs too."""

from __future__ import annotations

import importlib
import importlib.util

import pytest

from tests.parity.cases import Case, find_cases


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in find_cases()])
def test_case(case: Case) -> None:
    module = f"tests.parity.systems.{case.system}"
    assert importlib.util.find_spec(module), f"no module {module} for the system of {case.folder}"
    importlib.import_module(module).check(case)
