"""The source description: what a standard stream has no element for, as JSON in ``topology_data``.

NNC leaves the content of ``topology_data`` of storage format NNR_TPL_UNREC to the application; other decoders
ignore it. nnbits keeps there the metadata of the model file, and for each tensor whose element type or shape
the data unit cannot say (bfloat16, bool, unsigned integers, scalars), that element type or shape. The number
of tensors is there too, because a standard stream that is cut between two units looks complete; and where batch
norms were folded, what they were called.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast, get_args

from .errors import NnbitsError, ReasonCode
from .limits import MAX_DIMENSIONS
from .types import DTYPES

__all__ = ["FoldedNorm", "FoldingRule", "SourceDescription", "UpdateMode", "folding_rules"]

#: Whether an update carries differences or complete tensors.
UpdateMode = Literal["difference", "full"]

_KEY: Final = "nnbits"
_VERSION: Final = 1


@dataclass(frozen=True)
class FoldedNorm:
    """A batch norm that was folded into scaling vector and bias of a block (nnc-encoder-notes section 8).

    Attributes:
        batch_norm: names of beta, gamma, mean and variance.
        epsilon: what the layer adds to the variance.
        own_bias: the block's bias is the model's; without, beta takes the folded bias.
        own_scaling: the block's scaling vector is the model's; without, the weight takes it.
    """

    batch_norm: tuple[str, str, str, str]
    epsilon: float
    own_bias: bool = False
    own_scaling: bool = False


@dataclass(frozen=True)
class FoldingRule:
    """Which norm was folded, for one weight or for all that are named alike.

    Attributes:
        weight: name of the weight, or with ``suffix`` how it ends: whole components, as in ``conv1.weight``.
        suffix: ``weight`` and the names of ``norm`` are what follows a common prefix.
        norm: None where a block with this weight folds no norm.
    """

    weight: str
    norm: FoldedNorm | None
    suffix: bool = False

    def prefix_of(self, weight: str) -> str | None:
        """What comes before the suffix, None if the rule is not about ``weight``."""
        prefix = weight.removesuffix(self.weight) if self.suffix else ""
        fits = prefix + self.weight == weight and (not prefix or prefix.endswith("."))
        return prefix if fits else None

    def norm_of(self, weight: str) -> FoldedNorm | None:
        """The norm that was folded into a weight that the rule is about."""
        prefix, norm = self.prefix_of(weight), self.norm
        if norm is None or not prefix:
            return norm
        beta, gamma, mean, variance = (prefix + name for name in norm.batch_norm)
        return FoldedNorm((beta, gamma, mean, variance), norm.epsilon, norm.own_bias, norm.own_scaling)


def folding_rules(blocks: Mapping[str, FoldedNorm | None]) -> tuple[FoldingRule, ...]:
    """Few rules that say for each block with a scaling vector, by its weight, which norm it folds."""
    rules: dict[str, FoldingRule] = {}
    for weight, norm in blocks.items():
        if norm is not None:
            start = _common_components([weight, *norm.batch_norm])
            beta, gamma, mean, variance = (name[start:] for name in norm.batch_norm)
            short = FoldedNorm((beta, gamma, mean, variance), norm.epsilon, norm.own_bias, norm.own_scaling)
            rules.setdefault(weight[start:], FoldingRule(weight[start:], short, suffix=True))
    alike = tuple(rules.values())
    exact = (FoldingRule(weight, norm) for weight, norm in blocks.items() if _folded(alike, weight) != norm)
    return (*exact, *alike)


def _common_components(names: list[str]) -> int:
    """Length of the components, with their dots, that all names begin with."""
    low, high = min(names), max(names)
    alike = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return low.rfind(".", 0, alike) + 1


def _folded(rules: Iterable[FoldingRule], weight: str) -> FoldedNorm | None:
    """By the rule for this very weight, else by the one with the longest suffix."""
    fitting = [rule for rule in rules if rule.prefix_of(weight) is not None]
    best = max(fitting, key=lambda rule: (not rule.suffix, len(rule.weight)), default=None)
    return best.norm_of(weight) if best else None


@dataclass(frozen=True)
class SourceDescription:
    """What the source file said that the standard elements do not.

    Attributes:
        count: number of tensors in the stream, or None if it was not said.
        format: name of the adapter, or None.
        metadata: the file's string metadata.
        dtypes: element type by tensor name, only where it differs from what the data unit says.
        shapes: shape by tensor name, likewise.
        update: what the tensors with a parent are in an update stream, None in others.
        removed: names that the update takes out of the model.
        order: the names of the whole model after the update, if new tensors do not simply follow the old ones.
        folded: rules for the weights of blocks with a scaling vector.
        pruned: the data units hold what the pruning containers leave of the tensors; ``shapes`` has those of the whole.
    """

    count: int | None = None
    format: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    update: UpdateMode | None = None
    removed: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    folded: tuple[FoldingRule, ...] = ()
    pruned: bool = False

    def norm_of(self, weight: str) -> FoldedNorm | None:
        """The batch norm that was folded into the block of a weight, or None."""
        return _folded(self.folded, weight)

    def to_text(self) -> str:
        """Canonical JSON, or an empty string if there is nothing to say."""
        body: dict[str, Any] = {}
        if self.count is not None:
            body["count"] = self.count
        if self.format:
            body["format"] = self.format
        if self.metadata:
            body["metadata"] = dict(self.metadata)
        if self.dtypes:
            body["dtypes"] = dict(self.dtypes)
        if self.shapes:
            body["shapes"] = {name: list(shape) for name, shape in self.shapes.items()}
        if self.update:
            body["update"] = self.update
        if self.removed:
            body["removed"] = list(self.removed)
        if self.order:
            body["order"] = list(self.order)
        if self.folded:
            body["folded"] = [_rule_to_json(rule) for rule in self.folded]
        if self.pruned:
            body["pruned"] = True
        if not body:
            return ""
        return json.dumps({_KEY: _VERSION, **body}, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> SourceDescription:
        """Inverse of :meth:`to_text`; text of another application gives an empty description.

        Raises:
            NnbitsError: METADATA if the text is ours but damaged.
        """
        if not text.startswith(f'{{"{_KEY}":'):
            return cls()
        try:
            body = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _bad(f"is not JSON: {error}") from None
        if not isinstance(body, dict) or body.pop(_KEY, None) != _VERSION:
            raise _bad(f"is not of version {_VERSION}")
        unknown = set(body) - {
            "count",
            "format",
            "metadata",
            "dtypes",
            "shapes",
            "update",
            "removed",
            "order",
            "folded",
            "pruned",
        }
        if unknown:
            raise _bad(f"has unknown keys {sorted(unknown)}")
        count = body.get("count")
        if count is not None and (type(count) is not int or count < 0):
            raise _bad("has an impossible count")
        return cls(
            count,
            _string(body.get("format")),
            _strings(body.get("metadata", {}), "metadata"),
            _dtypes(body.get("dtypes", {})),
            _shapes(body.get("shapes", {})),
            _update(body.get("update")),
            _names(body.get("removed", []), "removed"),
            _names(body.get("order", []), "order"),
            _rules(body.get("folded", [])),
            _flag(body.get("pruned", False)),
        )


def _bad(what: str) -> NnbitsError:
    return NnbitsError(ReasonCode.METADATA, f"the source description {what}", path="topology_data")


def _string(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise _bad("has a format that is not a string")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _bad("has a flag that is neither true nor false")
    return value


def _strings(value: object, key: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise _bad(f"has {key} that are not strings")
    return value


def _dtypes(value: object) -> dict[str, str]:
    names = _strings(value, "dtypes")
    for name, dtype in names.items():
        if dtype not in DTYPES:
            raise _bad(f"gives tensor {name!r} the unknown element type {dtype!r}")
    return names


def _update(value: object) -> UpdateMode | None:
    if value not in (None, *get_args(UpdateMode)):
        raise _bad(f"has the unknown update mode {value!r}")
    return cast("UpdateMode | None", value)


def _names(value: object, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _bad(f"has {key} names that are not strings")
    return tuple(value)


def _shapes(value: object) -> dict[str, tuple[int, ...]]:
    if not isinstance(value, dict):
        raise _bad("has shapes that are not an object")
    shapes = {}
    for name, shape in value.items():
        if (
            not isinstance(shape, list)
            or len(shape) > MAX_DIMENSIONS
            or not all(type(n) is int and n >= 0 for n in shape)
        ):
            raise _bad(f"gives tensor {name!r} an impossible shape")
        shapes[name] = tuple(shape)
    return shapes


def _rule_to_json(rule: FoldingRule) -> dict[str, Any]:
    item: dict[str, Any] = {"suffix" if rule.suffix else "weight": rule.weight}
    if rule.norm:
        item["norm"] = list(rule.norm.batch_norm)
        item["epsilon"] = rule.norm.epsilon
        item.update({key: True for key, value in _own(rule.norm).items() if value})
    return item


def _own(norm: FoldedNorm) -> dict[str, bool]:
    return {"bias": norm.own_bias, "scaling": norm.own_scaling}


def _rules(value: object) -> tuple[FoldingRule, ...]:
    if not isinstance(value, list):
        raise _bad("has folded norms that are not a list")
    return tuple(_rule(item) for item in value)


def _rule(item: object) -> FoldingRule:
    if not isinstance(item, dict) or set(item) - {"suffix", "weight", "norm", "epsilon", "bias", "scaling"}:
        raise _bad("has a folded norm with unknown keys")
    weight = item.get("suffix", item.get("weight"))
    if not isinstance(weight, str) or ("suffix" in item) == ("weight" in item):
        raise _bad("has a folded norm without a weight")
    if "norm" not in item:
        if len(item) > 1:
            raise _bad(f"says of the weight {weight!r} what needs a norm")
        return FoldingRule(weight, None, "suffix" in item)
    names, epsilon = item["norm"], item.get("epsilon")
    if not isinstance(names, list) or len(names) != 4 or not all(isinstance(name, str) for name in names):
        raise _bad(f"does not name four vectors of the norm at {weight!r}")
    if not isinstance(epsilon, int | float) or isinstance(epsilon, bool) or not 0 <= epsilon < 1:
        raise _bad(f"gives the norm at {weight!r} an impossible epsilon")
    own_bias, own_scaling = item.get("bias", False), item.get("scaling", False)
    if not isinstance(own_bias, bool) or not isinstance(own_scaling, bool):
        raise _bad(f"has a flag of the norm at {weight!r} that is neither true nor false")
    beta, gamma, mean, variance = names
    norm = FoldedNorm((beta, gamma, mean, variance), epsilon, own_bias, own_scaling)
    return FoldingRule(weight, norm, "suffix" in item)
