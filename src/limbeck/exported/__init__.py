"""Files of ``limbeck export``, opened in their own runtime and called as students are."""

from limbeck.exported.description import Description, read_description
from limbeck.exported.model import ExportedModel, load

__all__ = ["Description", "ExportedModel", "load", "read_description"]
