"""The update store: what a decoder keeps of earlier updates (nnc-bitstream section 7, nnc-entropy section 4)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .errors import NnbitsError, ReasonCode
from .parts import Part
from .syntax import CompressedDataUnit, ParentNodeIdType

__all__ = ["StoreEntry", "UpdateStore"]


@dataclass(frozen=True)
class StoreEntry:
    """The last update of one tensor.

    Attributes:
        levels: int32, flat: the array L.
        depth: updates seen so far.
        parameter_id: of its units, or None if they carried none.
        history: bool, flat: where any earlier update had a non-zero level; None if history is not kept.
        sha256, sha512: digests of the payload that carried it.
    """

    levels: NDArray[np.int32]
    depth: int
    parameter_id: int | None
    history: NDArray[np.bool_] | None
    sha256: bytes
    sha512: bytes


@dataclass
class UpdateStore:
    """Decoder (or encoder) state over a sequence of update streams. Not thread-safe; keep one for each direction.

    Attributes:
        keep_history: whether units feed the history mask (of streams with parent signalling).
        entries: by tensor name.
        device_id: of the first unit that had one other than 0.
    """

    keep_history: bool = True
    entries: dict[str, StoreEntry] = field(default_factory=dict)
    device_id: int = 0

    def copy(self) -> UpdateStore:
        """A store that can be advanced without changing this one; the arrays are shared and never written to."""
        return UpdateStore(self.keep_history, dict(self.entries), self.device_id)

    def base_of(self, part: Part, body: CompressedDataUnit) -> NDArray[np.int32] | None:
        """The temporal reference of a tensor, or None if its unit uses none.

        Raises:
            NnbitsError: BASE_MISSING, BASE_MISMATCH, with the identifiers that were expected and found.
        """
        entry = self.entries.get(part.name)
        self._check_parent(part, body, entry)
        if part.coding is None or not part.coding.temporal:
            return None
        if entry is None:
            raise _missing(f"no earlier version of tensor {part.name!r}")
        found = (body.device_id, body.parameter_id, None if body.put_node_depth is None else body.put_node_depth - 1)
        expected = (self.device_id, entry.parameter_id, entry.depth)
        if found != expected:
            raise NnbitsError(
                ReasonCode.BASE_MISMATCH,
                f"tensor {part.name!r} is an update of (device, parameter, depth) {found}, the store holds {expected}",
                path="put_node_depth",
            )
        if entry.levels.size != part.coding.height * part.coding.width:
            raise NnbitsError(
                ReasonCode.SHAPE_MISMATCH,
                f"tensor {part.name!r} has another shape than its earlier version",
                path="tensor_dimensions",
            )
        return entry.levels

    def _check_parent(self, part: Part, body: CompressedDataUnit, entry: StoreEntry | None) -> None:
        """A digest names the parent exactly, with or without temporal contexts."""
        if body.parent_node_id_type not in (ParentNodeIdType.SHA256, ParentNodeIdType.SHA512):
            return
        sha256 = body.parent_node_id_type == ParentNodeIdType.SHA256
        wanted = body.parent_node_payload_sha256 if sha256 else body.parent_node_payload_sha512
        if entry is None:
            raise _missing(f"tensor {part.name!r} updates a payload with digest {wanted.hex() if wanted else ''}")
        held = entry.sha256 if sha256 else entry.sha512
        if held != wanted:
            raise NnbitsError(
                ReasonCode.BASE_MISMATCH,
                f"tensor {part.name!r} updates a payload with digest {wanted.hex() if wanted else ''}, "
                f"the store holds {held.hex()}",
                path="parent_node_payload_" + ("sha256" if sha256 else "sha512"),
            )

    def history_of(self, part: Part) -> NDArray[np.bool_] | None:
        """The history mask of a tensor, None without history."""
        entry = self.entries.get(part.name)
        return entry.history if entry else None

    def advance(
        self,
        parts: Sequence[Part],
        levels: Sequence[NDArray[np.int32]],
        body: CompressedDataUnit,
        payload: memoryview,
        *,
        parent_signalling: bool,
    ) -> None:
        """Store a unit's decoded levels.

        Raises:
            NnbitsError: BASE_MISMATCH if the device or parameter id changed.
        """
        if body.device_id:
            if self.device_id and self.device_id != body.device_id:
                raise NnbitsError(
                    ReasonCode.BASE_MISMATCH,
                    f"an update by device {body.device_id} after those of device {self.device_id}",
                    path="device_id",
                )
            self.device_id = body.device_id
        digests = hashlib.sha256(payload).digest(), hashlib.sha512(payload).digest()
        for part, array in zip(parts, levels, strict=True):
            before = self.entries.get(part.name)
            if before and before.parameter_id is not None and body.parameter_id not in (None, before.parameter_id):
                raise NnbitsError(
                    ReasonCode.BASE_MISMATCH,
                    f"tensor {part.name!r} changes its parameter id from {before.parameter_id} to {body.parameter_id}",
                    path="parameter_id",
                )
            history = before.history if before else None
            if self.keep_history and parent_signalling:
                history = array != 0 if history is None or history.size != array.size else history | (array != 0)
            self.entries[part.name] = StoreEntry(
                array, before.depth + 1 if before else 1, body.parameter_id, history, *digests
            )


def _missing(message: str) -> NnbitsError:
    return NnbitsError(
        ReasonCode.BASE_MISSING, message, path="parent_node_id", hint="Apply the updates in order, from the first"
    )
