"""``safetensors.torch`` for ``.nnc`` files: the same calls, smaller files.

What differs: tensors that share memory are stored once and come back as one tensor under both names, instead of being
refused; other layouts of memory are made contiguous; errors are :class:`nnbits.NnbitsError`. With ``qp`` the weights
are quantized; without, every bit comes back.

Streams that were packed from model files have the tensors that the file has: packed codes in their integers, views and
tied weights under all their names, block types of GGUF as float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import Any, TypeAlias

import torch

from .codec.api import NncFile, encode, open_file
from .codec.api import save as _save
from .codec.errors import NnbitsError, ReasonCode
from .codec.parallel import default_threads, ordered_map
from .codec.types import LazyTensor, Model
from .formats._tensor_file import (
    Contents,
    OpenFile,
    OpenSlice,
    StrPath,
    read_part,
    with_aliases,
)
from .formats._torch_tensors import bytes_of, empty_bytes, lazy_tensor, shared_tensors, torch_tensor, torch_type
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
    contents = Contents(file)
    place = torch.device(device)
    found = contents.read_all(empty_bytes) if place.type == "cpu" else None
    names: dict[Any, str] = {}  # of tensors that are different
    for name, item in contents.shown.items():
        names.setdefault((contents.key(name), *torch_type(item.tensor.info)), name)

    def convert(name: str) -> torch.Tensor:
        source = contents.find(name).tensor
        return torch_tensor(source.info, source.read() if found is None else found[name]).to(place)

    threads = 1 if found is not None else default_threads()
    with closing(ordered_map(convert, names.values(), threads=threads, window=threads)) as converted:
        made = dict(zip(names, converted, strict=True))
    tensors = {name: made[contents.key(name), *torch_type(item.tensor.info)] for name, item in contents.shown.items()}
    return tensors | {name: tensors[target] for name, target in contents.aliases.items()}


def load_model(
    model: torch.nn.Module, filename: StrPath, strict: bool = True, device: Device = "cpu"
) -> tuple[list[str], list[str]]:
    """Load a file into a module, without a second copy of the model in memory.

    Tensors are decoded into the memory of the module where it is on the processor, contiguous and of the element type
    of the file; others one by one, as many at a time as there are processors. Parameters on the meta device are
    replaced by tensors on ``device``; others keep their device and dtype.

    Returns:
        Names that the module has and the file lacks, and the other way round.

    Raises:
        RuntimeError: with ``strict``, if there are such names; always if a shape differs. Nothing was loaded then.
        NnbitsError: as :func:`load_file`. The module may then be partly loaded, if a tensor is damaged.
    """
    state = model.state_dict(keep_vars=False)
    owner = shared_tensors(state)
    with open_file(filename) as file:
        contents = Contents(file)
        known = set(contents.names)
        # A tied weight needs one of its names only.
        tied: dict[str, set[str]] = {}
        for name in state:
            tied.setdefault(owner.get(name, name), set()).add(name)
        missing = [name for name in state if not tied[owner.get(name, name)] & known]
        unexpected = sorted(known - state.keys())
        if strict and (missing or unexpected):
            raise RuntimeError(_mismatch(model, missing, unexpected))
        chosen: dict[str, str] = {}  # one name of each tensor of the module that the file has
        for name in state:
            if name in known:
                chosen.setdefault(owner.get(name, name), name)
        _check_shapes(contents, state, chosen.values())
        _fill(model, contents, {name: state[name] for name in chosen.values()}, torch.device(device))
    return missing, unexpected


def _check_shapes(contents: Contents, state: Mapping[str, torch.Tensor], names: Iterable[str]) -> None:
    for name in names:
        _, shape = torch_type(contents.find(name).tensor.info)
        if shape != tuple(state[name].shape):
            raise RuntimeError(
                f"size mismatch for {name}: the file has shape {shape}, the module {tuple(state[name].shape)}"
            )


def _fill(model: torch.nn.Module, contents: Contents, state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Decode the tensors of ``state`` into them; those on the meta device are replaced in the module."""
    targets: dict[str, Any] = {}
    others: list[str] = []
    again: list[tuple[str, str]] = []  # what is there already under another name
    made: dict[str, torch.Tensor] = {}
    first: dict[Any, str] = {}
    direct: set[str] = set()
    for name, target in state.items():
        info, key = contents.find(name).tensor.info, contents.key(name)
        dtype, shape = torch_type(info)
        source = first.setdefault((key, dtype, shape), name)
        if source != name and (target.is_meta or target.dtype == state[source].dtype):
            again.append((name, source))
            continue
        into = target
        if target.is_meta and device.type == "cpu":
            into = torch_tensor(info, empty_bytes(info.nbytes))
        if contents.is_direct(name) and key not in direct and _is_memory_of(into, dtype):
            direct.add(key)
            targets[name] = bytes_of(into)
            if target.is_meta:
                made[name] = into
        else:
            others.append(name)
    contents.read_into(targets)
    for name in targets.keys() - made.keys():
        torch.autograd.graph.increment_version(state[name])

    def convert(name: str) -> None:
        source = contents.find(name).tensor
        tensor = torch_tensor(source.info, source.read())
        if state[name].is_meta:
            made[name] = tensor.to(device)
        else:
            with torch.no_grad():
                state[name].copy_(tensor)

    threads = default_threads()
    with closing(ordered_map(convert, others, threads=threads, window=threads)) as done:
        for _ in done:
            pass
    for name, source in again:
        if state[name].is_meta:
            made[name] = made.get(source, state[source]).to(device)
        else:
            with torch.no_grad():
                state[name].copy_(made.get(source, state[source]))
    if made:
        model.load_state_dict(made, strict=False, assign=True)


def _is_memory_of(tensor: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether the elements of a tensor can be decoded straight into its memory."""
    return (
        type(tensor) is torch.Tensor
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.dtype == dtype
        and tensor.numel() > 0
        and tensor.is_contiguous()
        and not tensor.is_conj()
        and not tensor.is_neg()
    )


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
