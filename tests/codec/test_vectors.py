"""Every vector of the specification: decoded, re-encoded and quantized, by the C core and by the Python reference."""

from __future__ import annotations

import hashlib
from math import prod
from typing import Any

import numpy as np
import pytest

from nnbits.codec.decode import Stream
from nnbits.codec.entropy import native, reference
from nnbits.codec.entropy.coding import LevelsToCode
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.quant import native as quant_native
from nnbits.codec.quant import reference as quant_reference

#: Vectors whose tools the next issue brings; the list may only shrink.
LATER = {
    "codebooks": [*range(68, 83), 92, 115, 116, 117, 219],
    "BLOCK payloads and decomposition": [
        *range(99, 109),
        *range(120, 129),
        *range(133, 137),
        208,
        209,
        *range(221, 224),
    ],
    "temporal contexts": [*range(137, 157), 157, *range(158, 164), *range(173, 182)],
    "history": [*range(164, 173)],
    "out-of-band parameters": [129, 130, 210, 211, 212],
}
LATER_NUMBERS = {n: topic for topic, numbers in LATER.items() for n in numbers}
ENGINES: dict[str, Any] = {"native": native, "reference": reference}


def _stream(vector: Any, engine: str = "native") -> Stream:
    number = int(vector.name.split("_")[0])
    if number in LATER_NUMBERS:
        with pytest.raises(NnbitsError) as caught:
            Stream(memoryview(vector.stream))
        assert caught.value.code in (ReasonCode.UNSUPPORTED_FEATURE, ReasonCode.SHAPE_MISSING), vector.name
        pytest.skip(f"next issue: {LATER_NUMBERS[number]}")
    return Stream(memoryview(vector.stream), decode_payload=ENGINES[engine].decode_payload)


@pytest.mark.parametrize("engine", ENGINES)
def test_decodes_to_the_recorded_bytes(vector: Any, engine: str) -> None:
    stream = _stream(vector, engine)
    expected = vector.data["decoded"]
    assert set(stream.tensors) == set(expected)
    for name, record in expected.items():
        array = stream.read(name)
        assert list(array.shape) == record["shape"]
        assert array.dtype == np.dtype(record["dtype"]).newbyteorder("<")
        assert hashlib.sha256(array.tobytes()).hexdigest() == record["sha256"]
        if record["method"] in ("uniform", "codebook"):
            assert stream.qp(name) == record["qp"]


@pytest.mark.parametrize("engine", ENGINES)
def test_encodes_to_the_same_bytes(vector: Any, engine: str) -> None:
    """Decoded levels, the same header values: with the stream's sets, and with sets chosen as the peer does."""
    stream = _stream(vector)
    for name in stream.tensors:
        payload = stream.payload(name)
        coding = stream.coding(name)
        if coding is None:
            continue
        decoded = reference.decode_payload(payload, [coding])[0]
        sets: list[Any] = [decoded.initial_sets]
        chosen_by_peer = vector.data["bitstream_written_by"].startswith("NNCodec")
        if chosen_by_peer and not any(d.get("encoder_mismatch") for d in (vector.data, vector.data["decoded"][name])):
            param_opt = vector.data["call"]["arguments"].get("param_opt", True)
            sets.append("peer" if param_opt else None)
        for choice in sets:
            again = ENGINES[engine].encode_payload(
                [
                    LevelsToCode(
                        coding,
                        decoded.levels,
                        decoded.qp_value,
                        row_skipping=decoded.row_skip_list is not None,
                        hist_dep_sig_prob_enabled_flag=decoded.hist_dep_sig_prob_enabled_flag,
                        initial_sets=choice,
                    )
                ]
            )
            assert again.data == bytes(payload), (name, choice)
            if vector.name.split("_", 1)[1] not in ("scan1_on_column", "scan1_on_row"):
                assert tuple(again.entry_points[0]) == stream.entry_points(name)


@pytest.mark.parametrize("engine", [quant_native, quant_reference], ids=["native", "reference"])
def test_quantizes_to_the_same_levels(vector: Any, engine: Any) -> None:
    stream = _stream(vector)
    arguments = vector.data["call"]["arguments"]
    if "lambda_scale" in arguments or "bitdepth" in arguments or vector.data.get("encoder_mismatch"):
        pytest.skip("not plain quantization")
    quantized = 0
    for name, record in vector.data["decoded"].items():
        if record["method"] != "uniform" or name not in vector.data.get("inputs", {}) or record.get("encoder_mismatch"):
            continue
        x = vector.input(name)
        if x.dtype != np.float32 or list(x.shape) != record["shape"]:
            continue
        coding = stream.coding(name)
        assert coding is not None
        requested = _requested_qp(arguments, name, x.ndim)
        if requested is None:
            requested = record["qp"]
        if record["dq_flag"]:
            levels, qp = engine.quantize_dependent(
                x,
                requested,
                record["qp_density"],
                height=coding.height,
                width=coding.width,
                scan_order=coding.scan_order,
            )
        else:
            levels, qp = engine.quantize_uniform(x, requested, record["qp_density"])
        assert qp == record["qp"], name
        assert levels.size == prod(x.shape)
        assert hashlib.sha256(levels.astype("<i4").tobytes()).hexdigest() == record["levels_sha256"], name
        quantized += 1
    if not quantized:
        pytest.skip("no tensor was quantized from a recorded float32 input")


def _requested_qp(arguments: dict[str, Any], name: str, dimensions: int) -> int | None:
    qp = arguments.get("qp", -38)
    if isinstance(qp, dict):
        return qp.get(name)
    if "opt_qp" in arguments or not isinstance(qp, int):
        return None
    return qp if dimensions > 1 else arguments.get("nonweight_qp", -75)


def test_list_of_vectors_left_is_exact(vector: Any) -> None:
    """A vector that opens must not stand in the list."""
    if int(vector.name.split("_")[0]) not in LATER_NUMBERS:
        Stream(memoryview(vector.stream))
