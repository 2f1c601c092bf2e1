"""Update sequences: a base model, the updates that follow, the state they lead to (nnc-bitstream section 7).

An update stream carries, for the tensors that changed, either differences or complete values; tensors that did not
change are left out. ``base_model_id`` is the digest of the model that the update applies to, so that a wrong base
is refused before anything is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .base import Base, digest_text, model_digest
from .convert import from_float32, int32_is_exact, to_float32
from .decode import Stream
from .encode import EncodedTensor, Node, describe_source, encode_tensor, head_units
from .errors import NnbitsError, ReasonCode
from .exact_update import updated_model, write_update
from .parallel import default_threads, ordered_map
from .plan import EncodePlan, Speed, TensorPlan
from .ranges import BytesSource
from .reader import ExtendedStream
from .source import UpdateMode
from .syntax import ModelParameterSet, ParameterSets
from .types import DTYPES, Array, Attachment, LazyTensor, Model, TensorInfo
from .unit_encoder import DataUnitEncoder
from .update import UpdateStore
from .writer import DEFAULT_MEMORY

__all__ = ["UpdateChain", "UpdateMode", "model_digest"]


@dataclass(frozen=True)
class _Held:
    info: TensorInfo
    stored: Array


class UpdateChain:
    """A model and the updates it has received; applies and makes the next one.

    Args:
        base: the model that the first update applies to; kept in memory.

    The state after :meth:`apply` is what every other decoder of the same sequence holds, so differences never drift.
    """

    def __init__(self, base: Model) -> None:
        self._held = {t.info.name: _Held(t.info, t.read()) for t in base}
        self._like = replace(base, tensors=(), attachments=(), source={})
        self._ids = {name: number for number, name in enumerate(self._held)}
        self._store = UpdateStore()

    @property
    def digest(self) -> str:
        """Digest of the present state, see :func:`model_digest`."""
        return model_digest((h.info, h.stored) for h in self._held.values())

    def model(self) -> Model:
        """The present state."""
        tensors = [LazyTensor(h.info, partial(_given, h.stored)) for h in self._held.values()]
        return replace(self._like, tensors=tensors)

    # ---- applying

    def apply(
        self, stream: Stream | ExtendedStream, *, mode: UpdateMode | None = None, check_base: bool = True
    ) -> None:
        """Apply an update. After an error the chain is as it was.

        Args:
            stream: an update; one of NNCodec is taken as differences unless ``mode`` says otherwise. Exact updates are
                of the extended profile; they bring the attachments of the new model along, and always need their base.
            mode: overrides what the stream says.
            check_base: refuse an update whose ``base_model_id`` is not the digest of the present state.

        Raises:
            NnbitsError: BASE_MISMATCH, BASE_MISSING, SHAPE_MISMATCH, and what decoding raises.
        """
        if isinstance(stream, ExtendedStream):
            self._apply_exact(stream)
            return
        wanted = stream.mps.base_model_id
        if check_base and wanted is not None and wanted.startswith(digest_text("")):
            have = digest_text(self.digest)
            if have != wanted:
                raise NnbitsError(
                    ReasonCode.BASE_MISMATCH,
                    f"the update applies to the model {wanted}, not to {have}",
                    path="base_model_id",
                    hint="Apply the updates in order, each to the model it was made for",
                )
        mode = mode or _mode_of(stream)
        store = self._store.copy()
        held = dict(self._held)
        for name, array in stream.decode_all(store):
            info = stream.tensors[name].info
            is_new = not stream.data_unit(name).body.parent_node_id_present_flag and stream.source.update is not None
            if mode == "full" or is_new:
                held[name] = _Held(info, array)
                continue
            if name not in held:
                raise NnbitsError(ReasonCode.BASE_MISSING, f"the base has no tensor {name!r} to update", path=name)
            held[name] = _added(held[name], array)
        for name in stream.source.removed:
            held.pop(name, None)
        if order := stream.source.order:
            if set(order) != set(held):
                raise NnbitsError(ReasonCode.METADATA, "the order names other tensors than the model has", path="order")
            held = {name: held[name] for name in order}
        for name in held:
            self._ids.setdefault(name, len(self._ids))
        self._held, self._store = held, store
        if stream.source.update is not None:
            self._like = Model((), stream.source.metadata, stream.source.format)

    def _apply_exact(self, stream: ExtendedStream) -> None:
        stream.base = Base(self.model())
        new = updated_model(stream)
        held = {t.info.name: _Held(t.info, t.read()) for t in new}
        found = model_digest((h.info, h.stored) for h in held.values())
        if stream.update is not None and found != stream.update.result:
            raise NnbitsError(
                ReasonCode.DIGEST,
                f"the update leads to the model {digest_text(found)}, not to {digest_text(stream.update.result)}",
                path="update.result",
            )
        attachments = [Attachment(a.name, a.size, partial(_bytes, a.read())) for a in new.attachments]
        for name in held:
            self._ids.setdefault(name, len(self._ids))
        self._held = held
        self._like = replace(new, tensors=(), attachments=attachments)

    # ---- making

    def encode_exact(
        self,
        new: Model,
        *,
        full: bool = False,
        speed: Speed = "balanced",
        threads: int | None = None,
        memory: int = DEFAULT_MEMORY,
    ) -> bytes:
        """Make the exact update (extended profile) that leads from the present state to ``new``, and apply it.

        Args:
            new: the model to reach, with any types and shapes, and its attachments.
            full: send changed tensors complete, never as XOR with those of the present state.
            speed: of exact coding, see :class:`~nnbits.codec.plan.EncodePlan`.
            threads: access units coded at the same time; None is the number of processors.
            memory: budget for these, bytes.

        Returns:
            The update stream.

        Raises:
            NnbitsError: BAD_TENSOR, LIMIT.
        """
        out = bytearray()
        count = default_threads() if threads is None else threads
        write_update(Base(self.model()), new, out.extend, full=full, speed=speed, threads=count, memory=memory)
        stream = ExtendedStream.open(BytesSource(bytes(out)))
        if stream is None:
            raise NnbitsError(ReasonCode.INTERNAL, "the update is no stream")
        self._apply_exact(stream)
        return bytes(out)

    def encode(
        self,
        new: Model,
        plan: EncodePlan,
        *,
        mode: UpdateMode = "difference",
        temporal: bool = True,
        history: bool = True,
        threads: int | None = None,
    ) -> bytes:
        """Make the update that leads from the present state to ``new``, and apply it.

        Args:
            new: the model to reach; exactly where the plan's coding is exact, else within its quantization.
            plan: how each tensor (in difference mode: each difference) is coded. Raw floats are sent complete.
            mode: send differences, or complete tensors where they changed.
            temporal: let the levels of the last update be contexts where that is shorter.
            history: likewise the positions that changed before.
            threads: tensors coded at the same time; None is the number of processors. The stream does not depend on it.

        Returns:
            The update stream.

        Raises:
            NnbitsError: BAD_OPTION, BAD_TENSOR, NOT_EXACT, SHAPE_MISMATCH.
        """
        base_id = digest_text(self.digest)
        mps = ModelParameterSet(
            base_model_id=base_id,
            mps_parent_signalling_enabled_flag=1,
            mps_qp_density=plan.qp_density,
        )
        parameters = ParameterSets(1, mps)
        ids = dict(self._ids)
        for tensor in new:
            ids.setdefault(tensor.info.name, len(ids))
        unit_of = partial(self._unit, plan, parameters, mode, temporal, history, ids)
        coded = ordered_map(unit_of, new, threads=default_threads() if threads is None else threads)
        with closing(coded):
            units = [unit for unit in coded if unit is not None]
        names = [t.info.name for t in new]
        removed = tuple(name for name in self._held if name not in names)
        kept = [name for name in self._held if name not in removed]
        grown = kept + [name for name in names if name not in self._held]
        source = replace(
            describe_source(new, (unit.info for unit in units)),
            update=mode,
            removed=removed,
            order=() if grown == names else tuple(names),
        )
        head = head_units(mps, source, 1)
        stream = b"".join([*head, *(piece for unit in units for piece in (unit.prefix, unit.payload))])
        self.apply(Stream(memoryview(stream)))
        return stream

    def _unit(
        self,
        plan: EncodePlan,
        parameters: ParameterSets,
        mode: UpdateMode,
        temporal: bool,
        history: bool,
        ids: Mapping[str, int],
        tensor: LazyTensor,
    ) -> EncodedTensor | None:
        """What the update says of a tensor; None if that is nothing."""
        info, stored = tensor.info, tensor.read()
        how = plan.tensors.get(info.name)
        if how is None:
            raise NnbitsError(ReasonCode.BAD_OPTION, f"the plan has no entry for tensor {info.name!r}")
        if how.coding == "lossless":  # updates are streams of the standard profile
            how = TensorPlan("raw" if info.dtype.kind == "float" else "integer")
        before = self._held.get(info.name)
        if before is not None and before.info != info:
            raise NnbitsError(
                ReasonCode.SHAPE_MISMATCH,
                f"tensor {info.name!r} was {before.info.dtype.name} {before.info.shape}, "
                f"now {info.dtype.name} {info.shape}",
                path=info.name,
            )
        if before is not None and _same(before.stored, stored):
            return None
        # 64-bit integers, raw floats and differences that overflow are sent complete, and then have no parent.
        change = None
        if mode == "difference" and before is not None and how.coding != "raw" and info.dtype.bits <= 32:
            change = _difference(before, stored)
        difference = change is not None
        root = before is None or (mode == "difference" and not difference)
        if change is not None:
            info, stored = change
        store = None if root else self._store
        encoder = DataUnitEncoder(parameters, plan.set_choice, how.row_skipping, store, temporal, history)
        unit = encode_tensor(
            LazyTensor(info, partial(_given, stored)), how, plan.qp_density, encoder, self._node(info.name, ids, root)
        )
        return None if difference and unit.all_zero else unit

    def _node(self, name: str, ids: Mapping[str, int], root: bool) -> Node:
        entry = self._store.entries.get(name)
        depth = entry.depth + 1 if entry else 0 if root else 1
        return Node(self._store.device_id, ids[name], depth, None if root else self._store.device_id)


def _mode_of(stream: Stream) -> UpdateMode:
    return stream.source.update or "difference"


def _same(a: Array, b: Array) -> bool:
    left, right = (np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (a, b))
    return bool(np.array_equal(left, right))


def _added(before: _Held, difference: Array) -> _Held:
    """Element-wise addition, for floats in float32 (nnc-bitstream section 7)."""
    info = before.info
    if difference.shape != info.shape:
        raise NnbitsError(
            ReasonCode.SHAPE_MISMATCH,
            f"the update of tensor {info.name!r} has shape {difference.shape}, the base {info.shape}",
            path=info.name,
        )
    if info.dtype.kind != "float":
        total = before.stored.astype(np.int64) + difference.astype(np.int64)
        back = total.astype(info.dtype.storage)
        if not np.array_equal(back.astype(np.int64), total):
            raise NnbitsError(
                ReasonCode.LEVEL_RANGE, f"the update leaves the range of {info.dtype.name}", path=info.name
            )
        return _Held(info, back)
    dtype = info.dtype
    total32 = to_float32(dtype, before.stored) + difference.astype(np.float32)
    return _Held(info, from_float32(dtype, total32))


def _difference(before: _Held, stored: Array) -> tuple[TensorInfo, Array] | None:
    """new - old, in float32 or int32; None if it does not fit."""
    info = before.info
    if info.dtype.kind == "float":
        dtype = DTYPES["float32"]
        change = to_float32(info.dtype, stored) - to_float32(info.dtype, before.stored)
    else:
        dtype = DTYPES["int32"]
        wide = stored.astype(np.int64) - before.stored.astype(np.int64)
        if not int32_is_exact(DTYPES["int64"], wide):
            return None
        change = wide.astype(np.int32)
    return TensorInfo(info.name, dtype, info.shape), change


def _given(stored: Array) -> Array:
    return stored


def _bytes(content: bytes) -> bytes:
    return content
