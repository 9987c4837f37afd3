"""The versioned image store: one Lance dataset for each dataset name, one row for each image."""

from pipelines.store.damage import StoreDamaged
from pipelines.store.holding import StoreBusy
from pipelines.store.schema import SCHEMA, Row
from pipelines.store.store import Store
from pipelines.store.versions.manifests import StoreWarning
from pipelines.store.versions.version import Version

__all__ = ["SCHEMA", "Row", "Store", "StoreBusy", "StoreDamaged", "StoreWarning", "Version"]
