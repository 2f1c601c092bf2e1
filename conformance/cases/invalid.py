"""Streams that parse, and break one rule."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nnbits.codec.entropy import reference
from nnbits.codec.entropy.coding import LevelCoding, LevelsToCode
from nnbits.codec.entropy.scan import estimated
from nnbits.codec.syntax import ParameterSets, UnitType, build_unit, build_unit_prefix
from nnbits.conformance.cases.building import Case, Coded, Levels, StreamBuilder
from nnbits.conformance.synthesis import Chooser, stopping_at_broken_rules, synthesize_unit

__all__ = ["cases"]

_INT, _FLOAT, _RAW, _BLOCK = range(4)


def _unit(builder: StreamBuilder, payload: bytes = b"\x80\0", **fixed: Any) -> bytes:
    """A data unit with any payload."""
    from nnbits.conformance.cases.building import ndu

    chosen = {**ndu(builder.rng, nnr_compressed_data_unit_payload_type=_FLOAT, topology_elem_id="t",
                    count_tensor_dimensions=2, tensor_dimensions=[4, 4]), **fixed}  # fmt: skip
    return synthesize_unit(UnitType.NNR_NDU, Chooser(builder.rng, chosen), builder.parameters, lambda _e: payload)


def _headers(rng: random.Random) -> Iterator[Case]:
    def lenient(**fixed: Any) -> bytes:
        """A header that breaks a rule, and ends soon behind it."""
        builder = StreamBuilder(rng, mps=fixed.pop("mps", None))
        with stopping_at_broken_rules():
            data = _unit(builder, **fixed)
        return builder.data + data

    book = {"codebook_present_flag": 1, "codebook_egk": 0, "codebook_size": 4, "codebook_zero_value": 0,
            "codebook_centre_offset": 0, "codebook_delta_left": 0, "codebook_delta_right": 0}  # fmt: skip
    block = {"nnr_compressed_data_unit_payload_type": _BLOCK, "nnr_multiple_topology_elements_present_flag": 1,
             "count_topology_elements_minus2": 0, "topology_elem_id_list": ["w", "b"],
             "compressed_parameter_types": 8}  # fmt: skip
    factors = {**block, "topology_elem_id_list": ["w_G", "w_H"], "compressed_parameter_types": 1,
               "decomposition_rank": 2,
               "g_number_of_rows": 4}  # fmt: skip
    rules: list[tuple[str, str, str, dict[str, Any]]] = [
        ("block-one-name", "VALUE_RANGE", "a BLOCK with a single name",
         {"nnr_compressed_data_unit_payload_type": _BLOCK}),
        ("names-too-many", "VALUE_RANGE", "a BLOCK with more names than tensors",
         {**block, "count_topology_elements_minus2": 1, "topology_elem_id_list": ["w", "b", "c"]}),
        ("names-too-few", "VALUE_RANGE", "a BLOCK with fewer names than tensors",
         {**block, "compressed_parameter_types": 10}),
        ("split-topology", "UNSUPPORTED_FEATURE", "several names outside of a BLOCK",
         {**block, "nnr_compressed_data_unit_payload_type": _FLOAT, "compressed_parameter_types": 0}),
        ("centre-low", "VALUE_RANGE", "CbZeroOffset -1", {**book, "codebook_centre_offset": -3}),
        ("centre-high", "VALUE_RANGE", "CbZeroOffset of the size of the codebook",
         {**book, "codebook_centre_offset": 2}),
        ("centre-far", "VALUE_RANGE", "codebook_centre_offset 2^40", {**book, "codebook_centre_offset": 1 << 40}),
        ("codebook-low", "VALUE_RANGE", "a codebook entry below int32",
         {**book, "codebook_zero_value": -(2**31) + 1, "codebook_delta_left": 0}),
        ("codebook-high", "VALUE_RANGE", "a codebook entry above int32", {**book, "codebook_zero_value": 2**31 - 1}),
        ("codebook-far", "VALUE_RANGE", "a codebook gap of 2^63", {**book, "codebook_delta_right": (1 << 63)}),
        ("codebook-dq", "VALUE_RANGE", "dq_flag 1 with a codebook", {**book, "dq_flag": 1}),
        ("no-dimensions", "SHAPE_MISSING", "tensor_dimensions_flag 0 and nothing supplied",
         {"tensor_dimensions_flag": 0}),
        ("no-parameters", "SHAPE_MISSING", "input_parameters_present_flag 0 and nothing supplied",
         {"input_parameters_present_flag": 0}),
        ("product", "LIMIT", "dimensions whose product is above 2^48", {"tensor_dimensions": [2**25, 2**24]}),
        ("product-wraps", "LIMIT", "dimensions whose product is 2^64 + 1 times something, or 0 in 64 bits",
         {"count_tensor_dimensions": 3, "tensor_dimensions": [2**32, 2**32, 4]}),
        ("product-hidden", "LIMIT", "dimensions above the limit behind one that is 0",
         {"count_tensor_dimensions": 3, "tensor_dimensions": [0, 2**40, 2**40]}),
        ("factor-name", "VALUE_RANGE", "factors that are not named _G and _H",
         {**factors, "topology_elem_id_list": ["w", "v"]}),
        ("factor-order", "VALUE_RANGE", "factor H in front of G", {**factors, "topology_elem_id_list": ["w_H", "w_G"]}),
        ("factor-alone", "VALUE_RANGE", "a factor in a unit of its own without the suffix",
         {"compressed_parameter_types": 1, "decomposition_rank": 2, "g_number_of_rows": 4}),
        ("factor-rows", "SHAPE_MISMATCH", "rows of G that do not divide the tensor",
         {**factors, "g_number_of_rows": 3}),
        ("factor-no-rows", "SHAPE_MISMATCH", "G without rows, H with some", {**factors, "g_number_of_rows": 0}),
        ("qp-missing", "QP_MISSING", "a quantized tensor without quantization parameters in force",
         {"mps": {"mps_quantization_method_flags": 4}}),
        ("integer-as-float", "METADATA", "integers declared float16",
         {"nnr_compressed_data_unit_payload_type": _INT, "nnr_decompressed_data_format_present_flag": 1,
          "nnr_decompressed_data_format": 8}),
        ("float-as-integer", "METADATA", "quantized values declared int8",
         {"nnr_decompressed_data_format_present_flag": 1, "nnr_decompressed_data_format": 5}),
        ("raw-short", "SHAPE_MISMATCH", "raw values that end too early",
         {"nnr_compressed_data_unit_payload_type": _RAW, "payload": bytes(63)}),
        ("raw-long", "SHAPE_MISMATCH", "a raw value too many",
         {"nnr_compressed_data_unit_payload_type": _RAW, "payload": bytes(68)}),
        ("raw-empty", "SHAPE_MISMATCH", "a raw value where there should be none",
         {"nnr_compressed_data_unit_payload_type": _RAW, "payload": bytes(4), "tensor_dimensions": [0, 4]}),
    ]  # fmt: skip
    for label, code, text, fixed in rules:
        features = ("blocks",) if "nnr_multiple_topology_elements_present_flag" in fixed else ("headers",)
        yield Case(f"rule-{label}", lenient(**fixed), text, features, code=code)
    for scan in (5, 6, 15):
        data = lenient(scan_order=scan)
        yield Case(f"rule-scan-order-{scan}", data, f"scan_order {scan}", ("headers",), code="UNSUPPORTED_FEATURE")
    data = lenient(scan_order=15, tensor_dimensions=[1, 16])
    yield Case("rule-scan-order-row", data, "scan_order 15 on a single row", ("headers",), code="UNSUPPORTED_FEATURE")
    indexed = {"mps_topology_indexed_reference_flag": 1}
    data = lenient(mps=indexed, topology_elem_id_index=0)
    yield Case("index-no-list", data, "a name by index without a reference list", ("headers",), code="VALUE_RANGE")
    builder = StreamBuilder(rng, mps=indexed)
    builder.unit(
        UnitType.NNR_TPL, topology_storage_format=6, count_topology_elements_minus2=0, topology_elem_id_list=["a", "b"]
    )
    for number, index in enumerate((2, 2**64 - 2**7 - 1)):
        data = builder.data + _unit(builder, topology_elem_id_index=index)
        yield Case(
            f"index-beyond-{number}", data, f"index {index} into a list of two names", ("headers",), code="VALUE_RANGE"
        )


def _names(rng: random.Random) -> Iterator[Case]:
    builder = StreamBuilder(rng)
    builder.tensor("t")
    builder.tensor("u")
    builder.tensor("t", (2,))
    yield Case("name-twice", builder.data, "two units with the same tensor", ("headers",), code="DUPLICATE_NAME")
    builder = StreamBuilder(rng)
    builder.tensor(["w", "w"], nnr_compressed_data_unit_payload_type=_BLOCK, compressed_parameter_types=8)
    yield Case(
        "name-twice-block", builder.data, "a BLOCK with the same tensor twice", ("blocks",), code="DUPLICATE_NAME"
    )


def _split(rng: random.Random) -> Iterator[Case]:
    builder = StreamBuilder(rng)
    coded = builder.tensor("split", (9, 11), Levels("dense"), append=False)
    other = builder.tensor("other", (9, 11), Levels("dense"), append=False)

    def part(counter: int | None, start: int = 0, stop: int | None = None, of: Coded = coded) -> bytes:
        return build_unit(of.body, parameters=builder.parameters, payload=of.payload[start:stop],
                          partial_data_counter=counter)  # fmt: skip

    unknown = bytes.fromhex("000426ff")
    rules = [
        ("missing-last", part(2, 0, 9) + part(1, 9), "TRUNCATED", "the last part is missing"),
        ("skipped", part(3, 0, 9) + part(1, 9, 20) + part(0, 20), "UNIT_ORDER", "the counter skips a number"),
        ("repeated", part(1, 0, 9) + part(1, 9), "UNIT_ORDER", "the counter stays the same"),
        ("no-counter", part(1, 0, 9) + part(None, 9), "UNIT_ORDER", "the last part has no counter"),
        ("other-header", part(1, 0, 9) + part(0, 9, None, other), "UNIT_ORDER", "the parts have different headers"),
        ("between", part(1, 0, 9) + unknown + part(0, 9), "UNIT_ORDER", "another unit between the parts"),
        ("too-short", part(1, 0, 9) + part(0, 10), "CABAC_END", "a byte is missing between the parts"),
    ]
    for label, data, code, text in rules:
        also = ("TRUNCATED", "LEVEL_RANGE") if label == "too-short" else ()
        yield Case(f"split-{label}", builder.data + data, text, ("split",), code=code, also=also)
    raw = builder.tensor("raw", (2,), nnr_compressed_data_unit_payload_type=_RAW, append=False)
    data = b"".join(build_unit(raw.body, parameters=builder.parameters, payload=bytes(8), partial_data_counter=counter)
                    for counter in (1, 0))  # fmt: skip
    yield Case("split-raw", builder.data + data, "raw values in two units, each as large as both should be", ("split",),
               code="SHAPE_MISMATCH")  # fmt: skip


def _payloads(rng: random.Random) -> Iterator[Case]:
    builder = StreamBuilder(rng)
    coded = builder.tensor("t", (9, 11), Levels("dense"), append=False)
    good = coded.payload

    def with_payload(payload: bytes, unit: Coded = coded, of: StreamBuilder = builder) -> bytes:
        prefix = build_unit_prefix(unit.body, parameters=of.parameters, payload_size=len(payload))
        return of.data + prefix + payload

    bits = int.from_bytes(good, "big")
    last = (bits & -bits).bit_length() - 1  # the stop bit
    moved = (bits ^ (1 << last) | (1 << (last - 1) if last else 0)).to_bytes(len(good), "big")
    tests: list[tuple[str, bytes, str, str]] = [
        ("empty", b"", "TRUNCATED", "no payload"),
        ("one-byte", good[:1], "TRUNCATED", "one byte of a payload"),
        ("one-byte-ones", b"\xff", "TRUNCATED", "one byte, with which no offset of nine bits is possible"),
        ("half", good[: len(good) // 2], "TRUNCATED", "half of a payload"),
        ("last-byte", good[:-1], "TRUNCATED", "a payload without its last byte"),
        ("extra-byte", good + b"\0", "CABAC_END", "a byte behind the payload"),
        (
            "extra-stop",
            good[:-1] + bytes([good[-1]]) + b"\x80",
            "CABAC_END",
            "a byte with a stop bit behind the payload",
        ),
        ("no-stop", (bits ^ (1 << last)).to_bytes(len(good), "big"), "CABAC_END", "a payload without its stop bit"),
        ("offset", b"\xff\xff" + good[2:], "CABAC_END", "an offset that is not below the range"),
        ("all-ones", b"\xff" * len(good), "CABAC_END", "a payload of ones"),
    ]
    if last:
        tests.append(("after-stop", good[:-1] + bytes([good[-1] | 1]), "CABAC_END", "a one behind the stop bit"))
        tests.append(("stop-moved", moved, "CABAC_END", "a stop bit in the wrong place"))
    for label, payload, code, text in tests:
        yield Case(f"payload-{label}", with_payload(payload), text, ("payloads",), code=code)
    yield from _terminating(rng)
    blocks = StreamBuilder(rng)
    for attempt in range(4000):
        noise = random.Random(attempt)
        unit = blocks.tensor("t", (40, 12), Levels("dense"), scan_order=1, append=False)
        damaged = bytearray(unit.payload)
        damaged[len(damaged) // 3 + noise.randrange(20)] ^= 1 << noise.randrange(8)
        data = with_payload(bytes(damaged), unit, blocks)
        if _reset_fails(unit, bytes(damaged), blocks.parameters):
            yield Case("payload-block-row", data, "an offset that is not below 256 at a block row", ("payloads",),
                       code="CABAC_END")  # fmt: skip
            break


def _reset_fails(unit: Coded, payload: bytes, parameters: ParameterSets) -> bool:
    """Whether decoding stops at a block row."""
    from nnbits.codec.errors import NnbitsError
    from nnbits.codec.parts import parts_of

    codings = [part.coding for part in parts_of(unit.body, unit.body.names, parameters) if part.coding]
    try:
        reference.decode_payload(payload, codings)
    except NnbitsError as error:
        return "impossible offset" in error.message
    return False


def _terminating(rng: random.Random) -> Iterator[Case]:
    """A code string that goes on where the tensors end: the terminating bin is 0."""
    builder = StreamBuilder(rng)
    longer = LevelCoding(40, 1, qp_bits=8)
    levels = np.arange(1, 41, dtype=np.int32)
    payload = reference.encode_payload([LevelsToCode(longer, levels)]).data
    data = _unit(builder, payload, count_tensor_dimensions=1, tensor_dimensions=[1])
    yield Case("payload-more-levels", builder.data + data, "a payload with more levels than the tensor", ("payloads",),
               code="CABAC_END")  # fmt: skip
    data = _unit(builder, payload, count_tensor_dimensions=1, tensor_dimensions=[4000])
    yield Case("payload-fewer-levels", builder.data + data, "a payload with fewer levels than the tensor",
               ("payloads",),
               code="TRUNCATED")  # fmt: skip


def _levels(rng: random.Random) -> Iterator[Case]:
    """Levels outside of what their tensor can hold."""
    for dq, low, high in ((0, -(2**31), 2**31 - 1), (1, -(2**31), 2**31 - 1)):
        for label, value in (("high", high + 1), ("low", low - 1)):
            data = _wild(rng, dq, value)
            text = f"level {value} with dq_flag {dq}"
            yield Case(f"level-{label}-dq{dq}", data, text, ("payloads",), code="LEVEL_RANGE")
    for form, bits in ((2, 8), (3, 8), (4, 8), (5, 8), (6, 16)):
        for value in (1 << (bits - 1), -(1 << (bits - 1)) - 1):
            data = _exact(rng, value, nnr_compressed_data_unit_payload_type=_INT, nnr_decompressed_data_format=form,
                          nnr_decompressed_data_format_present_flag=1)  # fmt: skip
            name = "high" if value > 0 else "low"
            yield Case(f"format-{form}-{name}", data, f"{value} as int{bits}", ("payloads",), code="LEVEL_RANGE")
    for value, text in ((127, "highest"), (-128, "lowest")):
        data = _exact(rng, value, nnr_compressed_data_unit_payload_type=_INT, nnr_decompressed_data_format=5,
                      nnr_decompressed_data_format_present_flag=1)  # fmt: skip
        yield Case(f"format-5-{text}", data, f"the {text} value of int8", ("payloads",))
    book = {"codebook_present_flag": 1, "codebook_egk": 0, "codebook_size": 4, "codebook_zero_value": 0,
            "codebook_centre_offset": 0, "codebook_delta_left": 0, "codebook_delta_right": 0}  # fmt: skip
    for value in (2, -3):
        yield Case(f"codebook-{'high' if value > 0 else 'low'}", _exact(rng, value, profile=0, **book),
                   f"index {value} into a codebook of -2..1, profile 0", ("payloads",), code="LEVEL_RANGE")  # fmt: skip
    yield from _suffix(rng)
    for qp, density, code in ((-127, 0, "VALUE_RANGE"), (-126, 0, None), (127, 0, None), (128, 0, "VALUE_RANGE"),
                              (-4096, 7, None), (1023, 3, None), (1024, 3, "VALUE_RANGE"),
                              (-1009, 3, "VALUE_RANGE")):  # fmt: skip
        choices: tuple[tuple[str, dict[str, Any]], ...] = (("uniform", {}), ("codebook", book))
        for name, extra in choices:
            builder = StreamBuilder(rng, mps={"mps_qp_density": density, "mps_quantization_parameter": qp})
            builder.tensor("t", (3, 4), Levels("small", qp_value=0), **extra)
            label = f"step-{name}-{density}-{'minus-' if qp < 0 else ''}{abs(qp)}"
            yield Case(
                label, builder.data, f"{name} quantization with QP {qp}, qp_density {density}", ("payloads",), code=code
            )


def _wild(rng: random.Random, dq: int, value: int) -> bytes:
    """A single level that need not fit in int32."""
    builder = StreamBuilder(rng)
    coding = LevelCoding(1, 1, dq=bool(dq), unary_length=11, qp_bits=8)
    engine = reference.ArithmeticEncoder()
    contexts = [reference.Context() for _ in range(coding.context_count)]
    engine.bypass(0, 8)
    par = contexts[87 + 44]
    for _ in estimated(coding, False):
        engine.context_bin(par, 0)
    k = -((abs(value) + 1) // 2) if dq and value < 0 else (value + 1) // 2 if dq else value
    choice = reference.ContextChoice(coding)
    reference.code_level(
        lambda c, b: engine.context_bin(contexts[c], b), engine.bypass, k, choice, coding, 0, 0, 0, False
    )
    shifts = engine.shifts
    code = engine.finish()
    pad = -(shifts + 9) % 8
    payload = (code << pad).to_bytes((shifts + 9 + pad) // 8, "big")
    data = _unit(builder, payload, dq_flag=dq, count_tensor_dimensions=1, tensor_dimensions=[1])
    return builder.data + data


def _exact(rng: random.Random, value: int, *, profile: int = 1, **fixed: Any) -> bytes:
    """A tensor of one level."""
    builder = StreamBuilder(rng, profile=profile)
    integer = fixed.get("nnr_compressed_data_unit_payload_type") == _INT
    coding = LevelCoding(1, 1, profile=profile, qp_bits=0 if integer else 8)
    payload = reference.encode_payload([LevelsToCode(coding, np.array([value], np.int32))]).data
    data = _unit(builder, payload, count_tensor_dimensions=1, tensor_dimensions=[1], **fixed)
    return builder.data + data


def _suffix(rng: random.Random) -> Iterator[Case]:
    """Profile 1 bounds the prefix of a remainder by the codebook, but not its suffix."""
    size = 40
    book = {"codebook_present_flag": 1, "codebook_egk": 0, "codebook_size": size, "codebook_zero_value": 0,
            "codebook_centre_offset": -(size >> 1), "codebook_delta_right": 0}  # fmt: skip
    builder = StreamBuilder(rng)
    coding = LevelCoding(1, 1, unary_length=1, qp_bits=8, codebook_size=size + 8, codebook_zero_offset=0)
    payload = reference.encode_payload([LevelsToCode(coding, np.array([45], np.int32))]).data
    data = _unit(
        builder, payload, count_tensor_dimensions=1, tensor_dimensions=[1], cabac_unary_length_minus1=0, **book
    )
    yield Case("codebook-suffix", builder.data + data, "a remainder whose suffix leads out of its codebook",
               ("payloads",),
               code="LEVEL_RANGE", also=("CABAC_END",))  # fmt: skip


def _descriptions(rng: random.Random) -> Iterator[Case]:
    """The source description of nnbits, which other decoders ignore."""

    def stream(text: str, **fixed: Any) -> bytes:
        builder = StreamBuilder(rng)
        builder.unit(UnitType.NNR_TPL, topology_storage_format=0, topology_compression_format=0, topology_data=text)
        builder.tensor("t", (3,), Levels("small"), nnr_compressed_data_unit_payload_type=_INT, **fixed)
        return builder.data

    wrong: list[tuple[str, Any]] = [
        ("version", {"nnbits": 9}),
        ("unknown-key", {"nnbits": 1, "colour": 1}),
        ("count", {"nnbits": 1, "count": -1}),
        ("count-type", {"nnbits": 1, "count": 1.0}),
        ("format", {"nnbits": 1, "format": 3}),
        ("metadata", {"nnbits": 1, "metadata": {"a": 1}}),
        ("dtypes", {"nnbits": 1, "dtypes": {"t": "float13"}}),
        ("dtype-kind", {"nnbits": 1, "dtypes": {"t": "bfloat16"}}),
        ("shapes", {"nnbits": 1, "shapes": {"t": [-3]}}),
        ("shapes-type", {"nnbits": 1, "shapes": [3]}),
        ("shape-size", {"nnbits": 1, "shapes": {"t": [4]}}),
        ("update", {"nnbits": 1, "update": "maybe"}),
        ("removed", {"nnbits": 1, "removed": [1]}),
        ("order", {"nnbits": 1, "order": "t"}),
        ("folded", {"nnbits": 1, "folded": {}}),
        ("folded-key", {"nnbits": 1, "folded": [{"weight": "t", "x": 1}]}),
        ("folded-weight", {"nnbits": 1, "folded": [{"norm": ["a", "b", "c", "d"]}]}),
        ("folded-no-norm", {"nnbits": 1, "folded": [{"weight": "t", "epsilon": 0.1}]}),
        ("folded-norm", {"nnbits": 1, "folded": [{"weight": "t", "norm": ["a"], "epsilon": 0.1}]}),
        ("folded-epsilon", {"nnbits": 1, "folded": [{"weight": "t", "norm": list("abcd"), "epsilon": 2}]}),
        ("folded-flag", {"nnbits": 1, "folded": [{"weight": "t", "norm": list("abcd"), "epsilon": 0, "bias": 1}]}),
        ("not-json", '{"nnbits":1,'),
        ("deep", '{"nnbits":1,"count":' + "[" * 3000),
    ]
    for label, body in wrong:
        text = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
        yield Case(
            f"description-{label}",
            stream(text),
            f"source description: {label}",
            ("source-description",),
            code="METADATA",
        )
    yield Case("description-cut", stream('{"nnbits":1,"count":2}'), "fewer tensors than announced",
               ("source-description",),
               code="TRUNCATED")  # fmt: skip
    right = '{"nnbits":1,"count":1,"dtypes":{"t":"uint16"},"shapes":{"t":[1,3]},"metadata":{"é":"\\u0000"}}'
    builder = StreamBuilder(rng)
    builder.unit(UnitType.NNR_TPL, topology_storage_format=0, topology_compression_format=0, topology_data=right)
    builder.tensor("t", (3,), Levels("zero"), nnr_compressed_data_unit_payload_type=_INT)
    yield Case("description", builder.data, "a source description with element type and shape", ("source-description",))
    builder = StreamBuilder(rng)
    builder.unit(
        UnitType.NNR_TPL, topology_storage_format=0, topology_compression_format=0, topology_data='{"other":1}'
    )
    builder.tensor("t", (3,))
    yield Case("description-foreign", builder.data, "topology_data of another application", ("topology",))


def _deflated(rng: random.Random) -> Iterator[Case]:
    def stream(data: bytes) -> bytes:
        builder = StreamBuilder(rng)
        builder.unit(UnitType.NNR_TPL, topology_storage_format=3, topology_compression_format=1, topology_data=data)
        builder.tensor("t", (3,))
        return builder.data

    features = ("compressed-topology",)
    yield Case("deflate", stream(zlib.compress(b"graph" * 99)), "deflated topology_data", features)
    whole = zlib.compress(b"graph" * 99)
    for label, data, text in (("cut", whole[:-3], "that is cut off"), ("rest", whole + b"\0", "with a byte behind")):
        yield Case(f"deflate-{label}", stream(data), f"deflated topology_data {text}", features, code="METADATA")
    yield Case(
        "deflate-damaged",
        stream(b"\x78\x9c" + b"\xff" * 9),
        "damaged deflated topology_data",
        features,
        code="METADATA",
    )


def _supplied(rng: random.Random) -> Iterator[Case]:
    """Values from outside the bitstream."""
    from nnbits.conformance.runner import supplied_parameters

    tables: list[tuple[str, dict[str, Any], dict[str, Any], str | None, str]] = [
        ("shape", {"tensor_dimensions": [5, 3]}, {"tensor_dimensions_flag": 0}, None, "dimensions supplied"),
        ("shape-replaced", {"tensor_dimensions": [5, 3]}, {}, None, "dimensions in the stream, others supplied"),
        ("unary", {"cabac_unary_length_minus1": 2}, {"cabac_unary_length_flag": 0}, None, "unary length supplied"),
        ("all", {"tensor_dimensions": [4, 2], "cabac_unary_length_minus1": 0}, {"input_parameters_present_flag": 0},
         None,
         "no input parameters in the stream"),
    ]  # fmt: skip
    for label, values, fixed, code, text in tables:
        supplied: Mapping[str, Mapping[str, Any]] = {"t": values}
        builder = StreamBuilder(rng, supplied=supplied_parameters(supplied))
        builder.tensor("t", (3, 5), Levels("dense"), **fixed)
        yield Case(f"supplied-{label}", builder.data, text, ("out-of-band",), code=code, supplied=supplied)
    table = {"t": {"tensor_dimensions": [4, 6], "decomposition_rank": 3, "g_number_of_rows": 4}}
    other = StreamBuilder(rng, supplied=supplied_parameters(table))
    other.tensor("t_G", (6, 4), compressed_parameter_types=1, decomposition_rank=2, g_number_of_rows=6)
    yield Case(
        "supplied-factor",
        other.data,
        "rank and rows supplied under the name without _G",
        ("out-of-band",),
        supplied=table,
    )
    bare = StreamBuilder(rng, supplied=supplied_parameters({"t": {"compressed_parameter_types": 0}}))
    bare.tensor("t", (6, 4))
    table = {"t": {"compressed_parameter_types": 1}}
    yield Case("supplied-no-rank", bare.data, "a decomposition supplied without its rank", ("out-of-band",),
               supplied=table,
               code="SHAPE_MISSING")  # fmt: skip


def cases(seed: int) -> Iterator[Case]:
    """See the module."""
    rng = random.Random(f"invalid {seed}")
    for maker in (_headers, _names, _split, _payloads, _levels, _descriptions, _deflated, _supplied):
        yield from maker(rng)
