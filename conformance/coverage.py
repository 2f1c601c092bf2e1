"""What streams exercise, measured while the Python reference reads them.

Items of the declaration: the values of each element (smallest, largest, between), both ways of each condition, no, one
and many repetitions of each list,
each case of a choice. Items of the entropy layer: each context variable with both bins,
each cell of the range table, each step of the probability estimates, each initial set, the transitions of the trellis,
skipped rows from each state, and the lengths of bypass bins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, Final
from unittest.mock import patch

from construct import Switch

from nnbits.codec.entropy import reference
from nnbits.codec.entropy.scan import GTX, PAR_OFFSET, SGN, SGN_T, SIG_H, SIG_T
from nnbits.codec.entropy.tables import INITIAL_SETS, NEXT, RLPS, STEPS
from nnbits.codec.syntax.codes import Code, Hidden, _Enumerated, _Rest, _String
from nnbits.codec.syntax.expr import evaluate, text
from nnbits.codec.syntax.tables import Array, Choose, If, Loop, Table, inlined_table
from nnbits.codec.syntax.units import UNIT
from nnbits.conformance.synthesis import domain, unwrapped

__all__ = ["Item", "declared_items", "entropy_items", "greedy_cover", "observed", "summary", "unreachable"]

#: Group, place, what: e.g. ("value", "nnr_unit_header.dq_flag", "max").
Item = tuple[str, str, str]


class _Declaration:
    """Names of the rows of the declaration by identity, and every item that they have."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.items: list[Item] = []
        self._walk(UNIT.body.steps, "")

    def _walk(self, steps: Any, path: str) -> None:
        for name, row in steps:
            if name is None:
                self._group(row, path)
                continue
            inner = unwrapped(row)
            place = f"{path}.{name}" if path else name
            if isinstance(inner, Table):
                self._walk(inner.body.steps, place)
            elif isinstance(inner, Switch):
                cases: Mapping[Any, Any] = inner.cases
                for case in cases.values():
                    self._walk(case.body.steps, place)
            elif isinstance(inner, Array):
                self._add(inner, "count", f"{place}[]", ("none", "one", "many"))
                self._code(unwrapped(inner.subcon), place)
            elif isinstance(inner, Code) and not isinstance(inner, Hidden):
                self._code(inner, place)

    def _code(self, code: Code, place: str) -> None:
        if isinstance(code, _Enumerated):
            self._add(code, "value", place, tuple(member.name for member in code.members))
        else:
            binary = code.descriptor == "u(1)"
            self._add(code, "value", place, ("min", "max") if binary else ("min", "max", "between"))

    def _group(self, row: Any, path: str) -> None:
        if isinstance(row, If):
            if not isinstance(row.condition, int):
                self._add(row, "branch", f"{path}: {text(row.condition)} @{len(self.items)}", ("taken", "not taken"))
            if not isinstance(row.condition, int) or row.condition:
                self._walk(row.then.steps, path)
            if not isinstance(row.condition, int) or not row.condition:
                self._walk(row.otherwise.steps, path)
        elif isinstance(row, Choose):
            self._add(row, "case", f"{path}: {text(row.key)}", (*(text(k) for k in row.cases), "other"))
            for table in row.cases.values():
                self._walk(table.body.steps, path)
        elif isinstance(row, Loop):
            self._add(row, "count", f"{path}.{row._names[0]}...", ("none", "one", "many"))
            self._walk(row.steps, path)
        elif (inlined := inlined_table(row)) is not None:
            self._walk(inlined.body.steps, path)

    def _add(self, row: Any, group: str, place: str, values: Sequence[str]) -> None:
        # integer_codebook() stands twice; the place of the first counts.
        if id(row) in self.names:
            return
        self.names[id(row)] = place
        self.items += [(group, place, value) for value in values]


_DECLARATION: Final = _Declaration()


def declared_items() -> list[Item]:
    """Every item of the declaration."""
    return list(_DECLARATION.items)


#: Greater flags are numbered 0..U-1; U is 256 at most.
_MAX_UNARY: Final = 256
_ENTROPY: Final[Mapping[str, int]] = {"sig": 24, "sig temporal": 16, "sig history": 8, "sign": 3, "sign temporal": 2}


def entropy_items() -> list[Item]:
    """Every item of the entropy layer."""
    items: list[Item] = []
    names = [f"{group} {k}" for group, count in _ENTROPY.items() for k in range(count)]
    names += [
        f"{group} {j} {sign}" for group in ("greater", "greater temporal") for j in range(_MAX_UNARY) for sign in "01"
    ]
    names += [f"remainder {r}" for r in range(31)] + ["set of a context", "row skip"]
    items += [("bin", name, bin_) for name in names for bin_ in "01"]
    items += [("range", f"row {row}", f"q {q}") for row in range(len(RLPS)) for q in range(32)]
    rates = {(entry.ra, entry.rb) for entry in INITIAL_SETS}
    items += [("step a", f"rate {ra}", str(at)) for ra in sorted({r[0] for r in rates}) for at in range(len(STEPS))]
    items += [("step b", f"rate {rb}", str(at)) for rb in sorted({r[1] for r in rates}) for at in range(len(STEPS))]
    items += [("initial set", "", str(number)) for number in range(len(INITIAL_SETS))]
    items += [("transition", f"state {s}", ["even", "odd"][odd]) for s in range(8) for odd in (0, 1)]
    items += [("skipped row", f"state {s}", f"width mod 4 = {w}") for s in range(8) for w in range(4)]
    items += [("bypass", "", str(n)) for n in range(1, 32)]
    return items


def _role(index: int, unary: int) -> str:
    if index < SIG_T:
        return f"sig {index}"
    if index < SIG_H:
        return f"sig temporal {index - SIG_T}"
    if index < SGN:
        return f"sig history {index - SIG_H}"
    if index < SGN_T:
        return f"sign {index - SGN}"
    if index < GTX:
        return f"sign temporal {index - SGN_T}"
    if index < GTX + 2 * unary:
        return f"greater {(index - GTX) >> 1} {(index - GTX) & 1}"
    if index < GTX + 4 * unary:
        at = index - GTX - 2 * unary
        return f"greater temporal {at >> 1} {at & 1}"
    if index < PAR_OFFSET + 4 * unary:
        return f"remainder {index - GTX - 4 * unary}"
    return "set of a context" if index < PAR_OFFSET + 2 + 4 * unary else "row skip"


class _Next(tuple[Any, ...]):
    """The table NEXT, which tells what is looked up."""

    seen: set[Item]

    def __getitem__(self, state: Any) -> Any:
        return _Pair(super().__getitem__(state), state, self.seen)


class _Pair:
    def __init__(self, pair: tuple[int, int], state: int, seen: set[Item]) -> None:
        self.pair, self.state, self.seen = pair, state, seen

    def __getitem__(self, odd: int) -> int:
        self.seen.add(("transition", f"state {self.state}", "odd" if odd else "even"))
        return self.pair[odd]


def _bucket(code: Any, value: Any, context: Any) -> str:
    if isinstance(code, _Enumerated):
        return str(code.members(value).name)
    if isinstance(code, _String | _Rest):
        size = len(value.encode() if isinstance(value, str) else value)
        return "min" if size == 0 else "max" if size == code.limit else "between"
    low, high = domain(code, context)
    if isinstance(value, float):  # the bit pattern counts
        from nnbits.codec.syntax.float32 import float32_bits

        bits = float32_bits(value)
        return "min" if bits == 0 else "max" if bits == 0xFFFFFFFF else "between"
    if code.descriptor == "u(1)":
        return "max" if value else "min"
    return "min" if value == low else "max" if value == high else "between"


@contextmanager
def observed() -> Iterator[set[Item]]:
    """The set of items that are exercised while the block runs. Not thread-safe."""
    seen: set[Item] = set()
    names = _DECLARATION.names
    with ExitStack() as stack:

        def wrap(owner: Any, name: str, make: Any) -> None:
            stack.enter_context(patch.object(owner, name, make(getattr(owner, name))))

        def code_parse(original: Any) -> Any:
            def parse(self: Any, stream: Any, context: Any, path: str) -> Any:
                value = original(self, stream, context, path)
                if id(self) in names:
                    seen.add(("value", names[id(self)], _bucket(self, value, context)))
                return value

            return parse

        for kind in _subclasses(Code):
            if "_parse" in vars(kind) and not issubclass(kind, Hidden):
                wrap(kind, "_parse", code_parse)
        _watch_groups(wrap, seen)
        _watch_entropy(stack, wrap, seen)
        yield seen


def _subclasses(kind: Any) -> Iterator[Any]:
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)


def _watch_groups(wrap: Any, seen: set[Item]) -> None:
    names = _DECLARATION.names

    def if_parse(original: Any) -> Any:
        def parse_into(self: Any, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
            if id(self) in names:
                taken = bool(evaluate(self.condition, context))
                seen.add(("branch", names[id(self)], "taken" if taken else "not taken"))
            original(self, obj, stream, context, path, index)

        return parse_into

    def choose_parse(original: Any) -> Any:
        def parse_into(self: Any, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
            key = evaluate(self.key, context)
            case = next((text(k) for k in self.cases if k == key), "other")
            seen.add(("case", names[id(self)], case))
            original(self, obj, stream, context, path, index)

        return parse_into

    def counted(self: Any, context: Any) -> None:
        count = max(evaluate(self.count, context), 0)
        seen.add(("count", names[id(self)], ("none", "one")[count] if count < 2 else "many"))

    def loop_parse(original: Any) -> Any:
        def parse_into(self: Any, obj: Any, stream: Any, context: Any, path: str, index: str) -> None:
            original(self, obj, stream, context, path, index)
            counted(self, context)

        return parse_into

    def array_parse(original: Any) -> Any:
        def parse(self: Any, stream: Any, context: Any, path: str) -> Any:
            value = original(self, stream, context, path)
            if id(self) in names:
                counted(self, context)
            return value

        return parse

    wrap(If, "parse_into", if_parse)
    wrap(Choose, "parse_into", choose_parse)
    wrap(Loop, "parse_into", loop_parse)
    wrap(Array, "_parse", array_parse)


def _watch_entropy(stack: ExitStack, wrap: Any, seen: set[Item]) -> None:
    state = {"index": 0, "unary": 1}

    class Seen(reference.Context):
        __slots__ = ("role",)

        def __init__(self) -> None:
            self.role = _role(state["index"], state["unary"])
            state["index"] += 1
            super().__init__()

        def assign(self, number: int) -> None:
            seen.add(("initial set", "", str(number)))
            super().assign(number)

        def update(self, bin_: int) -> None:
            s = 1 if bin_ else -1
            seen.add(("step a", f"rate {self.ra}", str(16 + ((s * self.a) >> 3))))
            seen.add(("step b", f"rate {self.rb}", str(16 + ((s * self.b) >> 7))))
            super().update(bin_)

    def decode_tensor(original: Any) -> Any:
        def run(engine: Any, coding: Any, base: Any, history: Any) -> Any:
            state["index"], state["unary"] = 0, coding.unary_length
            return original(engine, coding, base, history)

        return run

    def context_bin(original: Any) -> Any:
        def run(self: Any, c: Any) -> int:
            seen.add(("range", f"row {(self.range >> 5) & 7}", f"q {abs(c.p >> 7)}"))
            bin_: int = original(self, c)
            seen.add(("bin", c.role, str(bin_)))
            return bin_

        return run

    def bypass(original: Any) -> Any:
        def run(self: Any, count: int) -> int:
            if count:
                seen.add(("bypass", "", str(count)))
            value: int = original(self, count)
            return value

        return run

    def skip_row(original: Any) -> Any:
        def run(before: int, width: int) -> int:
            seen.add(("skipped row", f"state {before}", f"width mod 4 = {width % 4}"))
            after: int = original(before, width)
            return after

        return run

    table = _Next(NEXT)
    table.seen = seen
    stack.enter_context(patch.object(reference, "Context", Seen))
    stack.enter_context(patch.object(reference, "NEXT", table))
    wrap(reference, "_decode_tensor", decode_tensor)
    wrap(reference, "_skip_row", skip_row)
    wrap(reference.ArithmeticDecoder, "context_bin", context_bin)
    wrap(reference.ArithmeticDecoder, "bypass", bypass)


def greedy_cover(seen: Mapping[str, set[Item]], cost: Mapping[str, int], needed: Iterable[Item]) -> list[str]:
    """Few and small streams that exercise all of ``needed`` that any stream does.

    Args:
        seen: items by stream.
        cost: bytes by stream.
        needed: items.
    """
    left = set(needed) & set().union(*seen.values())
    chosen: list[str] = []
    while left:
        best = max(seen, key=lambda name: (len(seen[name] & left) / (64 + cost[name]), name))
        chosen.append(best)
        left -= seen[best]
    return chosen


def summary(seen: set[Item]) -> list[tuple[str, int, int, int]]:
    """For each group: its name, items seen, items that no stream can show, items in all."""
    every = declared_items() + entropy_items()
    total = Counter(item[0] for item in every)
    covered = Counter(item[0] for item in every if item in seen)
    impossible = Counter(item[0] for item in every if item not in seen and unreachable(item))
    return [(group, covered[group], impossible[group], count) for group, count in total.items()]


_SIZE: Final = "the stream would have megabytes"
_TRUE: Final = "the value must be right, and no payload of a reasonable size has this one"
_ATLEAST2: Final = "a list has at least two entries"
_NUMPY: Final = "NumPy, in which the reference delivers, has 64 dimensions at most"
_DIGEST: Final = "it follows from all the bytes that it covers"
_CONSTANT: Final = "any other value is refused"
_UNKNOWN: Final = "unknown kinds are refused"
_NO_LEVEL: Final = "the flag is never coded where it is known"
_DRIFT: Final = "no start value and no run of bins leads there at this rate"

#: Elements of the extended profile that cannot be chosen, and those whose largest value stands for very many bytes.
_CHECKSUMS: Final = (
    *("head_crc32c", "metadata_crc32c", "au_crc32c", "index_crc32c", "end_crc32c", "attachment_crc32c"),
    *("base_digest", "model_digest"),
)
_NUMBERS: Final = (
    *("metadata_size", "au_bytes", "au_number", "ndu_count", "piece_count_minus1", "first_element", "element_count"),
    *("map_bytes", "value_count", "value_bytes", "index_offset", "index_bytes", "index_size", "previous_end"),
    *("au_count", "attachment_size", "part_offset"),
)

#: Items that no stream of a reasonable size can show, and why: group, end of the place, value (empty: all).
_UNREACHABLE: Final[tuple[tuple[str, str, str, str], ...]] = (
    ("value", "nnr_unit_size", "min", "a unit has three bytes at least"),
    ("value", "nnr_unit_header.count_topology_elements_minus2", "max", "a BLOCK has at most eight names"),
    ("count", "topology_elem_id_index_list[]", "none", _ATLEAST2),
    ("count", "topology_elem_id_index_list[]", "one", _ATLEAST2),
    ("count", "topology_elem_id_list[]", "none", _ATLEAST2),
    ("count", "topology_elem_id_list[]", "one", _ATLEAST2),
    ("count", "nnr_unit_type_list...", "none", _ATLEAST2),
    ("count", "nnr_unit_type_list...", "one", _ATLEAST2),
    ("count", "quant_bitdepth...", "none", _ATLEAST2),
    ("count", "quant_bitdepth...", "one", _ATLEAST2),
    ("value", "topology_elem_id_index_list", "max", "the reference list has at most 65,536 names"),
    ("value", "topology_elem_id_index", "max", "the reference list has at most 65,536 names"),
    ("value", "nnr_unit_entry_point", "min", "a unit inside an aggregate never begins at its first byte"),
    ("value", "nnr_unit_entry_point", "max", "2^34 - 1 is larger than any unit"),
    ("value", "nnr_unit_type_list", "min", "a start unit must not stand in an aggregate"),
    ("value", "codebook_centre_offset", "min", "it is bounded by the size of the codebook"),
    ("value", "codebook_centre_offset", "max", "it is bounded by the size of the codebook"),
    ("value", "codebook_delta_left", "max", "the entries must fit in int32"),
    ("value", "codebook_delta_right", "max", "the entries must fit in int32"),
    ("value", "scan_order", "max", "values above 4 are not defined"),
    ("value", "count_tensor_dimensions", "max", _NUMPY),
    ("value", "bit_offset_delta1", "max", _TRUE),
    ("value", "bit_offset_delta2", "min", _TRUE),
    ("value", "bit_offset_delta2", "max", _TRUE),
    ("value", "num_of_nnr_units_minus2", "max", _SIZE),
    ("value", "upm_class_bitmask", "max", _SIZE),
    ("value", "dpm_count_classes", "max", _SIZE),
    ("value", "count_bits", "max", _SIZE),
    ("value", "topology_data", "max", _SIZE),
    ("value", "quantization_data", "max", _SIZE),
    *(("value", f"nnr_unit_payload.{name}", end, _DIGEST) for name in _CHECKSUMS for end in ("min", "max")),
    *(("value", f"nnr_unit_payload.{name}", "max", _SIZE) for name in _NUMBERS),
    *(
        ("value", f"nnr_unit_payload.{name}", "min", "there is never nothing")
        for name in ("metadata_size", "au_bytes", "index_offset", "index_bytes", "index_size")
    ),
    ("value", "nnr_unit_payload.element_count", "min", "a part has at least one element"),
    ("count", "nnr_unit_payload.name_shared...", "none", "an access unit has one piece at least"),
    ("value", "nnr_unit_payload.count_dimensions", "max", _NUMPY),
    ("value", "nnr_unit_payload.name", "max", "bytes of 255 are not UTF-8"),
    ("value", "nnr_unit_payload.map_kind", "max", "no such kind is defined"),
    ("value", "nnr_unit_payload.au_relation", "XOR", "such an access unit has no tensors without its base"),
    ("value", "nnr_unit_payload.ext_signature", "", _CONSTANT),
    ("value", "nnr_unit_payload.ext_version", "", _CONSTANT),
    ("value", "nnr_unit_payload.reserved_zero", "", _CONSTANT),
    ("value", "nnr_unit_payload.ext_kind", "min", _UNKNOWN),
    ("value", "nnr_unit_payload.ext_kind", "max", _UNKNOWN),
    ("case", "nnr_unit_payload: ext_kind", "other", _UNKNOWN),
    (
        "case",
        "nnr_unit_payload: ext_kind",
        "ACCESS_UNIT_DATA",
        "it is read with its access unit, not as a unit by itself",
    ),
    ("bin", "greater temporal 0 1", "", "abs(base) < 0 never holds"),
    ("bin", "greater temporal 1 1", "", "abs(base) < 1 never holds where there is a base"),
    ("bypass", "", "31", "it would take a remainder of more than 2^31"),
    ("bin", "remainder 30", "1", "it would take a remainder of more than 2^31"),
)


def _steps_from(start: int, rate: int, shift: int) -> set[int]:
    """Entries of the table of steps that any run of bins looks up, from a start value of an estimate."""
    seen, left, looked_up = {start}, [start], set()
    while left:
        value = left.pop()
        for s in (-1, 1):
            at = 16 + ((s * value) >> shift)
            looked_up.add(at)
            after = value + s * (STEPS[at] >> rate)
            if after not in seen:
                seen.add(after)
                left.append(after)
    return looked_up


@cache
def _reachable_steps() -> frozenset[Item]:
    items: set[Item] = set()
    for entry in INITIAL_SETS:
        items |= {("step a", f"rate {entry.ra}", str(at)) for at in _steps_from(entry.a, entry.ra, 3)}
        items |= {("step b", f"rate {entry.rb}", str(at)) for at in _steps_from(entry.b, entry.rb, 7)}
    return frozenset(items)


def unreachable(item: Item) -> str | None:
    """Why no stream exercises an item; None if one should."""
    if item[0] in ("step a", "step b") and item not in _reachable_steps():
        return _DRIFT
    for group, end, value, why in _UNREACHABLE:
        if item[0] == group and item[1].endswith(end) and value in ("", item[2]):
            return why
    return None
