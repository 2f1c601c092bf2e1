"""Every vector of the specification: decoded, re-encoded and quantized, by the C core and by the Python reference."""

from __future__ import annotations

import hashlib
from math import prod
from typing import Any

import numpy as np
import pytest

from nnbits.codec.decode import NATIVE, REFERENCE, Stream
from nnbits.codec.entropy import native, reference
from nnbits.codec.entropy.coding import LevelsToCode
from nnbits.codec.quant import native as quant_native
from nnbits.codec.quant import reference as quant_reference
from nnbits.codec.syntax import SuppliedParameters
from nnbits.codec.update import UpdateStore

ENGINES: dict[str, Any] = {"native": (NATIVE, native), "reference": (REFERENCE, reference)}


def _open(vector: Any, engine: str) -> Stream:
    supplied = {
        name: SuppliedParameters(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        for name, values in vector.decoder.get("out_of_band", {}).items()
    }
    return Stream(memoryview(vector.stream), supplied=supplied, engine=ENGINES[engine][0])


def _prepared(vector: Any, engine: str) -> tuple[Stream, UpdateStore | None]:
    """The stream and, for a vector of a sequence, the store after the vectors before it."""
    if not vector.decoder.get("use_update_store"):
        return _open(vector, engine), None
    store = UpdateStore(keep_history=vector.decoder["use_update_history"])
    for before in vector.previous:
        for _ in _open(before, engine).decode_all(store):
            pass
    return _open(vector, engine), store


@pytest.mark.parametrize("engine", ENGINES)
def test_decodes_to_the_recorded_bytes(vector: Any, engine: str) -> None:
    stream, store = _prepared(vector, engine)
    expected = vector.data["decoded"]
    decoded = dict(stream.decode_all(store))
    assert set(decoded) == set(expected)
    for name, record in expected.items():
        array = decoded[name]
        assert list(array.shape) == record["shape"]
        assert array.dtype == np.dtype(record["dtype"]).newbyteorder("<")
        assert hashlib.sha256(array.tobytes()).hexdigest() == record["sha256"]
        if (qp := stream.qp(name)) is not None:
            assert qp == record["qp"]


@pytest.mark.parametrize("engine", ENGINES)
def test_encodes_to_the_same_bytes(vector: Any, engine: str) -> None:
    """Decoded levels and the same header values: with the stream's sets, and with sets chosen as the peer does."""
    stream, store = _prepared(vector, engine)
    for data_unit in stream.data_units:
        parts = data_unit.parts
        codings = [part.coding for part in parts]
        if codings[0] is None:
            continue
        payload = stream.payload(data_unit)
        decoded = stream.levels(data_unit, store)
        bases = [store and store.base_of(part, data_unit.body) for part in parts]
        histories = [store and store.history_of(part) for part in parts]
        records = [vector.data["decoded"][part.name] for part in parts]
        rules: list[Any] = [None]
        mismatch = vector.data.get("encoder_mismatch") or any(r.get("encoder_mismatch") for r in records)
        if vector.data["bitstream_written_by"].startswith("NNCodec") and not mismatch:
            rules.append("peer" if vector.data["call"].get("arguments", {}).get("param_opt", True) else "zero")
        for rule in rules:
            again = ENGINES[engine][1].encode_payload(
                [
                    LevelsToCode(
                        coding,
                        item.levels,
                        item.qp_value,
                        row_skipping=False if item.row_skip_list is None else item.row_skip_list,
                        hist_dep_sig_prob_enabled_flag=item.hist_dep_sig_prob_enabled_flag,
                        base=base,
                        history=history,
                        initial_sets=item.initial_sets if rule is None else None if rule == "zero" else rule,
                    )
                    for coding, item, base, history in zip(codings, decoded, bases, histories, strict=True)
                    if coding is not None
                ]
            )
            assert again.data == bytes(payload), rule
            if not vector.data.get("no_reencode"):
                assert [tuple(points) for points in again.entry_points] == stream.entry_points(data_unit)


@pytest.mark.parametrize("engine", [quant_native, quant_reference], ids=["native", "reference"])
def test_quantizes_to_the_same_levels(vector: Any, engine: Any) -> None:
    arguments = vector.data["call"].get("arguments", {})
    if not vector.data["bitstream_written_by"].startswith("NNCodec"):
        pytest.skip("not the peer's quantizer")
    if any(arguments.get(k) for k in ("lambda_scale", "int_quant_bw", "bnf")) or vector.data.get("encoder_mismatch"):
        pytest.skip("not plain quantization")
    stream = _open(vector, "native")
    compared = 0
    for data_unit in stream.data_units:
        for part in data_unit.parts:
            record = vector.data["decoded"][part.name]
            if record["method"] != "uniform" or part.coding is None or part.name not in vector.data["inputs"]:
                continue
            x = vector.input(part.name)
            if x.dtype != np.float32 or list(x.shape) != record["shape"]:
                continue
            # Codebook mode lowers the QP of the tensors beside the codebook, too.
            requested = None if data_unit.body.CbA else _requested_qp(arguments, part.name, x.ndim)
            qp = record["qp"] if requested is None else requested
            density = record["qp_density"]
            if record["dq_flag"]:
                c = part.coding
                levels, used = engine.quantize_dependent(
                    x, qp, density, height=c.height, width=c.width, scan_order=c.scan_order
                )
            else:
                levels, used = engine.quantize_uniform(x, qp, density)
            if "qp" in arguments and requested is not None:
                assert used == record["qp"]
            assert levels.size == prod(x.shape)
            assert hashlib.sha256(levels.astype("<i4").tobytes()).hexdigest() == record["levels_sha256"], part.name
            compared += 1
    if not compared:
        pytest.skip("no tensor was quantized from a recorded float32 input")


def _requested_qp(arguments: dict[str, Any], name: str, dimensions: int) -> int | None:
    """The QP that the peer was asked for, None where that is not plainly said."""
    if arguments.get("opt_qp"):
        return None
    if name in arguments.get("qp_per_tensor", {}):
        return int(arguments["qp_per_tensor"][name])
    qp: int = arguments.get("qp", -38)
    return qp if dimensions > 1 else arguments.get("nonweight_qp", -75)


def test_local_scaling_as_recorded(vector: Any) -> None:
    """Weights times their scaling vectors (nnc-entropy section 10)."""
    scaled = vector.data.get("after_local_scaling")
    if not scaled:
        pytest.skip("no local scaling")
    stream = _open(vector, "native")
    composed = {t.info.name: t.read() for t in stream.composed()}
    for name, record in scaled.items():
        assert hashlib.sha256(composed[name].tobytes()).hexdigest() == record["sha256"]
