"""Data units: headers from the declaration, payloads with every context, table entry and transition."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any, Final

from nnbits.codec.errors import NnbitsError
from nnbits.codec.syntax import UnitType
from nnbits.conformance.adapters import reference
from nnbits.conformance.cases.building import NANS, Case, Levels, StreamBuilder, raw_unit
from nnbits.conformance.synthesis import MAX, MIN, Rejected, declared_codes

__all__ = ["cases"]

_STYLES: Final = ("small", "sparse", "dense", "ones", "negative", "unary", "large", "powers", "limits", "zero")
_INT, _FLOAT, _RAW, _BLOCK = range(4)
_PARENT: Final = {"mps_parent_signalling_enabled_flag": 1}


def _headers(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Every element of the header at its ends; tensors are small, or have no elements where a dimension is large."""
    names = {path.rsplit(".", 1)[-1] for path, _ in declared_codes() if path.startswith("nnr_unit_header")}
    skip = {"nnr_unit_type", "general_profile_idc", "nnr_unit_entry_point", "topology_elem_id_list", "topology_elem_id"}
    for number in range(8):
        mps = {**_PARENT, "mps_topology_indexed_reference_flag": int(number % 4 == 3), "mps_qp_density": number % 8}
        builder = StreamBuilder(rng, profile=int(number % 3 != 2), mps={**mps} if number % 2 else {})
        indexed = builder.parameters.mps is not None and builder.parameters.mps.mps_topology_indexed_reference_flag
        if indexed:
            listed = [f"listed.{k}{'_G' if k % 2 else '_H' if k % 3 else ''}" for k in range(200)]
            builder.unit(UnitType.NNR_TPL, topology_storage_format=6, topology_elem_id_list=listed,
                         count_topology_elements_minus2=198)  # fmt: skip
        head, free, used = builder.data, iter(range(200)), set[str]()
        for name in sorted(names - skip):
            for end in (MIN, MAX):
                for _ in range(2):
                    _try(builder, rng, head, {name: end}, free if indexed else None, used)
        yield f"headers {number}", builder.data


def _try(
    builder: StreamBuilder, rng: random.Random, head: bytes, fixed: Mapping[str, Any], free: Any, used: set[str]
) -> None:
    """One unit with an element fixed, if the others come out so that it can be coded."""
    for _ in range(6):
        kind = rng.choice((_INT, _FLOAT, _FLOAT, _RAW, _BLOCK))
        shape = [rng.choice((1, 2, 5, 9)) for _ in range(rng.choice((0, 1, 2, 2, 3)))]
        wanted: dict[str, Any] = {
            "nnr_compressed_data_unit_payload_type": kind,
            "input_parameters_present_flag": 1,
            "tensor_dimensions_flag": 1,
            "cabac_unary_length_flag": rng.getrandbits(1),
            "scan_order": rng.choice((0, 0, 1, 2)),
            "temporal_context_modeling_flag": 0,
            "nnr_decompressed_data_format_present_flag": rng.getrandbits(1),
            "nnr_decompressed_data_format": rng.choice((0, 2, 3, 4, 5, 6, 7) if kind == _INT else (1, 8, 9)),
            "nnr_unit_size_flag": rng.getrandbits(1),
            "codebook_egk": rng.choice((0, 1, 15)),
            "codebook_size": rng.choice((1, 2, 3, 9)),
            "codebook_zero_value": rng.choice((0, -3, 2**31 - 1 - 2**20, 2**20 - 2**31)),
            **dict.fromkeys(("codebook_delta_left", "codebook_delta_right"), lambda r: r.randrange(5)),
            "partial_data_counter_present_flag": rng.getrandbits(1),
            "partial_data_counter": 0,
            **fixed,
        }
        types = rng.randrange(16) if kind == _BLOCK else 0
        wanted.setdefault("compressed_parameter_types", types)
        name: Any = f"t{len(builder.data)}"
        if kind == _BLOCK:
            count = 1 + bool(types & 1) + bool(types & 2) + 4 * bool(types & 4) + bool(types & 8)
            name = [f"{name}.{k}{('_G', '_H')[k] if types & 1 and k < 2 else ''}" for k in range(count)]
            if types & 1:
                wanted.setdefault("decomposition_rank", 2)
                wanted.setdefault("g_number_of_rows", shape[0] if shape else 1)
        elif wanted["compressed_parameter_types"] != 0:
            name += rng.choice(("_G", "_H"))
            wanted.setdefault("decomposition_rank", rng.choice((1, 2)))
            wanted.setdefault("g_number_of_rows", shape[0] if shape else 1)
        if free is not None:
            wanted["topology_elem_id_index"] = next(free, 0)
            wanted["topology_elem_id_index_list"] = lambda _r, f=free: next(f, 0)
        if wanted["scan_order"] is MAX:
            wanted["scan_order"] = 4
        if "dq_flag" not in fixed:
            wanted["dq_flag"] = rng.getrandbits(1)
            if wanted["dq_flag"]:
                wanted.setdefault("codebook_present_flag", 0)
        styles = ("small", "zero") if kind == _INT else ("small", "dense", "zero")
        fill = Levels(rng.choice(styles), rng.choice((None, 0.5)), rng.choice(("zero", "random")), rng.randint(-20, 20))
        try:
            coded = builder.tensor(name, shape, fill, plain=False, append=False, **wanted)
        except (Rejected, NnbitsError):  # a combination that cannot be coded, for one reason or another
            continue
        try:
            names = set(reference([head + coded.data], {}))
        except NnbitsError:  # wrong for a reason that the declaration does not say
            continue
        if names & used:
            continue
        used |= names
        builder.append(coded.data)
        return


def _entropy(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Combinations of the tools of the entropy layer, most of them such as an encoder would not choose."""
    for number in range(60):
        profile = int(number % 4 != 3)
        builder = StreamBuilder(rng, profile=profile, mps=_PARENT if profile else {})
        text = []
        for k in range(rng.choice((1, 2, 3))):
            style, dq = rng.choice(_STYLES), rng.getrandbits(1)
            unary = rng.choice((0, 0, 1, 2, 10, 10, 40, 255))
            shape = rng.choice(
                ((40,), (12, 13), (9, 6), (17, 3), (8, 8), (30, 10), (2, 33), (5, 3, 7), (1, 50), (50, 1))
            )
            kind = rng.choice((_FLOAT, _FLOAT, _INT))
            fill = Levels(style, rng.choice((None, 0.3, 0.9)), rng.choice(("zero", "random", rng.randrange(9))),
                          rng.randint(-30, 30))  # fmt: skip
            fixed: dict[str, Any] = {
                "nnr_compressed_data_unit_payload_type": kind,
                "dq_flag": dq,
                "cabac_unary_length_minus1": unary,
                "scan_order": rng.choice((0, 0, 1, 2, 3, 4)),
            }
            if kind == _INT:
                fixed["dq_flag"] = rng.getrandbits(1)
            elif rng.random() < 0.3:
                size = rng.choice((1, 2, 3, 5, 17, 60))
                fixed |= {"dq_flag": 0, "codebook_present_flag": 1, "codebook_egk": 1, "codebook_size": size}
                fixed |= {"codebook_zero_value": rng.randint(-50, 50), "codebook_centre_offset": rng.choice(
                    (-(size >> 1), size - 1 - (size >> 1), 0))}  # fmt: skip
                fixed |= dict.fromkeys(("codebook_delta_left", "codebook_delta_right"), lambda r: r.randrange(4))
            builder.tensor(f"t{k}", shape, fill, **fixed)
            text.append(f"{style} {'x'.join(map(str, shape))}")
        yield ", ".join(text), builder.data


def _systematic(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """What chance would leave out."""
    for dq in (0, 1):
        for unary, style, shape in (
            (255, "unary", (16, 72)),
            (9, "powers", (4, 62)),
            (0, "powers", (2, 62)),
            (1, "limits", (3, 9)),
        ):
            builder = StreamBuilder(rng)
            builder.tensor("t", shape, Levels(style), dq_flag=dq, cabac_unary_length_minus1=unary)
            yield f"{style} levels, U = {unary + 1}, dq_flag {dq}", builder.data
        for sets in range(9):
            builder = StreamBuilder(rng)
            for style in ("zero", "ones", "negative", "dense"):
                builder.tensor(style, (20, 23), Levels(style, None, sets), dq_flag=dq, cabac_unary_length_minus1=3)
            yield f"initial set {sets} in every context, dq_flag {dq}", builder.data
        for width in (5, 6, 7, 8, 9, 10):
            builder = StreamBuilder(rng)
            for scan in (0, 1):
                builder.tensor(f"t{scan}", (90, width), Levels("small", 0.5), dq_flag=dq, scan_order=scan)
            yield f"skipped rows of width {width}, dq_flag {dq}", builder.data
        for scan in (1, 2, 3, 4):
            side = 4 << scan
            builder = StreamBuilder(rng)
            for k, shape in enumerate(((side * 2 + 1, side + 1), (side, side), (side + 1, 3), (1, side * 2))):
                builder.tensor(f"t{k}", shape, Levels("small", (None, 0.4)[k % 2]), dq_flag=dq, scan_order=scan)
            yield f"blocks of {side}, whole and cut, dq_flag {dq}", builder.data


def _long_scans(rng: random.Random) -> Iterator[Case]:
    """Large enough for the fast paths of decoders that have some."""
    for dq in (0, 1):
        for style in ("dense", "sparse"):
            builder = StreamBuilder(rng)
            builder.tensor("blocks", (96, 128), Levels(style, 0.1), dq_flag=dq, scan_order=1)
            builder.tensor("plain", (9000,), Levels(style), dq_flag=dq)
            feature = ("tensors", "large")
            yield Case(
                f"large-{style}-dq{dq}", builder.data, f"{style} levels enough for a fast path, dq_flag {dq}", feature
            )
    builder = StreamBuilder(rng)
    builder.tensor("remainders", (80, 120), Levels("large"), dq_flag=1, cabac_unary_length_minus1=0, scan_order=1)
    yield Case("large-remainders", builder.data, "many remainders on a fast path", ("tensors", "large"))


def _runs(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """The same bin until an estimate stands still."""
    for sets in range(9):
        builder = StreamBuilder(rng)
        for style in ("zero", "constant", "islands", "holes"):
            builder.tensor(style, (3000,), Levels(style, None, sets), cabac_unary_length_minus1=0)
        yield f"long runs of one bin from initial set {sets}", builder.data


def _special(rng: random.Random) -> Iterator[Case]:
    """Single rules that deserve a stream with a name."""
    qp = {"mps_quantization_parameter": 40}
    builder = StreamBuilder(rng, mps=qp)
    builder.tensor("a", (4, 4), Levels("dense", qp_value=-3))
    builder.unit(UnitType.NNR_LPS, lps_quantization_method_flags=1, lps_qp_density=5, lps_quantization_parameter=-70,
                 lps_sparsification_flag=0, lps_pruning_flag=0, lps_unification_flag=0)  # fmt: skip
    builder.tensor("b", (4, 4), Levels("dense", qp_value=31))
    builder.unit(UnitType.NNR_LPS, lps_quantization_method_flags=0, lps_sparsification_flag=0, lps_pruning_flag=0,
                 lps_unification_flag=0)  # fmt: skip
    builder.tensor("c", (4, 4), Levels("dense", qp_value=-64))
    yield Case("qp-in-force", builder.data, "quantization parameters of MPS, then LPS, then MPS again", ("lps",))

    for density in range(8):
        builder = StreamBuilder(rng, mps={"mps_qp_density": density})
        half = 1 << (5 + density)
        for name, value in (("low", -half), ("high", half - 1), ("odd", -half // 3), ("zero", 0)):
            if -126 <= value >> density <= 96:
                builder.tensor(name, (30,), Levels("dense", qp_value=value))
        yield Case(
            f"qp-density-{density}", builder.data, f"qp_value at its ends with qp_density {density}", ("tensors",)
        )

    builder = StreamBuilder(rng)
    for k, (low, high) in enumerate(((-128, 127), (-32768, 32767))):
        builder.tensor(f"i{k}", (2,), lambda _n: Levels("zero"), nnr_compressed_data_unit_payload_type=_INT,
                       nnr_decompressed_data_format_present_flag=1, nnr_decompressed_data_format=(5, 6)[k])  # fmt: skip
        del low, high
    for number, form in enumerate((0, 2, 3, 4, 5, 6, 7)):
        builder.tensor(f"f{number}", (5,), Levels("small"), nnr_compressed_data_unit_payload_type=_INT,
                       nnr_decompressed_data_format_present_flag=1, nnr_decompressed_data_format=form)  # fmt: skip
    builder.tensor("i64", (31,), Levels("limits"), nnr_compressed_data_unit_payload_type=_INT,
                   nnr_decompressed_data_format_present_flag=1, nnr_decompressed_data_format=7)  # fmt: skip
    yield Case("formats-integer", builder.data, "every integer nnr_decompressed_data_format", ("tensors",))
    builder = StreamBuilder(rng, mps={"mps_qp_density": 3})
    for form in (1, 8, 9):
        for value in (-200, -130, 0, 90):
            builder.tensor(f"q{form}.{value}", (40,), Levels("dense", qp_value=value),
                           nnr_decompressed_data_format_present_flag=1, nnr_decompressed_data_format=form)  # fmt: skip
        builder.tensor(f"r{form}", (64,), nnr_compressed_data_unit_payload_type=_RAW,
                       nnr_decompressed_data_format_present_flag=1, nnr_decompressed_data_format=form,
                       cabac_unary_length_flag=0)  # fmt: skip
    yield Case(
        "formats-float", builder.data, "float32, float16 with all roundings and NaN payloads, float64", ("tensors",)
    )

    builder = StreamBuilder(random.Random("nan"))
    for form in (1, 8, 9):
        builder.append(raw_unit(builder, f"n{form}", NANS, nnr_decompressed_data_format_present_flag=1,
                                nnr_decompressed_data_format=form))  # fmt: skip
    yield Case("formats-nan", builder.data, "quiet and signalling NaNs of both signs, with payloads that float16 has "
               "and has not", ("tensors",))  # fmt: skip

    builder = StreamBuilder(rng)
    book: dict[str, Any] = {
        "codebook_present_flag": 1,
        "codebook_egk": 0,
        "codebook_size": 1,
        "codebook_centre_offset": 0,
    }
    for k, value in enumerate((2**31 - 1, -(2**31), 0)):
        builder.tensor(f"c{k}", (3,), codebook_zero_value=value, **book)
    book |= {"codebook_size": 2, "codebook_egk": 15, "codebook_centre_offset": -1, "codebook_zero_value": -(2**31)}
    builder.tensor("gap", (9,), codebook_delta_right=2**32 - 2, **book)
    yield Case(
        "codebook-ends", builder.data, "codebooks with the ends of int32, one with the largest gap", ("tensors",)
    )

    builder = StreamBuilder(rng, mps=_PARENT)
    ends: tuple[dict[str, Any], ...] = (
        {"parent_device_id": MAX},
        {"parent_device_id": MIN, "parameter_id": MAX},
        {"device_id": MAX, "node_id_present_flag": 1, "parameter_id": MAX, "put_node_depth": MAX},
    )
    for k, fixed in enumerate(ends):
        builder.tensor(f"p{k}", (2, 3), parent_node_id_present_flag=1, parent_node_id_type=0,
                       temporal_context_modeling_flag=0, **fixed)  # fmt: skip
    for kind, name in ((1, "sha256"), (2, "sha512")):
        for end in (MIN, MAX):
            node: dict[str, Any] = {"parent_node_id_type": kind, f"parent_node_payload_{name}": end}
            builder.tensor(f"{name}.{len(builder.data)}", (2, 3), parent_node_id_present_flag=1,
                           temporal_context_modeling_flag=0, **node)  # fmt: skip
    yield Case("node-ids", builder.data, "node and parent identifiers at their ends", ("headers",))

    builder = StreamBuilder(rng)
    for k, (rank, rows) in enumerate(((2**48, 0), (0, 2**48))):
        builder.tensor(f"f{k}_G", (0, 4), compressed_parameter_types=1, decomposition_rank=rank, g_number_of_rows=rows)
    yield Case(
        "factors-empty",
        builder.data,
        "factors of rank 2^48 without rows, and the other way round",
        ("tensors", "empty"),
    )

    builder = StreamBuilder(rng)
    builder.tensor("n" * 65535, (2,))
    builder.tensor("", (2,))
    yield Case("names-ends", builder.data, "a name of 65,535 bytes and one of none", ("strings",))
    builder = StreamBuilder(rng)
    builder.tensor(
        ["n" * 65535, ""], (2, 2), nnr_compressed_data_unit_payload_type=_BLOCK, compressed_parameter_types=8
    )
    yield Case("names-ends-block", builder.data, "the same in a BLOCK", ("strings", "blocks"))
    builder = StreamBuilder(rng, mps={"mps_topology_indexed_reference_flag": 1})
    builder.unit(
        UnitType.NNR_TPL, topology_storage_format=6, count_topology_elements_minus2=0, topology_elem_id_list=["a", "b"]
    )
    builder.tensor(["", ""], (2, 2), nnr_compressed_data_unit_payload_type=_BLOCK, compressed_parameter_types=8,
                   topology_elem_id_index_list=[0, 1])  # fmt: skip
    yield Case("names-by-index", builder.data, "a BLOCK with names by index", ("blocks",))

    builder = StreamBuilder(rng)
    for k, shape in enumerate(((0,), (0, 5), (5, 0), (3, 0, 2), (0, 0), (2**48, 0), (0, 2**48))):
        builder.tensor(f"e{k}", shape, scan_order=0)
        builder.tensor(f"r{k}", shape, nnr_compressed_data_unit_payload_type=_RAW, cabac_unary_length_flag=0)
    yield Case(
        "empty-tensors", builder.data, "tensors without elements, one with 2^48 rows of width 0", ("tensors", "empty")
    )

    builder = StreamBuilder(rng)
    coded = builder.tensor("split", (9, 11), Levels("dense"), append=False)
    for counter, (start, stop) in ((2, (0, 1)), (1, (1, 1)), (0, (1, None))):
        piece = coded.payload[start:stop]
        builder.append(_with_counter(builder, coded, counter, piece))
    builder.tensor("next", (3,))
    yield Case("split-data", builder.data, "data split over three units, one of them without a byte", ("split",))

    builder = StreamBuilder(rng)
    coded = builder.tensor("split", (300,), Levels("large"), append=False)
    size = -(-len(coded.payload) // 256)
    for counter in range(255, -1, -1):
        at = (255 - counter) * size
        builder.append(_with_counter(builder, coded, counter, coded.payload[at : at + size]))
    yield Case("split-data-most", builder.data, "data split over 256 units, the most that there can be", ("split",))


def _with_counter(builder: StreamBuilder, coded: Any, counter: int, piece: bytes) -> bytes:
    from nnbits.codec.syntax import build_unit

    return build_unit(coded.body, parameters=builder.parameters, payload=piece, partial_data_counter=counter)


def _blocks(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """BLOCK units with each set of parameter types, and factors in units of their own."""
    for types in range(16):
        for book in (0, 1):
            builder = StreamBuilder(rng, profile=1)
            scan, dq = rng.choice((0, 1)), 0 if book else rng.getrandbits(1)
            count = 1 + bool(types & 1) + bool(types & 2) + 4 * bool(types & 4) + bool(types & 8)
            if count < 2:
                continue
            names = [f"n{k}{('_G', '_H')[k] if types & 1 and k < 2 else ''}" for k in range(count)]
            size = rng.choice((2, 5))
            fixed: dict[str, Any] = {"codebook_present_flag": book, "codebook_egk": 0, "codebook_size": size,
                                     "codebook_zero_value": 3, "codebook_centre_offset": 0, "codebook_delta_left": 1,
                                     "codebook_delta_right": 2}  # fmt: skip
            builder.tensor(names, (20, 12), Levels("small", 0.3), nnr_compressed_data_unit_payload_type=_BLOCK,
                           compressed_parameter_types=types, decomposition_rank=18, g_number_of_rows=20,
                           scan_order=scan,
                           dq_flag=dq, **fixed)  # fmt: skip
            yield f"BLOCK with parameter types {types}" + (" and codebooks" if book else ""), builder.data
    builder = StreamBuilder(rng)
    for name in ("w_G", "w_H"):
        builder.tensor(name, (20, 12), Levels("small"), compressed_parameter_types=1, decomposition_rank=9,
                       g_number_of_rows=20, scan_order=1)  # fmt: skip
    yield "factors in units of their own", builder.data


def cases(seed: int) -> Iterator[Case]:
    """See the module."""
    rng = random.Random(f"tensors {seed}")
    for feature, prefix, maker in (
        ("headers", "ndu", _headers),
        ("tensors", "levels", _systematic),
        ("tensors", "mixed", _entropy),
        ("tensors", "runs", _runs),
        ("blocks", "block", _blocks),
    ):
        for number, (text, data) in enumerate(maker(rng)):
            yield Case(f"{prefix}-{number:03}", data, text, (feature,), pick=prefix != "block",
                       provenance=f"generator, module tensors, seed {seed}")  # fmt: skip
    yield from _long_scans(rng)
    yield from _special(rng)
