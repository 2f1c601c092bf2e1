"""Model files: one adapter for each format, all in :data:`ADAPTERS`."""

from ._plain import inexact, kept_exact, plain
from ._recognised import recognised
from .base import Adapter
from .registry import ADAPTERS, adapter_by_name, adapter_for_file, adapter_for_output

__all__ = [
    "ADAPTERS",
    "Adapter",
    "adapter_by_name",
    "adapter_for_file",
    "adapter_for_output",
    "inexact",
    "kept_exact",
    "plain",
    "recognised",
]
