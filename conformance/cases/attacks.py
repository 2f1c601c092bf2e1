"""Streams that ask for more than they are worth: a decoder refuses them quickly and within its memory."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from typing import Any, Final
from unittest.mock import patch

from nnbits.codec.syntax import UnitType
from nnbits.conformance import synthesis
from nnbits.conformance.cases.building import Case, StreamBuilder, ndu, unit_bytes
from nnbits.conformance.synthesis import Chooser, Rejected, synthesize_unit

__all__ = ["cases"]

_FEATURE: Final = ("attacks",)


def _data_unit(rng: random.Random, builder: StreamBuilder, payload: bytes, **fixed: Any) -> bytes:
    chosen = {**ndu(rng, nnr_compressed_data_unit_payload_type=1, topology_elem_id="t"), **fixed}
    return synthesize_unit(UnitType.NNR_NDU, Chooser(rng, chosen), builder.parameters, lambda _e: payload)


def _tensors(rng: random.Random) -> Iterator[Case]:
    shapes: list[tuple[str, list[int], int]] = [
        ("elements", [2**24, 2**24], 1),
        ("row", [2**48], 1),
        ("column", [1, 2**48], 1),
        ("raw", [2**46], 2),
        ("integers", [2**20, 2**20], 0),
    ]
    for label, shape, kind in shapes:
        builder = StreamBuilder(rng)
        fixed = {
            "nnr_compressed_data_unit_payload_type": kind,
            "count_tensor_dimensions": len(shape),
            "tensor_dimensions": shape,
        }
        data = builder.data + _data_unit(rng, builder, b"\x80\0\0", **fixed)
        code = "SHAPE_MISMATCH" if kind == 2 else "MEMORY_BUDGET"
        yield Case(f"attack-{label}", data, f"a tensor of shape {shape} with a payload of 3 bytes", _FEATURE, code=code)
    builder = StreamBuilder(rng)
    shape = [2**13, 2**12]
    data = _data_unit(rng, builder, b"\x80\0\0", count_tensor_dimensions=2, tensor_dimensions=shape)
    yield Case("attack-within-budget", builder.data + data, "a tensor of 128 MiB with a payload of 3 bytes", _FEATURE,
               code="TRUNCATED")  # fmt: skip
    builder = StreamBuilder(rng)
    names = ["w_G", "w_H"]
    fixed = {"nnr_compressed_data_unit_payload_type": 3, "nnr_multiple_topology_elements_present_flag": 1,
             "count_topology_elements_minus2": 0, "topology_elem_id_list": names, "compressed_parameter_types": 1,
             "decomposition_rank": 2**48, "g_number_of_rows": 2**40, "count_tensor_dimensions": 1,
             "tensor_dimensions": [2**40]}  # fmt: skip
    data = _data_unit(rng, builder, b"\x80\0\0", **fixed)
    yield Case("attack-rank", builder.data + data, "factors of rank 2^48 with 2^40 rows", _FEATURE,
               code="MEMORY_BUDGET",
               also=("LIMIT",))  # fmt: skip


def _counts(rng: random.Random) -> Iterator[Case]:
    """Counts with nothing behind them."""

    class Cut(Exception):
        pass

    def stream(kind: int, stop: str, **fixed: Any) -> bytes:
        """A unit that ends where the list of ``stop`` begins."""
        builder = StreamBuilder(rng, plain=kind != UnitType.NNR_MPS)
        chooser = Chooser(rng, fixed)
        real = chooser.value

        def value(name: str, code: Any, context: Any) -> Any:
            if name == stop:
                raise Cut
            return real(name, code, context)

        writers: list[synthesis._Writer] = []
        new = synthesis._Writer

        def make() -> synthesis._Writer:
            writers.append(new())
            return writers[-1]

        chooser.value = value  # type: ignore[method-assign]
        with patch.object(synthesis, "_Writer", make):
            try:
                synthesize_unit(kind, chooser, builder.parameters)
                raise AssertionError(f"{stop} was not reached")
            except Cut:
                writer = writers[-1]
                writer.write(0, -writer.position % 8)
                body = writer.getvalue()
            except Rejected as error:
                raise AssertionError(f"{stop}: {error}") from error
        return builder.data + (2 + len(body)).to_bytes(2, "big") + body

    maps = {f"mps_{m}_flag": 0 for m in ("sparsification", "pruning", "unification", "decomposition_performance_map")}
    plain = {**maps, "base_model_id_present_flag": 0, "validation_set_performance_present_flag": 0,
             "metric_type_performance_map_valid_flag": 0}  # fmt: skip
    tests: list[tuple[str, int, str, dict[str, Any], str]] = [
        ("thresholds", UnitType.NNR_MPS, "sparsification_threshold",
         {**plain, "mps_sparsification_flag": 1, "spm_count_thresholds": 255}, "TRUNCATED"),
        ("classes", UnitType.NNR_MPS, "dpm_nn_class_accuracy",
         {**plain, "mps_decomposition_performance_map_flag": 1, "dpm_count_thresholds": 2, "dpm_count_classes": 65535},
         "TRUNCATED"),
        ("bit-mask-as-count", UnitType.NNR_MPS, "upm_nn_class_accuracy",
         {**plain, "mps_unification_flag": 1, "upm_count_thresholds": 2, "upm_class_bitmask": 2**32 - 1}, "TRUNCATED"),
        ("names", UnitType.NNR_TPL, "topology_elem_id_list",
         {"topology_storage_format": 6, "count_topology_elements_minus2": 65534}, "TRUNCATED"),
        ("mask-bits", UnitType.NNR_TPL, "bit_mask_value",
         {"topology_storage_format": 5, "nnr_rep_type": 0, "prune_flag": 1, "count_bits": 2**32 - 1}, "TRUNCATED"),
        ("dims", UnitType.NNR_TPL, "dim",
         {"topology_storage_format": 5, "nnr_rep_type": 1, "prune_flag": 1, "count_ids": 1, "element_id": "a",
          "count_dims": 255}, "TRUNCATED"),
        ("codebook", UnitType.NNR_NDU, "codebook_delta_left",
         {**ndu(rng), "nnr_compressed_data_unit_payload_type": 1, "codebook_present_flag": 1, "codebook_size": 2**20,
          "codebook_egk": 15, "codebook_centre_offset": 0, "codebook_zero_value": 0}, "TRUNCATED"),
        ("dimensions", UnitType.NNR_NDU, "tensor_dimensions",
         {**ndu(rng), "nnr_compressed_data_unit_payload_type": 1, "count_tensor_dimensions": 255}, "TRUNCATED"),
        ("block-rows", UnitType.NNR_NDU, "cabac_offset_list",
         {**ndu(rng), "nnr_compressed_data_unit_payload_type": 1, "count_tensor_dimensions": 2, "scan_order": 1,
          "tensor_dimensions": [2**20, 2]}, "TRUNCATED"),
        ("aggregate", UnitType.NNR_AGG, "nnr_unit_type_list",
         {"num_of_nnr_units_minus2": 65535, "entry_points_present_flag": 1}, "TRUNCATED"),
    ]  # fmt: skip
    for label, kind, stop, fixed, code in tests:
        yield Case(f"attack-count-{label}", stream(kind, stop, **fixed),
                   f"a large count of {stop} with nothing behind it",
                   _FEATURE, code=code)  # fmt: skip
    yield from _block_rows(rng)


def _block_rows(rng: random.Random) -> Iterator[Case]:
    """More block rows than there may be."""
    builder = StreamBuilder(rng, profile=0)
    chosen: dict[str, Any] = {**ndu(rng), "nnr_compressed_data_unit_payload_type": 1, "topology_elem_id": "t",
                              "scan_order": 1, "count_tensor_dimensions": 2}  # fmt: skip

    def no_loop(row: Any, obj: Any, context: Any, writer: Any, chooser: Any) -> None:
        obj.update(cabac_offset_list=[], dq_state_list=[], bit_offset_delta1=[], bit_offset_delta2=[])

    for label, height, text in (("", 2**40, "2^37"), ("-one", 8 * 2**26 + 16, "2^26 + 2")):
        with patch.object(synthesis, "_loop", no_loop):
            chooser = Chooser(rng, {**chosen, "tensor_dimensions": [height, 2]})
            data = synthesize_unit(UnitType.NNR_NDU, chooser, builder.parameters, lambda _e: bytes(90))
        yield Case(f"attack-block-rows{label}", builder.data + data, f"{text} block rows, more than 2^26 + 1", _FEATURE,
                   code="LIMIT")  # fmt: skip


def _nesting(rng: random.Random) -> Iterator[Case]:
    builder = StreamBuilder(rng)
    inner = unit_bytes(9, b"")
    for _ in range(400):
        inner = unit_bytes(6, bytes(6) + inner + unit_bytes(9, b""))
    yield Case("attack-nesting", builder.data + inner, "aggregates nested 400 deep", _FEATURE, code="UNIT_ORDER")
    builder.data += unit_bytes(33, b"") * 5000
    yield Case("many-units", builder.data, "5,000 units of three bytes", ("attacks", "framing"))
    builder = StreamBuilder(rng)
    bomb = zlib.compress(bytes(2**28 + 1), 9)
    builder.unit(UnitType.NNR_TPL, topology_storage_format=0, topology_compression_format=1, topology_data=bomb)
    yield Case("attack-inflate", builder.data, "topology_data that inflates to more than 2^28 bytes",
               ("compressed-topology",),
               code="LIMIT")  # fmt: skip


def cases(seed: int) -> Iterator[Case]:
    """See the module."""
    rng = random.Random(f"attacks {seed}")
    for maker in (_tensors, _counts, _nesting):
        yield from maker(rng)
