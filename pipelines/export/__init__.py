"""Taking a version elsewhere: other people's layouts of the same images, with metadata that says what they are."""

from pipelines.export.export import FORMS, Export, Exported, export

__all__ = ["FORMS", "Export", "Exported", "export"]
