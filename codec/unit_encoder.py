"""Levels to a compressed data unit: what a decoder derives from the header, the encoder derives the same way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .entropy.coding import EncodedPayload, LevelCoding, LevelsToCode
from .entropy.native import decode_payload, encode_payload
from .errors import NnbitsError, ReasonCode
from .parts import Part, parts_of
from .plan import SetChoice
from .syntax import CompressedDataUnit, IntegerCodebook, ParameterSets, build_unit_prefix
from .update import UpdateStore

__all__ = ["CodedLevels", "DataUnitEncoder"]


@dataclass(frozen=True)
class CodedLevels:
    """Quantized (or integer) values of one tensor.

    Attributes:
        levels: int32 array L, flat, row-major; with a codebook the indices relative to its zero offset.
        qp: 0 for integers.
        codebook: None without one.
    """

    levels: NDArray[np.int32]
    qp: int = 0
    codebook: IntegerCodebook | None = None


@dataclass(frozen=True)
class _Tools:
    """Lossless choices that the encoder may make for a whole unit."""

    row_skipping: bool
    temporal: bool
    history: bool


@dataclass(frozen=True)
class DataUnitEncoder:
    """Encodes the levels of one unit, trying the lossless tools that are open and keeping the shortest.

    Attributes:
        parameters: in force for the unit.
        set_choice: how initial sets are chosen.
        row_skipping: True, False, or None to try it where a row is zero.
        store: earlier updates, or None; they are not advanced.
        temporal, history: whether the store's levels and history may be used as contexts.
    """

    parameters: ParameterSets
    set_choice: SetChoice = "cost"
    row_skipping: bool | None = None
    store: UpdateStore | None = None
    temporal: bool = False
    history: bool = False

    def encode(self, body: CompressedDataUnit, tensors: Mapping[str, CodedLevels]) -> tuple[bytes, memoryview]:
        """Encode a unit and make sure that it decodes to what was coded: no checksum of a stream tells of that.

        Args:
            body: its header without entry points and temporal flag.
            tensors: levels by name, for every name of the unit.

        Returns:
            Unit size and header; payload.

        Raises:
            NnbitsError: BAD_TENSOR for levels outside a codebook, LIMIT for a unit that is too large, INTERNAL if the
                check fails.
        """
        payload, header = self._shortest(body, tensors)
        self._check(payload, header, tensors)
        header = header.with_cabac_entry_points([point for points in payload.entry_points for point in points])
        prefix = build_unit_prefix(header, parameters=self.parameters, payload_size=len(payload.data))
        return prefix, memoryview(payload.data)

    def _check(self, payload: EncodedPayload, header: CompressedDataUnit, tensors: Mapping[str, CodedLevels]) -> None:
        parts = parts_of(header, header.names, self.parameters)
        store = self.store
        try:
            decoded = decode_payload(
                memoryview(payload.data),
                [part.coding for part in parts if part.coding],
                bases=[store.base_of(part, header) for part in parts] if store else None,
                histories=[store.history_of(part) for part in parts] if store else None,
                entry_points=payload.entry_points,
            )
            wrong = [
                part.name
                for part, found in zip(parts, decoded, strict=True)
                if found.qp_value != tensors[part.name].qp
                or not np.array_equal(found.levels, tensors[part.name].levels)
            ]
        except NnbitsError as error:
            raise _failed(header.names[0]) from error
        if wrong:
            raise _failed(wrong[0])

    def payload_size(self, body: CompressedDataUnit, tensors: Mapping[str, CodedLevels]) -> int:
        """Bytes of the payload that :meth:`encode` makes; quicker, because the header is not built."""
        return len(self._shortest(body, tensors)[0].data)

    def _shortest(
        self, body: CompressedDataUnit, tensors: Mapping[str, CodedLevels]
    ) -> tuple[EncodedPayload, CompressedDataUnit]:
        best: tuple[EncodedPayload, CompressedDataUnit] | None = None
        for tools in self._open_tools(body, tensors):
            header = replace(body, temporal_context_modeling_flag=1) if tools.temporal else body
            parts = parts_of(header, header.names, self.parameters)
            payload = encode_payload([self._item(part, tensors[part.name], tools) for part in parts])
            if best is None or len(payload.data) < len(best[0].data):
                best = payload, header
        assert best is not None  # noqa: S101 - there is always the plain choice
        return best

    def _item(self, part: Part, tensor: CodedLevels, tools: _Tools) -> LevelsToCode:
        assert part.coding is not None  # noqa: S101 - raw units do not come here
        store = self.store
        return LevelsToCode(
            part.coding,
            tensor.levels,
            tensor.qp,
            tools.row_skipping and _may_skip(part.coding),
            hist_dep_sig_prob_enabled_flag=tools.history and part.coding.parent and part.coding.row_flags,
            base=store.entries[part.name].levels if store and tools.temporal else None,
            history=store.history_of(part) if store and tools.history else None,
            initial_sets=None if self.set_choice == "zero" else self.set_choice,
        )

    def _open_tools(self, body: CompressedDataUnit, tensors: Mapping[str, CodedLevels]) -> Iterator[_Tools]:
        parts = parts_of(body, body.names, self.parameters)
        skips = self._skips(parts, tensors)
        temporal: tuple[bool, ...] = (False,)
        history: tuple[bool, ...] = (False,)
        store = self.store
        if store and body.parent_node_id_present_flag:
            known = [store.entries.get(part.name) for part in parts]
            sizes = [tensors[part.name].levels.size for part in parts]
            fits = all(e is not None and e.levels.size == n for e, n in zip(known, sizes, strict=True))
            if self.temporal and fits:
                temporal = (False, True)
            if self.history and any(e is not None and e.history is not None for e in known):
                history = (False, True)
        return (_Tools(s, t, h) for s in skips for t in temporal for h in history)

    def _skips(self, parts: Sequence[Part], tensors: Mapping[str, CodedLevels]) -> tuple[bool, ...]:
        """Both ways only where a zero row makes the outcome open."""
        able = [p for p in parts if p.coding and p.coding.row_flags and _may_skip(p.coding)]
        if self.row_skipping is not None or not able:
            return (bool(self.row_skipping and able),)
        for part in able:
            rows = tensors[part.name].levels.reshape(part.shape[0], -1)
            if not rows.any(axis=1).all():
                return (False, True)
        return (False,)


def _failed(name: str) -> NnbitsError:
    message = f"tensor {name!r} does not decode to what was coded"
    return NnbitsError(ReasonCode.INTERNAL, message, path=name, hint="Please report it; keep this tensor exact")


def _may_skip(coding: LevelCoding) -> bool:
    """Whether a skipped segment leaves the trellis in the state that the quantizer assumed (nnc-entropy 8.3)."""
    return not (coding.dq and coding.block and coding.width > coding.block and coding.width % 4)
