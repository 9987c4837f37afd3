"""Versions are examined on the store tests' fake dataset."""

from tests.pipelines.store.conftest import _generators, manifest, store

__all__ = ["_generators", "manifest", "store"]
