"""Pruning containers of the standard profile: with the source description that makes use of them, and without."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from nnbits.codec.api import plan_exact, plan_quantized
from nnbits.codec.encode import encode_model
from nnbits.codec.plan import EncodePlan
from nnbits.codec.pruning import Pruned, pruning_units
from nnbits.codec.syntax import PruningTopologyContainer, Topology, TopologyStorageFormat, UnitType, build_unit
from nnbits.codec.types import Model, from_numpy
from nnbits.conformance.cases.building import Case, Levels, StreamBuilder, raw_unit

__all__ = ["cases"]

#: Of streams whose tensors are as long as the source description says.
_FEATURES: Final = ("pruning",)
_FOREIGN: Final = ("topology",)


def _arrays() -> dict[str, Any]:
    generator = np.random.default_rng(23)

    def weights(*shape: int) -> Any:
        return generator.normal(0, 0.05, shape).astype(np.float32)

    rows, scattered, both, bias = weights(20, 3, 3), weights(25, 30), weights(30, 20), weights(64)
    rows[generator.permutation(20)[:11]] = 0
    scattered[generator.random(scattered.shape) < 0.9] = 0
    both[:10] = 0
    both[12, 3] = 0
    bias[::2] = 0
    return {
        "rows": rows,
        "scattered": scattered,
        "both": both,
        "dense": weights(4, 5),
        "bias": bias,
        "nothing": np.zeros((6, 7), np.float32),
        'n"\\é': np.where(generator.random((20, 20)) < 0.8, 0, weights(20, 20)).astype(np.float32),
    }


def _encoded(arrays: Mapping[str, Any], plan: EncodePlan) -> bytes:
    chunks: list[bytes] = []
    model = Model([from_numpy(name, array) for name, array in arrays.items()])
    encode_model(model, replace(plan, profile="standard", pruning_container=True), lambda d: chunks.append(bytes(d)),
                 threads=1)  # fmt: skip
    return b"".join(chunks)


def _model(arrays: Mapping[str, Any]) -> Model:
    return Model([from_numpy(name, array) for name, array in arrays.items()])


def _written() -> Iterator[Case]:
    """Streams of the encoder."""
    arrays = _arrays()
    data = _encoded(arrays, plan_exact(_model(arrays), profile="standard"))
    yield Case("pruning-exact", data, "pruned neurons and zeroed weights, raw values", _FEATURES)
    for dependent in (False, True):
        plan = plan_quantized(_model(arrays), qp=-20, dependent=dependent, profile="standard")
        yield Case(f"pruning-quantized-{int(dependent)}", _encoded(arrays, plan), "pruned neurons, quantized values, "
                   f"dq_flag {int(dependent)}", _FEATURES)  # fmt: skip
    counts = np.zeros((9, 5), np.int32)
    counts[4] = 7
    half = np.where(np.arange(400).reshape(20, 20) % 3, 0, 1.5).astype(np.float16)
    wide = {"counts": counts, "half": half, "double": half.astype(np.float64)}
    data = _encoded(wide, plan_exact(_model(wide), profile="standard"))
    yield Case("pruning-types", data, "pruned tensors of other element types", ("source-description", "pruning"))
    many = {f"t{k}": np.eye(9, dtype=np.float32) for k in range(300)}
    data = _encoded(many, plan_exact(_model(many), profile="standard"))
    yield Case("pruning-many", data, "300 pruned tensors in two containers", _FEATURES)


#: Four rows of which one is gone, six weights of which three are.
_ITEMS: Final = {
    "r": Pruned((4, 2), np.array([True, False, True, True]), True),
    "w": Pruned((2, 3), np.array([True, False, False, False, True, True]), False),
}
_SHAPES: Final = {name: list(item.shape) for name, item in _ITEMS.items()}


def _containers() -> list[PruningTopologyContainer]:
    """Dictionary and mask of rows, then those of weights."""
    made = [unit.nnr_pruning_topology_container for unit in pruning_units(_ITEMS)]
    return [container for container in made if container is not None]


def _stream(
    containers: Sequence[PruningTopologyContainer],
    *,
    description: Any = None,
    shapes: Any = None,
    rows: Sequence[int] = (3, 2),
    weights: int = 3,
    only: str = "rw",
    two: bool = False,
) -> bytes:
    """A stream of the two tensors, or of one that is two; ``description`` is the text where it is another."""
    builder = StreamBuilder(random.Random("pruning"))
    body = {"nnbits": 1, "shapes": _SHAPES if shapes is None else shapes, "pruned": True}
    text = json.dumps(body if description is None else description, separators=(",", ":"), ensure_ascii=False)
    if description != "":
        builder.unit(UnitType.NNR_TPL, topology_storage_format=0, topology_compression_format=0, topology_data=text)
    for container in containers:
        topology = Topology(TopologyStorageFormat.NNR_TPL_PRUN, nnr_pruning_topology_container=container)
        builder.append(build_unit(topology, parameters=builder.parameters))
    numbers = np.arange(1, 1 + int(np.prod(rows)), dtype=np.float32).view(np.uint32)
    if two:
        builder.tensor(["r", "x"], tuple(rows), Levels("small"), nnr_compressed_data_unit_payload_type=3,
                       compressed_parameter_types=8)  # fmt: skip
    elif "r" in only:
        fixed = {"count_tensor_dimensions": len(rows), "tensor_dimensions": list(rows)}
        builder.append(raw_unit(builder, "r", numbers, **fixed))
    if "w" in only:
        builder.append(raw_unit(builder, "w", np.arange(7, 7 + weights, dtype=np.float32).view(np.uint32)))
    return builder.data


def _crafted() -> Iterator[Case]:
    made = _containers()
    yield Case("pruning", _stream(made), "a row and three weights are gone", _FEATURES)
    yield Case("pruning-later", _stream([made[2], made[0], made[1]]), "zeroed weights before pruned neurons", _FEATURES)
    yield Case("pruning-foreign", _stream(made, description=""), "pruning containers without a source description: "
               "tensors as they are", _FOREIGN)  # fmt: skip
    yield Case("pruning-other", _stream(made, description={"other": 1}), "pruning containers beside another "
               "application's data: tensors as they are", _FOREIGN)  # fmt: skip
    plain = {"nnbits": 1, "count": 2}
    yield Case("pruning-not-said", _stream(made, description=plain), "pruning containers that the source description "
               "does not speak of: tensors as they are", _FEATURES)  # fmt: skip
    yield Case("pruning-none", _stream([], shapes={}), "tensors that could be pruned, and no container", _FEATURES)
    no = {"nnbits": 1, "pruned": False, "count": 2}
    yield Case("pruning-false", _stream(made, description=no), "containers that are said not to be for the tensors",
               _FEATURES)  # fmt: skip


def _wrong() -> Iterator[tuple[str, bytes, str, tuple[str, ...], str]]:
    """Label, stream, code, other codes, text."""
    names, mask, weights = _containers()
    yield "mask-missing", _stream([names]), "SPARSE_MAP", (), "a dictionary of neurons without a mask"
    yield "mask-alone", _stream([mask]), "UNSUPPORTED_FEATURE", (), "a mask without its dictionary"
    yield ("mask-late", _stream([names, weights]), "UNSUPPORTED_FEATURE", (), "zeroed weights where the mask of "
           "neurons should be")  # fmt: skip
    yield (
        "order-flag",
        _stream([weights, replace(names, order_flag=0), mask]),
        "UNSUPPORTED_FEATURE",
        (),
        "order_flag 0",
    )
    yield (
        "prune-flag",
        _stream([weights, names, PruningTopologyContainer(prune_flag=0)]),
        "UNSUPPORTED_FEATURE",
        (),
        "prune_flag 0",
    )
    both = replace(mask, sparse_flag=1, sparse_bit_mask=mask.bit_mask)
    yield (
        "mask-sparse",
        _stream([names, both]),
        "UNSUPPORTED_FEATURE",
        (),
        "a mask of neurons that is one of weights, too",
    )
    yield "twice", _stream([names, mask, names, mask]), "DUPLICATE_NAME", (), "neurons of a tensor pruned twice"
    same = replace(names, element_id=("r", "r"), count_dims=(2, 2), dim=((3, 2), (3, 2)))
    yield "twice-at-once", _stream([same, mask]), "DUPLICATE_NAME", (), "a tensor twice in a dictionary"
    yield ("dims-rows", _stream([replace(names, dim=((2, 2),)), mask]), "SPARSE_MAP", (),
           "a dictionary with one row less than the mask leaves")  # fmt: skip
    yield ("dims-columns", _stream([replace(names, dim=((3, 3),)), mask]), "SPARSE_MAP", (),
           "a dictionary with another number of columns")  # fmt: skip
    yield ("dims-weights", _stream([replace(weights, dim=((4,),))]), "SPARSE_MAP", (),
           "a dictionary with one weight more than the mask leaves")  # fmt: skip
    yield ("bits-rows", _stream([names, mask], shapes={**_SHAPES, "r": [5, 2]}), "SPARSE_MAP", (),
           "a mask of 4 bits for 5 rows")  # fmt: skip
    yield ("bits-weights", _stream([weights], shapes={**_SHAPES, "w": [7]}), "SPARSE_MAP", (),
           "a mask of 6 bits for 7 weights")  # fmt: skip
    more = replace(names, dim=((2, 2),))
    yield ("bits-more", _stream([more, mask], shapes={**_SHAPES, "r": [3, 2]}, rows=(2, 2)), "SPARSE_MAP", (),
           "a mask of 4 bits for 3 rows, of which it leaves what is there")  # fmt: skip
    yield "shape-none", _stream([names, mask], shapes={"w": [2, 3]}), "METADATA", (), "a shape that is not said"
    yield "shape-scalar", _stream([weights], shapes={"w": []}), "METADATA", (), "a scalar that is pruned"
    large = {**_SHAPES, "w": [2**20, 2**10]}
    yield ("memory", _stream([weights], shapes=large), "MEMORY_BUDGET", ("SPARSE_MAP",), "a tensor of 2^30 elements, "
           "of which three are left")  # fmt: skip
    yield "no-unit", _stream([names, mask], only="w"), "METADATA", (), "a pruned tensor without a data unit"
    yield "block", _stream([names, mask], two=True), "METADATA", (), "a pruned tensor in a BLOCK"
    yield ("left-rows", _stream([names, mask], rows=(2, 2)), "SHAPE_MISMATCH", (), "a data unit with one row less than "
           "its pruning leaves")  # fmt: skip
    yield ("left-shape", _stream([names, mask], rows=(2, 3)), "SHAPE_MISMATCH", (), "a data unit with columns for rows")
    yield ("left-weights", _stream([weights], weights=4), "SHAPE_MISMATCH", (), "a data unit with one weight more than "
           "its pruning leaves")  # fmt: skip


def cases(seed: int) -> Iterator[Case]:
    """The streams."""
    del seed  # nothing is random
    yield from _written()
    yield from _crafted()
    for label, data, code, also, text in _wrong():
        yield Case(f"pruning-wrong-{label}", data, f"pruning containers: {text}", _FEATURES, code=code, also=also)
    made = _containers()
    for label, flag in (("number", 1), ("text", "true")):
        body = {"nnbits": 1, "shapes": _SHAPES, "pruned": flag}
        yield Case(f"description-pruned-{label}", _stream(made, description=body), f"source description: pruned is a "
                   f"{label}", ("source-description",), code="METADATA")  # fmt: skip
