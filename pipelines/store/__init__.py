"""The versioned image store: one Lance dataset for each dataset name, one row for each image."""

from pipelines.store.schema import SCHEMA, Row
from pipelines.store.store import Store, Version

__all__ = ["SCHEMA", "Row", "Store", "Version"]
