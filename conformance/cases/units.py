"""Units made from the declaration: every element at both ends of its range, every condition, list and choice."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from nnbits.codec.syntax import UnitType
from nnbits.conformance.cases.building import Case, StreamBuilder, unit_bytes
from nnbits.conformance.synthesis import MAX, MIN, Rejected, declared_codes

__all__ = ["cases"]

_TRIES: Final = 12

#: Elements whose largest value would make a stream of megabytes; a large one stands in for it.
_CAPPED: Final[Mapping[str, Any]] = {
    "count_bits": 300,
    "num_of_nnr_units_minus2": 40,
    "upm_class_bitmask": 9,
    "nnr_unit_size": None,
    "count_topology_elements_minus2": 70,
    "topology_data": "x" * 3000,
    "quantization_data": "x" * 3000,
    "codebook_size": 200,
    "dpm_count_classes": 700,
}


def _flags_of(mps: Mapping[str, Any]) -> dict[str, Any]:
    return {**mps}


_MPS_ALL: Final[Mapping[str, Any]] = {
    "mps_sparsification_flag": 1,
    "mps_pruning_flag": 1,
    "mps_unification_flag": 1,
    "mps_decomposition_performance_map_flag": 1,
    "base_model_id_present_flag": 1,
    "validation_set_performance_present_flag": 1,
    "metric_type_performance_map_valid_flag": 1,
    "mps_parent_signalling_enabled_flag": 1,
    "mps_quantization_method_flags": 3,
}
_COUNTS: Final = ("spm_count_thresholds", "ppm_count_pruning_ratios", "upm_count_thresholds", "dpm_count_thresholds")


def _names_of(kind: int) -> list[str]:
    """Elements of a unit type by their last name."""
    inside = {
        UnitType.NNR_MPS: ("topology_carriage_flag", "mps_", "base_", "metric_", "validation_", "performance_",
                           "nnr_pre"),
        UnitType.NNR_LPS: ("lps_",),
        UnitType.NNR_TPL: ("topology_storage", "topology_compression", "topology_data", "nnr_rep", "prune", "order",
                           "sparse_flag", "count_", "bit_mask", "element_id", "dim", "topology_elem_id_list"),
        UnitType.NNR_QNT: ("quantization_",),
        UnitType.NNR_AGG: ("nnr_aggregate", "entry_points", "num_of", "nnr_unit_type_list", "nnr_unit_entry",
                           "quant_bit", "ctu_"),
    }[UnitType(kind)]  # fmt: skip
    maps: tuple[str, ...] = (
        "spm_",
        "ppm_",
        "upm_",
        "dpm_",
        "sparsification_threshold",
        "non_zero",
        "pruning_ratio",
        "count_reshaped",
    )
    maps += ("reshaped", "count_super", "super", "count_block", "block", "unification_threshold", "mse", "nn_reduction")
    if kind in (UnitType.NNR_MPS, UnitType.NNR_LPS):
        inside += maps
    names = {path.rsplit(".", 1)[-1] for path, _ in declared_codes()}
    return sorted(name for name in names if name.startswith(inside))


def _extremes(kind: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each element at its smallest and largest value."""
    for name in _names_of(kind):
        for label, value in (("min", MIN), ("max", MAX)):
            capped = name in _CAPPED and label == "max"
            yield f"{name}-{label}", {name: _CAPPED[name] if capped else value}


def _mps_streams(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    for label, fixed in _extremes(UnitType.NNR_MPS):
        for variant in ({}, _MPS_ALL):
            wanted = {**variant, **dict.fromkeys(_COUNTS, 2 if variant else 1), **fixed}
            profile = 1 if variant or "min" in label else 0
            yield label, StreamBuilder(rng, profile=profile, plain=False, mps=wanted).data
    for number in range(30):
        yield f"random-{number}", StreamBuilder(rng, profile=rng.choice((0, 1, 255)), plain=False, mps={}).data
    for profile in (0, 1, 2, 255):
        yield f"profile-{profile}", StreamBuilder(rng, profile=profile, mps={}).data


def _other_streams(rng: random.Random, kind: int) -> Iterator[tuple[str, bytes]]:
    for number in range(3):
        mps = {"mps_topology_indexed_reference_flag": number & 1, "mps_unification_flag": number >> 1}
        batch: list[str] = []
        builder = StreamBuilder(rng, profile=number & 1, mps=mps)
        for label, fixed in _extremes(kind):
            if kind == UnitType.NNR_LPS:
                fixed = {
                    **{f"lps_{m}_flag": 1 for m in ("sparsification", "pruning", "unification")},
                    "lps_quantization_method_flags": 1,
                    **dict.fromkeys(_COUNTS, 2),
                    **fixed,
                }
            _add(builder, kind, fixed, rng)
            batch.append(label)
            if len(builder.data) > 4000:
                yield f"{UnitType(kind).name}-{number}-{len(batch)}", builder.data
                builder = StreamBuilder(rng, profile=number & 1, mps=mps)
        for _ in range(40):
            _add(builder, kind, {}, rng)
        yield f"{UnitType(kind).name}-{number}-end", builder.data


def _add(builder: StreamBuilder, kind: int, fixed: Mapping[str, Any], rng: random.Random) -> None:
    for flavour in _flavours(kind, rng):
        try:
            if kind == UnitType.NNR_AGG:
                _aggregate(builder, {**flavour, **fixed}, rng)
            else:
                builder.unit(kind, **{**flavour, **fixed})
        except Rejected:
            continue


def _flavours(kind: int, rng: random.Random) -> list[dict[str, Any]]:
    common = {"nnr_unit_size_flag": rng.getrandbits(1), "independently_decodable_flag": rng.getrandbits(1)}
    if kind == UnitType.NNR_TPL:
        prune = {"topology_storage_format": 5, "prune_flag": 1, "sparse_flag": 1}
        return [
            {**common, **prune, "nnr_rep_type": 0, "count_bits": [rng.randrange(20), rng.randrange(20)]},
            {**common, **prune, "nnr_rep_type": 1, "count_ids": rng.randrange(4)},
            {**common, "topology_storage_format": 6},
            {**common, "topology_storage_format": rng.choice((0, 1, 7, 255)), "topology_compression_format": 0},
            # The content of compressed data is checked by decoders that know the application.
            {**common, "topology_storage_format": 0, "topology_compression_format": rng.choice((2, 255))},
        ]
    if kind == UnitType.NNR_QNT:
        return [{**common, "quantization_compression_format": c} for c in (0, 1)]
    return [common]


def _aggregate(builder: StreamBuilder, fixed: Mapping[str, Any], rng: random.Random) -> None:
    """An aggregate of unknown units; the entry points, if any, are right."""
    count = fixed.get("num_of_nnr_units_minus2", rng.choice((0, 1, 3)))
    count = (count if isinstance(count, int) else 0) + 2
    inner = [
        unit_bytes(rng.choice((9, 33, 63)), bytes(rng.randrange(3)), long_size=rng.random() < 0.3) for _ in range(count)
    ]
    wanted = {**fixed, "num_of_nnr_units_minus2": count - 2, "nnr_unit_size_flag": 0}
    wanted["entry_points_present_flag"] = rng.getrandbits(1)
    header = 2 + 1 + 4 + count * (6 if wanted["entry_points_present_flag"] else 1)
    starts = [header + sum(map(len, inner[:k])) for k in range(count)]
    wanted["nnr_unit_entry_point"] = starts
    wanted["nnr_unit_type_list"] = [data[4 if data[0] & 0x80 else 2] >> 2 for data in inner]
    builder.unit(UnitType.NNR_AGG, b"".join(inner), **wanted)


def _long(rng: random.Random) -> Iterator[Case]:
    """A few single streams with the large values that all the others leave out."""
    builder = StreamBuilder(rng)
    builder.append(unit_bytes(40, bytes(32767 - 3)))
    yield Case("unit-size-15-bits", builder.data, "nnr_unit_size 32767, the largest that takes two bytes", ("framing",))
    builder = StreamBuilder(rng)
    builder.append(unit_bytes(63, b""))
    builder.append(unit_bytes(7, b"", long_size=True))
    yield Case(
        "unit-size-smallest", builder.data, "units of 3 and 5 bytes, which have no more than a header", ("framing",)
    )
    builder = StreamBuilder(rng, mps={"base_model_id_present_flag": 1, "base_model_id": "b" * 65535})
    yield Case("string-longest", builder.data, "base_model_id of 65,535 bytes, the longest string", ("strings",))
    builder = StreamBuilder(rng)
    builder.unit(UnitType.NNR_TPL, topology_storage_format=6, count_topology_elements_minus2=65534,
                 topology_elem_id_list="")  # fmt: skip
    yield Case("names-most", builder.data, "a reference list of 65,536 empty names", ("topology", "large"))
    mps = {"mps_unification_flag": 1, "upm_count_thresholds": 2, "count_reshaped_tensor_dimension": 2,
           "count_super_block_dimension": 2, "count_block_dimension": 2, "upm_class_bitmask": 1}  # fmt: skip
    yield Case("dimensions-one", StreamBuilder(rng, mps=mps).data, "lists of one entry in a performance map", ("maps",))
    mps = {"mps_unification_flag": 1, "upm_count_thresholds": 2, "count_reshaped_tensor_dimension": 256}
    yield Case("dimensions-most", StreamBuilder(rng, mps=mps).data, "255 dimensions in a performance map", ("maps",))


def cases(seed: int) -> Iterator[Case]:
    """See the module."""
    rng = random.Random(f"units {seed}")
    makers: list[tuple[str, Callable[[], Iterator[tuple[str, bytes]]], str]] = [
        ("mps", lambda: _mps_streams(rng), "model parameter set"),
        ("lps", lambda: _other_streams(rng, UnitType.NNR_LPS), "layer parameter set"),
        ("topology", lambda: _other_streams(rng, UnitType.NNR_TPL), "topology unit"),
        ("quantization", lambda: _other_streams(rng, UnitType.NNR_QNT), "quantization unit"),
        ("aggregate", lambda: _other_streams(rng, UnitType.NNR_AGG), "aggregate unit"),
    ]
    for feature, make, text in makers:
        number = 0
        iterator = make()
        while True:
            try:
                label, data = next(iterator)
            except StopIteration:
                break
            number += 1
            yield Case(
                f"{feature}-{number:03}", data, f"{text} with elements chosen by the declaration: {label}", (feature,),
                pick=True, provenance=f"generator, module units, seed {seed}",
            )  # fmt: skip
    yield from _long(rng)
    yield from _performance(rng)


def _performance(rng: random.Random) -> Iterator[Case]:
    """The two flags of the performance of a model, in each combination and profile."""
    for profile in (0, 1):
        for number in range(4):
            mps = {"validation_set_performance_present_flag": number & 1,
                   "metric_type_performance_map_valid_flag": number >> 1, "performance_metric_type": "m",
                   "mps_quantization_parameter": 5}  # fmt: skip
            builder = StreamBuilder(rng, profile=profile, mps=mps)
            builder.tensor("t", (2, 3))
            text = (
                f"validation_set_performance_present_flag {number & 1}, the other flag {number >> 1}, profile {profile}"
            )
            yield Case(f"performance-{profile}-{number}", builder.data, text, ("mps",))
