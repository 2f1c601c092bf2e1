"""``safetensors.torch`` for ``.nnc`` files: the same calls, smaller files.

What differs: tensors that share memory are stored once and come back as one tensor under both names, instead of being
refused; other layouts of memory are made contiguous; errors are :class:`nnbits.NnbitsError`. With ``qp`` the weights
are quantized; without, every bit comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

from .codec.api import NncFile, encode, open_file
from .codec.api import save as _save
from .codec.errors import NnbitsError, ReasonCode
from .codec.types import LazyTensor, Model, TensorInfo
from .formats._tensor_file import (
    OpenFile,
    OpenSlice,
    StrPath,
    aliases_of,
    read_all,
    read_part,
    tensors_by_name,
    with_aliases,
)
from .formats._torch_tensors import lazy_tensor, shared_tensors, torch_tensor
from .formats.sparse import to_torch_csr, to_torch_semi_structured

__all__ = ["load", "load_file", "load_model", "safe_open", "save", "save_file", "save_model"]

Device: TypeAlias = "str | int | torch.device"


def _model(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None) -> Model:
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise NnbitsError(
                ReasonCode.BAD_TENSOR,
                f"expected tensors by name, got {name!r}: {type(tensor).__name__}",
                path=str(name),
            )
    aliases = shared_tensors(tensors)
    kept = [lazy_tensor(name, tensor) for name, tensor in tensors.items() if name not in aliases]
    return Model(kept, with_aliases(metadata, aliases), "safetensors")


def save(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None, **options: Any) -> bytes:
    """Encode tensors to a stream in memory.

    Args:
        tensors: dense tensors of any device, by name.
        metadata: strings to carry along.
        options: quality and others, see :func:`nnbits.encode`.

    Raises:
        NnbitsError: BAD_TENSOR, BAD_OPTION.
    """
    return encode(_model(tensors, metadata), **options)


def save_file(
    tensors: Mapping[str, torch.Tensor],
    filename: StrPath,
    metadata: Mapping[str, str] | None = None,
    **options: Any,
) -> None:
    """Like :func:`save`, to a file that appears only when it is complete; an existing file is replaced.

    Raises:
        NnbitsError: as :func:`save`, and FILE_IO.
    """
    _save(_model(tensors, metadata), filename, **options)


def save_model(
    model: torch.nn.Module,
    filename: StrPath,
    metadata: Mapping[str, str] | None = None,
    force_contiguous: bool = True,
    **options: Any,
) -> None:
    """Write parameters and buffers of a module; tied weights are stored once.

    Args:
        force_contiguous: accepted for compatibility; what is written is always contiguous.

    Raises:
        NnbitsError: as :func:`save_file`.
    """
    save_file(model.state_dict(), filename, metadata, **options)


def _with_aliases(tensors: dict[str, torch.Tensor], aliases: Mapping[str, str]) -> dict[str, torch.Tensor]:
    return tensors | {name: tensors[target] for name, target in aliases.items()}


def load(data: bytes) -> dict[str, torch.Tensor]:
    """Decode a stream in memory.

    Raises:
        NnbitsError: codes 1xx..4xx with the unit and its byte offset.
    """
    with open_file(data) as file:
        return _load(file, "cpu")


def load_file(filename: StrPath, device: Device = "cpu") -> dict[str, torch.Tensor]:
    """Decode a file.

    Args:
        device: where the tensors are put.

    Raises:
        NnbitsError: as :func:`load`, and FILE_NOT_FOUND, FILE_IO.
    """
    with open_file(filename) as file:
        return _load(file, device)


def _load(file: NncFile, device: Device) -> dict[str, torch.Tensor]:
    place = torch.device(device)

    def convert(info: TensorInfo, stored: Any) -> torch.Tensor:
        return torch_tensor(info, stored).to(place)

    return _with_aliases(read_all(file.model(), convert), aliases_of(file))


def load_model(
    model: torch.nn.Module, filename: StrPath, strict: bool = True, device: Device = "cpu"
) -> tuple[list[str], list[str]]:
    """Load a file into a module, tensor by tensor, without a second copy of the model in memory.

    Parameters on the meta device are replaced by tensors on ``device``; others keep their device and dtype.

    Returns:
        Names that the module has and the file lacks, and the other way round.

    Raises:
        RuntimeError: with ``strict``, if there are such names; always if a shape differs. The module may then be
            partly loaded, as with PyTorch's own ``load_state_dict``.
        NnbitsError: as :func:`load_file`.
    """
    state = model.state_dict(keep_vars=False)
    owner = shared_tensors(state)
    with open_file(filename) as file:
        aliases = aliases_of(file)
        stored = tensors_by_name(file.model())
        known = {*stored, *aliases}
        # A tied weight needs one of its names only.
        tied: dict[str, set[str]] = {}
        for name in state:
            tied.setdefault(owner.get(name, name), set()).add(name)
        missing = [name for name in state if not tied[owner.get(name, name)] & known]
        unexpected = sorted(known - state.keys())
        if strict and (missing or unexpected):
            raise RuntimeError(_mismatch(model, missing, unexpected))
        assigned: dict[str, torch.Tensor] = {}
        done: set[str] = set()
        for name, target in state.items():
            source = aliases.get(name, name)
            if source not in stored or owner.get(name, name) in done:
                continue
            done.add(owner.get(name, name))
            tensor = _fitting(stored[source], name, target)
            if target.is_meta:
                assigned[name] = tensor.to(device)
            else:
                with torch.no_grad():
                    target.copy_(tensor)
        if assigned:
            for name, source in aliases.items():
                if source in assigned and name in state:
                    assigned[name] = assigned[source]
            model.load_state_dict(assigned, strict=False, assign=True)
    return missing, unexpected


def _fitting(source: LazyTensor, name: str, target: torch.Tensor) -> torch.Tensor:
    tensor = torch_tensor(source.info, source.read())
    if tensor.shape != target.shape:
        raise RuntimeError(
            f"size mismatch for {name}: the file has shape {tuple(tensor.shape)}, the module {tuple(target.shape)}"
        )
    return tensor


def _mismatch(model: torch.nn.Module, missing: list[str], unexpected: list[str]) -> str:
    lines = [f"Error(s) in loading state_dict for {type(model).__name__}:"]
    if missing:
        lines.append(f"    Missing key(s) in state_dict: {', '.join(map(repr, missing))}")
    if unexpected:
        lines.append(f"    Unexpected key(s) in state_dict: {', '.join(map(repr, unexpected))}")
    return "\n".join(lines)


class safe_open(OpenFile):
    """An open file whose tensors, or rows of them, are decoded when asked for. Thread-safe.

    Args:
        filename: path, or what :func:`nnbits.open` takes.
        framework: ``pt`` or ``torch``.
        device: where tensors are put.

    Raises:
        NnbitsError: BAD_OPTION for another framework; what :func:`nnbits.open` raises.
    """

    def __init__(self, filename: StrPath, framework: str = "pt", device: Device = "cpu") -> None:
        if framework not in ("pt", "torch", "pytorch"):
            raise NnbitsError(
                ReasonCode.BAD_OPTION,
                f"framework {framework!r} is not known here",
                path="framework",
                hint="Use 'pt', or nnbits.numpy.safe_open for NumPy arrays",
            )
        self._device = torch.device(device)
        super().__init__(filename)

    def get_tensor(self, name: str) -> torch.Tensor:
        """Decode one tensor.

        Raises:
            NnbitsError: NO_SUCH_TENSOR, and what decoding raises.
        """
        source = self._lazy(name)
        return torch_tensor(source.info, source.read()).to(self._device)

    def get_sparse_csr(self, name: str) -> torch.Tensor:
        """A pruned tensor as ``torch.sparse_csr_tensor``, decoded without making it dense.

        Its matrix is the first dimension by the product of the others.

        Raises:
            NnbitsError: NO_SUCH_TENSOR; UNSUPPORTED_FEATURE in the standard profile and for packed types;
                BAD_TENSOR for other types that cannot be sparse.
        """
        info = self._lazy(name).info
        sparse_map, values = self._file.read_sparse(info.name)
        return to_torch_csr(sparse_map, values, info.dtype).to(self._device)

    def get_semi_structured(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """A 2:4 tensor as values and metadata, see :func:`nnbits.formats.sparse.to_torch_semi_structured`.

        Raises:
            NnbitsError: as :meth:`get_sparse_csr`; BAD_TENSOR if it is no 2:4 tensor.
        """
        info = self._lazy(name).info
        sparse_map, values = self._file.read_sparse(info.name)
        kept, metadata = to_torch_semi_structured(sparse_map, values, info.dtype)
        return kept.to(self._device), metadata.to(self._device)

    def get_tensors(self, names: list[str]) -> dict[str, torch.Tensor]:
        """Decode some tensors."""
        return {name: self.get_tensor(name) for name in names}

    def get_slice(self, name: str) -> TensorSlice:
        """A tensor to be indexed; of a tensor in parts only the parts are decoded that hold its rows.

        Raises:
            NnbitsError: NO_SUCH_TENSOR.
        """
        return TensorSlice(self._lazy(name), lambda tensor: tensor.to(self._device))


class TensorSlice(OpenSlice):
    """A tensor of a file, to be indexed."""

    def __init__(self, tensor: LazyTensor, place: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__(tensor)
        self._place = place

    def __getitem__(self, index: Any) -> torch.Tensor:
        info, stored, left = read_part(self._tensor, index)
        return self._place(torch_tensor(info, stored)[left])
