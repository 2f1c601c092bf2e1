"""The C core's entropy coder behind typed functions; the same signatures as the Python reference.

Every call releases the GIL and shares nothing, so that threads may decode and encode at the same time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._core import ffi, lib
from ..errors import NnbitsError, ReasonCode
from .coding import DecodedLevels, EncodedPayload, EntryPoint, LevelCoding, Levels, LevelsToCode, SetRule

__all__ = ["choose_initial_sets", "decode_block_rows", "decode_payload", "encode_payload"]

T = TypeVar("T")

Payload = bytes | bytearray | memoryview | NDArray[np.uint8]


def check(status: int, what: str) -> None:
    """Raises the error that a status of the C core stands for."""
    if status != 0:
        code = ReasonCode(status)
        raise NnbitsError(code, f"{what}: {code.name.lower().replace('_', ' ')}")


def pointer(kind: str, array: NDArray[Any] | None) -> Any:
    """The address of a C-contiguous array; keep the array alive while it is used."""
    return ffi.NULL if array is None else ffi.cast(kind, array.ctypes.data)


def c_coding(coding: LevelCoding) -> Any:
    """The nnb_level_coding of a LevelCoding."""
    try:
        result = ffi.new(
            "nnb_level_coding *",
            {
                "height": coding.height,
                "width": coding.width,
                "codebook_size": coding.codebook_size,
                "codebook_zero_offset": coding.codebook_zero_offset,
                "unary_length": coding.unary_length,
                "profile": coding.profile,
                "dq": int(coding.dq),
                "scan_order": coding.scan_order,
                "qp_bits": coding.qp_bits,
                "parent": int(coding.parent),
                "temporal": int(coding.temporal),
            },
        )
    except OverflowError as error:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"coding parameters out of range: {coding}") from error
    check(lib.nnb_check_coding(result), f"coding parameters {coding}")
    return result


def typed(array: NDArray[Any] | None, dtype: type[np.generic], count: int, what: str) -> NDArray[Any] | None:
    """The array, contiguous and of the dtype, or None; refuses a wrong dtype or size."""
    if array is None:
        return None
    if array.dtype != dtype:
        raise NnbitsError(ReasonCode.BAD_TENSOR, f"{what}: dtype {array.dtype}, not {np.dtype(dtype)}")
    if array.size != count:
        raise NnbitsError(ReasonCode.SHAPE_MISMATCH, f"{what}: {array.size} elements, not {count}")
    return np.ascontiguousarray(array).reshape(-1)


def _output(array: Levels | None, count: int) -> Levels:
    if array is None:
        return np.empty(count, np.int32)
    if array.dtype != np.int32 or array.size != count or not array.flags.c_contiguous or not array.flags.writeable:
        raise NnbitsError(ReasonCode.BUFFER_SIZE, f"out: not a writable contiguous int32 array of {count} elements")
    return array.reshape(-1)


class _Tensor:
    """An nnb_tensor with the arrays it points to."""

    def __init__(
        self,
        coding: LevelCoding,
        levels: Levels | None,
        base: Levels | None,
        history: NDArray[np.bool_] | None,
    ) -> None:
        count = coding.height * coding.width
        self.levels = levels
        self.base = typed(base, np.int32, count, "base") if coding.temporal else None
        self.history = typed(history, np.bool_, count, "history")
        self.contexts = ffi.new("nnb_context[]", coding.context_count)
        self.row_skip_list = np.empty(coding.height, np.uint8) if coding.row_flags else None
        self.info = ffi.new("nnb_tensor_info *")
        self.c = ffi.new(
            "nnb_tensor *",
            {
                "levels": pointer("int32_t *", levels),
                "contexts": self.contexts,
                "row_skip_list": pointer("uint8_t *", self.row_skip_list),
                "base": pointer("int32_t *", self.base),
                "history": pointer("uint8_t *", self.history),
            },
        )

    def skipped_rows(self) -> NDArray[np.bool_] | None:
        if not self.info.row_skip_enabled_flag or self.row_skip_list is None:
            return None
        return self.row_skip_list.view(np.bool_)

    def initial_sets(self) -> NDArray[np.uint8]:
        sets = np.empty(len(self.contexts), np.uint8)
        lib.nnb_initial_sets(self.contexts, len(sets), pointer("uint8_t *", sets))
        return sets


def _item(items: Sequence[T | None] | None, index: int) -> T | None:
    return None if items is None else items[index]


def _open(data: NDArray[np.uint8]) -> Any:
    cabac = ffi.new("nnb_cabac *")
    check(lib.nnb_cabac_open(cabac, pointer("uint8_t *", data), data.size), "start of the arithmetic code string")
    return cabac


def decode_payload(
    payload: Payload,
    codings: Sequence[LevelCoding],
    *,
    bases: Sequence[Levels | None] | None = None,
    histories: Sequence[NDArray[np.bool_] | None] | None = None,
    out: Sequence[Levels | None] | None = None,
    entry_points: Sequence[Sequence[EntryPoint] | None] | None = None,
    threads: int = 1,
) -> list[DecodedLevels]:
    """Decodes cabac_data(): all tensors of a unit and the end of the code string.

    Args:
        payload: the whole payload of the unit.
        codings: the tensors in coding order.
        bases: temporal references, flat or shaped, for codings with ``temporal``.
        histories: history masks; None is all False.
        out: writable contiguous int32 arrays that receive the levels.
        entry_points: a tensor's entry points, to be faster; the result does not depend on them, right or wrong.
        threads: block rows of a tensor with entry points are decoded by that many threads.

    Raises:
        NnbitsError: TRUNCATED, CABAC_END, LEVEL_RANGE, BASE_MISSING and wrong arguments.
    """
    data = np.frombuffer(payload, np.uint8)
    cabac = _open(data)
    results = []
    for index, coding in enumerate(codings):
        parameters = c_coding(coding)
        levels = _output(_item(out, index), coding.height * coding.width)
        tensor = _Tensor(coding, levels, _item(bases, index), _item(histories, index))
        check(lib.nnb_decode_head(cabac, parameters, tensor.c, tensor.info), f"head of tensor {index} of the unit")
        hints = _Hints(data, parameters, tensor, _item(entry_points, index))
        cabac = hints.decode_threaded(cabac, threads) or hints.decode(cabac)
        results.append(
            DecodedLevels(
                levels=levels,
                qp_value=tensor.info.qp_value,
                hist_dep_sig_prob_enabled_flag=bool(tensor.info.hist_dep_sig_prob_enabled_flag),
                row_skip_list=tensor.skipped_rows(),
                initial_sets=tensor.initial_sets(),
            )
        )
    check(lib.nnb_cabac_finish(cabac), "end of the arithmetic code string")
    return results


class _Hints:
    """level_data() of one tensor whose head is decoded, with entry points that nobody vouches for.

    Block rows are decoded from where an entry point says that they begin. That counts only if the engine comes to the
    same place from the block row before; else all are decoded in order.
    """

    def __init__(
        self, data: NDArray[np.uint8], parameters: Any, tensor: _Tensor, entries: Sequence[EntryPoint] | None
    ) -> None:
        self.data = data
        self.parameters = parameters
        self.tensor = tensor
        self.rows = lib.nnb_block_row_count(parameters)
        self.entries = ffi.NULL
        self.starts = [0]  # of the block rows, in bits from the first one
        if entries and len(entries) == self.rows - 1:
            try:
                points = [(entry.bit_offset, entry.cabac_offset, entry.dq_state) for entry in entries]
                self.entries = ffi.new("nnb_entry_point[]", points)
            except OverflowError:
                return
            for entry in entries:
                self.starts.append(self.starts[-1] + entry.bit_offset)

    def decode(self, cabac: Any) -> Any:
        """Decodes all block rows; returns the engine behind them."""
        status, _ = self._rows(cabac, 0, self.rows, 0)
        check(status, "level_data()")
        return cabac

    def decode_threaded(self, cabac: Any, threads: int) -> Any:
        """The same with threads; None if that cannot be done, or an error or a wrong entry point came up."""
        if threads < 2 or len(self.starts) < 2:
            return None
        shares = (self.starts[-1] * part // threads for part in range(1, threads))
        bounds = sorted({0, self.rows, *(bisect_left(self.starts, share) for share in shares)})
        first = lib.nnb_cabac_position(cabac)
        engines = [ffi.new("nnb_cabac *", cabac[0])]
        states = [0]
        for row in bounds[1:-1]:
            position, entry, engine = first + self.starts[row], self.entries[row - 1], ffi.new("nnb_cabac *")
            if position > 8 * self.data.size or lib.nnb_cabac_enter(
                engine, pointer("uint8_t *", self.data), self.data.size, position, entry.cabac_offset
            ):
                return None
            engines.append(engine)
            states.append(entry.dq_state if self.parameters.dq else 0)
        jobs = list(zip(engines, bounds, bounds[1:], states, strict=False))
        with ThreadPoolExecutor(max(len(jobs) - 1, 1)) as pool:
            others = [pool.submit(self._rows, *job) for job in jobs[1:]]
            ends = [self._rows(*jobs[0])] + [other.result() for other in others]
        for engine, row, (status, state) in zip(engines, bounds[1:], ends, strict=True):
            if status:
                return None
            if row < self.rows and (lib.nnb_cabac_position(engine), lib.nnb_cabac_offset(engine), state) != (
                first + self.starts[row],
                self.entries[row - 1].cabac_offset,
                self.entries[row - 1].dq_state if self.parameters.dq else 0,
            ):
                return None
        return engines[-1]

    def _rows(self, cabac: Any, first: int, last: int, state: int) -> tuple[int, int]:
        """Decodes block rows, which moves the engine; returns the status and the state of the quantizer."""
        contexts = ffi.new("nnb_context[]", len(self.tensor.contexts))
        ffi.memmove(contexts, self.tensor.contexts, ffi.sizeof(contexts))
        tensor = ffi.new("nnb_tensor *", self.tensor.c[0])
        tensor.contexts = contexts
        end = ffi.new("uint8_t *", state)
        status = lib.nnb_decode_block_rows(cabac, self.parameters, tensor, self.tensor.info, first, last, end)
        return status, end[0]


class _Run:
    """Block rows of one tensor whose head is decoded, and whose entry points must be right."""

    def __init__(
        self,
        data: NDArray[np.uint8],
        coding: LevelCoding,
        parameters: Any,
        tensor: _Tensor,
        entries: Sequence[EntryPoint] | None,
        bit_position: int,
        rows: int,
    ) -> None:
        self.data = data
        self.coding = coding
        self.parameters = parameters
        self.tensor = tensor
        self.entries = entries
        self.rows = rows
        self.positions = [bit_position]
        for entry in entries or ():
            self.positions.append(self.positions[-1] + entry.bit_offset)

    def enter(self, first: int, last: int) -> Any:
        """Decodes block rows from the entry point of ``first``; returns the engine behind them."""
        entry = (self.entries or ())[first - 1]
        cabac = ffi.new("nnb_cabac *")
        address = pointer("uint8_t *", self.data)
        position = self.positions[first]
        if not (0 <= position < 2**63 and 0 <= entry.cabac_offset < 256 and 0 <= entry.dq_state < 8):
            raise NnbitsError(ReasonCode.ENTRY_POINT, f"entry point of block row {first}: {entry}")
        check(
            lib.nnb_cabac_enter(cabac, address, self.data.size, position, entry.cabac_offset),
            f"entry point of block row {first}",
        )
        self.decode(cabac, first, last, entry.dq_state)
        return cabac

    def decode(self, cabac: Any, first: int, last: int, state: int = 0) -> None:
        """Decodes block rows with an engine that stands at ``first``, and checks the entry points passed."""
        contexts = ffi.new("nnb_context[]", len(self.tensor.contexts))
        ffi.memmove(contexts, self.tensor.contexts, ffi.sizeof(contexts))
        collected = ffi.new("nnb_entry_point[]", self.rows - 1) if self.entries else ffi.NULL
        tensor = ffi.new("nnb_tensor *", self.tensor.c[0])
        tensor.contexts = contexts
        tensor.entry_points = collected
        end = ffi.new("uint8_t *", state)
        status = lib.nnb_decode_block_rows(cabac, self.parameters, tensor, self.tensor.info, first, last, end)
        check(status, f"block rows {first}..{last - 1}" if self.rows > 1 else "level_data()")
        if not self.entries:
            return
        for row in range(max(first, 1), last):
            entry, found = self.entries[row - 1], collected[row - 1]
            if (
                (row > first and found.bit_offset != entry.bit_offset)
                or found.cabac_offset != entry.cabac_offset
                or (self.coding.dq and found.dq_state != entry.dq_state)
            ):
                raise NnbitsError(ReasonCode.ENTRY_POINT, f"block row {row} does not start where its entry point says")
        if last < self.rows and (
            lib.nnb_cabac_position(cabac) != self.positions[last]
            or lib.nnb_cabac_offset(cabac) != self.entries[last - 1].cabac_offset
            or (self.coding.dq and end[0] != self.entries[last - 1].dq_state)
        ):
            raise NnbitsError(ReasonCode.ENTRY_POINT, f"block row {last} does not start where its entry point says")


def decode_block_rows(
    payload: Payload,
    coding: LevelCoding,
    entry_points: Sequence[EntryPoint],
    first: int,
    last: int,
    levels: Levels,
    *,
    base: Levels | None = None,
    history: NDArray[np.bool_] | None = None,
) -> None:
    """Decodes block rows ``first`` to ``last - 1`` of the first tensor of a payload into ``levels``.

    Calls for different block rows may run in different threads. The rows of ``levels`` outside stay as they are.

    Args:
        payload: the payload of the unit; the end may be missing from where block row ``last`` starts.
        coding: of the first tensor.
        entry_points: one for each block row but the first.
        first: first block row.
        last: one after the last block row.
        levels: writable contiguous int32 array of the whole tensor.
        base: temporal reference of the whole tensor.
        history: history mask of the whole tensor.

    Raises:
        NnbitsError: as :func:`decode_payload`; ENTRY_POINT also if the engine passes an entry point elsewhere or does
            not arrive at that of block row ``last``.
    """
    parameters = c_coding(coding)
    rows = lib.nnb_block_row_count(parameters)
    if not 0 <= first < last <= rows:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"block rows {first}..{last} of {rows}")
    if len(entry_points) != rows - 1:
        raise NnbitsError(ReasonCode.ENTRY_POINT, f"{len(entry_points)} entry points for {rows} block rows")
    data = np.frombuffer(payload, np.uint8)
    tensor = _Tensor(coding, _output(levels, coding.height * coding.width), base, history)
    cabac = _open(data)
    check(lib.nnb_decode_head(cabac, parameters, tensor.c, tensor.info), "head of the tensor")
    run = _Run(data, coding, parameters, tensor, entry_points, lib.nnb_cabac_position(cabac), rows)
    if first == 0:
        run.decode(cabac, 0, last)
    else:
        run.enter(first, last)


class _Source:
    """An nnb_source with the arrays it points to."""

    def __init__(self, tensor: LevelsToCode) -> None:
        coding = tensor.coding
        count = coding.height * coding.width
        self.coding = coding
        self.parameters = c_coding(coding)
        self.levels = typed(tensor.levels, np.int32, count, "levels")
        self.base = typed(tensor.base, np.int32, count, "base") if coding.temporal else None
        self.history = typed(tensor.history, np.bool_, count, "history")
        self.row_skip_list = self._row_skip_list(tensor)
        self.contexts = ffi.new("nnb_context[]", coding.context_count)
        self.rows = lib.nnb_block_row_count(self.parameters)
        self.entry_points = ffi.new("nnb_entry_point[]", self.rows - 1)
        try:
            self.c = ffi.new(
                "nnb_source *",
                {
                    "levels": pointer("int32_t *", self.levels),
                    "base": pointer("int32_t *", self.base),
                    "history": pointer("uint8_t *", self.history),
                    "row_skip_list": pointer("uint8_t *", self.row_skip_list),
                    "contexts": self.contexts,
                    "entry_points": self.entry_points,
                    "qp_value": tensor.qp_value,
                    "hist_dep_sig_prob_enabled_flag": int(self._hist(tensor)),
                },
            )
        except OverflowError as error:
            raise NnbitsError(ReasonCode.VALUE_RANGE, f"qp_value {tensor.qp_value}") from error
        self.initial_sets = self._initial_sets(tensor.initial_sets)
        self.c.initial_sets = pointer("uint8_t *", self.initial_sets)

    @staticmethod
    def _hist(tensor: LevelsToCode) -> bool:
        return tensor.hist_dep_sig_prob_enabled_flag and tensor.coding.row_flags and tensor.coding.parent

    def _row_skip_list(self, tensor: LevelsToCode) -> NDArray[np.uint8] | None:
        if tensor.row_skipping is False or not self.coding.row_flags:
            return None
        marks: NDArray[np.uint8] = np.empty(self.coding.height, np.uint8)
        lib.nnb_mark_zero_rows(
            pointer("int32_t *", self.levels), self.coding.height, self.coding.width, pointer("uint8_t *", marks)
        )
        if tensor.row_skipping is True:
            return marks
        wanted = tensor.row_skipping.astype(np.uint8)
        if (wanted > marks).any():
            raise NnbitsError(ReasonCode.BAD_TENSOR, "a row to be skipped is not zero", path="row_skip_list")
        return wanted

    def _initial_sets(self, sets: NDArray[np.uint8] | SetRule | None) -> NDArray[np.uint8] | None:
        if isinstance(sets, str):
            return self.choose(sets)
        return typed(sets, np.uint8, self.coding.context_count, "initial_sets")

    def choose(self, rule: SetRule) -> NDArray[np.uint8]:
        """A set for each context."""
        number = {"cost": lib.NNB_SETS_COST, "peer": lib.NNB_SETS_PEER}.get(rule)
        if number is None:
            raise NnbitsError(ReasonCode.BAD_OPTION, f"no rule {rule!r} for initial sets")
        work = np.empty(lib.nnb_choose_work_size(self.parameters), np.uint8)
        sets = np.empty(self.coding.context_count, np.uint8)
        check(
            lib.nnb_choose_initial_sets(
                self.parameters, self.c, number, pointer("void *", work), work.size, pointer("uint8_t *", sets)
            ),
            "levels to code",
        )
        return sets


def choose_initial_sets(tensor: LevelsToCode, rule: SetRule) -> NDArray[np.uint8]:
    """Chooses the initial set of every context for a tensor (nnc-encoder-notes section 4).

    Args:
        tensor: its own ``initial_sets`` do not matter.
        rule: ``"peer"`` for the choice of NNCodec, ``"cost"`` for the bins that are really coded.

    Raises:
        NnbitsError: as :func:`encode_payload`.
    """
    return _Source(replace(tensor, initial_sets=None)).choose(rule)


def encode_payload(tensors: Sequence[LevelsToCode]) -> EncodedPayload:
    """Codes cabac_data() of a unit.

    Raises:
        NnbitsError: BAD_TENSOR for a level outside its codebook or, with dq, of the wrong parity for the decoder's
            state; VALUE_RANGE for a qp_value that does not fit; BASE_MISSING and wrong arguments.
    """
    encoder = ffi.new("nnb_encoder *")
    lib.nnb_encoder_open_growing(encoder)
    try:
        coded = []
        for index, tensor in enumerate(tensors):
            source = _Source(tensor)
            position = ffi.new("uint64_t *")
            status = lib.nnb_encode_tensor(encoder, source.parameters, source.c, position)
            check(status, f"tensor {index} of the unit")
            coded.append((source, position[0]))
        check(lib.nnb_encoder_finish(encoder), "end of the arithmetic code string")
        entry_points = []
        for source, position in coded:
            entries, count = source.entry_points, source.rows - 1
            check(
                lib.nnb_resolve_entry_points(encoder.buffer, encoder.size, position, entries, count),
                "entry points",
            )
            entry_points.append(
                tuple(
                    EntryPoint(entry.bit_offset, entry.cabac_offset, entry.dq_state)
                    for entry in (entries[i] for i in range(count))
                )
            )
        return EncodedPayload(ffi.buffer(encoder.buffer, encoder.size)[:], tuple(entry_points))
    finally:
        lib.nnb_encoder_close(encoder)
