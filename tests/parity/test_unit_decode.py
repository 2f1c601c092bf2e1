"""Whole streams through C alone, as a device decodes them: every vector to its recorded bytes."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from nnbits.codec._core import ffi, lib
from nnbits.codec.entropy.native import check, pointer
from nnbits.codec.syntax import SuppliedParameters
from nnbits.codec.syntax.native import NativeStream


class Sequence(Exception):
    """The unit needs the units of earlier streams."""


def decode_stream(stream: NativeStream) -> dict[str, tuple[np.ndarray, int | None]]:
    """All tensors in stream order, with their QP if they are quantized."""
    result = {}
    for unit in stream:
        if unit.nnr_unit_type != lib.NNB_NNR_NDU:
            continue
        cabac = ffi.new("nnb_cabac *")
        payload, size = unit.data + unit.payload_offset, unit.size - unit.payload_offset
        part = ffi.new("nnb_part *")
        for number in range(lib.nnb_part_count(unit)):
            check(lib.nnb_part_get(unit, ffi.addressof(stream.c.parameters), number, part), "part")
            name = ffi.new("nnb_string *")
            check(lib.nnb_unit_name(unit, ffi.addressof(stream.c.parameters), part.name, name), "name")
            if not part.arithmetic:
                values, qp = np.frombuffer(ffi.buffer(payload, size), "<f4").copy(), None
            else:
                if number == 0:
                    check(lib.nnb_cabac_open(cabac, payload, size), "start")
                values, qp = decode_part(cabac, part)
            key = ffi.buffer(name.data, name.size)[:].decode()
            result[key] = (values.reshape(shape_of(unit, part)), qp)
        if part.arithmetic:
            check(lib.nnb_cabac_finish(cabac), "end")
    return result


def decode_part(cabac: Any, part: Any) -> tuple[np.ndarray, int | None]:
    coding = ffi.addressof(part.coding)
    check(lib.nnb_check_coding(coding), "coding")
    if part.coding.temporal:
        raise Sequence
    levels = np.empty(part.coding.height * part.coding.width, np.int32)
    contexts = ffi.new("nnb_context[]", lib.nnb_context_count(part.coding.unary_length))
    rows = np.empty(part.coding.height, np.uint8)
    fields = {"levels": pointer("int32_t *", levels), "contexts": contexts, "row_skip_list": pointer("uint8_t *", rows)}
    info = ffi.new("nnb_tensor_info *")
    status = lib.nnb_decode_tensor(cabac, coding, ffi.new("nnb_tensor *", fields), info)
    if info.hist_dep_sig_prob_enabled_flag:
        raise Sequence
    check(status, "tensor")
    if part.integer:
        return levels, None
    step = ffi.new("float *")
    qp = part.qp + info.qp_value
    check(lib.nnb_step_size(qp, part.qp_density, step), "step")
    buffer = pointer("void *", levels)
    if part.codebook == ffi.NULL:
        lib.nnb_dequantize_in_place(buffer, levels.size, step[0])
    else:
        size = part.codebook.codebook_size
        entries = ffi.new("int32_t[]", size)
        check(lib.nnb_codebook_entries(part.codebook, entries, size), "codebook")
        zero = part.codebook.zero_offset
        check(lib.nnb_dequantize_codebook_in_place(buffer, levels.size, step[0], entries, size, zero), "values")
    return levels.view(np.float32), qp


def shape_of(unit: Any, part: Any) -> tuple[int, ...]:
    if part.role == lib.NNB_ROLE_TENSOR:
        dimensions = ffi.new("uint64_t[]", unit.body.ndu.count_tensor_dimensions)
        check(lib.nnb_unit_dimensions(unit, dimensions, len(dimensions)), "dimensions")
        return tuple(dimensions)
    if part.role in (lib.NNB_ROLE_G, lib.NNB_ROLE_H):
        return part.coding.height, part.coding.width
    return (part.coding.height,)


def test_vectors_decode_to_the_recorded_bytes(vector: Any) -> None:
    table = vector.decoder.get("out_of_band", {})
    supplied = {
        name: SuppliedParameters(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        for name, values in table.items()
    }
    try:
        decoded = decode_stream(NativeStream(vector.stream, supplied))
    except Sequence:
        assert vector.decoder.get("use_update_store")
        pytest.skip("an update of earlier streams, which a device has to keep")
    assert set(decoded) == set(vector.data["decoded"])
    for name, record in vector.data["decoded"].items():
        values, qp = decoded[name]
        assert list(values.shape) == record["shape"]
        assert values.dtype == np.dtype(record["dtype"])
        assert hashlib.sha256(values.tobytes()).hexdigest() == record["sha256"]
        assert qp is None or qp == record["qp"]
