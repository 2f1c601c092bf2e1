"""nnbits: pack neural networks into ISO/IEC 15938-17 (NNC) bitstreams and decode them.

``save`` and ``load`` whole models, ``open`` a file and decode tensors when asked for, ``encode`` and ``decode`` in
memory. Everything else lives in the layers ``nnbits.codec``, ``nnbits.formats`` and ``nnbits.tools``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .codec.api import NncFile, PackReport, decode, encode, load, plan_exact, plan_quantized, save, stream
    from .codec.api import open_file as open
    from .codec.chain import UpdateChain
    from .codec.errors import NnbitsError, ReasonCode
    from .codec.limits import Limits
    from .codec.plan import EncodePlan, TensorPlan
    from .codec.types import DType, LazyTensor, Model, TensorInfo

__all__ = [
    "DType",
    "EncodePlan",
    "LazyTensor",
    "Limits",
    "Model",
    "NnbitsError",
    "NncFile",
    "PackReport",
    "ReasonCode",
    "TensorInfo",
    "TensorPlan",
    "UpdateChain",
    "decode",
    "encode",
    "load",
    "open",
    "plan_exact",
    "plan_quantized",
    "save",
    "stream",
]

__version__ = "0.1.0"

_HOMES = {
    "codec.chain": ("UpdateChain",),
    "codec.errors": ("NnbitsError", "ReasonCode"),
    "codec.limits": ("Limits",),
    "codec.plan": ("EncodePlan", "TensorPlan"),
    "codec.types": ("DType", "LazyTensor", "Model", "TensorInfo"),
    "codec.api": (
        "NncFile",
        "PackReport",
        "decode",
        "encode",
        "load",
        "plan_exact",
        "plan_quantized",
        "save",
        "stream",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    # On demand: the command line answers --help without loading NumPy.
    if name == "open":
        return import_module(".codec.api", __name__).open_file
    if name in _HOME_OF:
        return getattr(import_module("." + _HOME_OF[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
