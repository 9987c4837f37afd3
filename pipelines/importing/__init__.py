"""Bringing images in: reals for a manifest, and foreign fakes to judge a detector on."""

from pipelines.importing.importing import Imported, import_images

__all__ = ["Imported", "import_images"]
