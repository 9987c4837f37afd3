"""Tasks are named once: in `flows/tasks.py` and `flows/detector_tasks.py`, at the level of the module."""

from __future__ import annotations

import ast
from pathlib import Path

from prefect import Task

import flows
from flows import detector_tasks, judging, tasks
from flows.remote import make_shard

FOLDER = Path(flows.__file__).parent


def test_no_other_module_makes_tasks() -> None:
    for file in set(FOLDER.rglob("*.py")) - {FOLDER / "tasks.py", FOLDER / "detector_tasks.py"}:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) and node.module == "prefect" else []
            assert "task" not in imported, file.name


def test_tasks_call_the_plain_functions() -> None:
    named = {name: value for name, value in {**vars(tasks), **vars(detector_tasks)}.items() if isinstance(value, Task)}
    assert {name: task.name for name, task in named.items()} == {
        "shard_here": "shard",
        "shard_on_cluster": "shard",
        "train_ntf": "train-ntf",
        "evaluate_ntf": "evaluate-ntf",
        "robustness_ntf": "robustness-ntf",
        "explain_ntf": "explain-ntf",
    }
    assert detector_tasks.train_ntf.fn is judging.train_detector
    assert tasks.shard_on_cluster.fn is make_shard
    assert not any(task.persist_result for task in named.values()), "a result in a cache would stand for a shard that is gone"
