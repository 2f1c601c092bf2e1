"""Update sequences: made and applied, in order, on the right base, without drift."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import nnbits
from nnbits.codec.chain import UpdateChain, UpdateMode
from nnbits.codec.decode import REFERENCE, Stream
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import EncodePlan
from nnbits.codec.types import Array, Model, from_numpy, to_numpy
from nnbits.formats.registry import adapter_for_file

DIGITS = Path(str(files("nnbits") / "examples" / "digits" / "digits.safetensors"))


def _model(tensors: dict[str, Array]) -> Model:
    return Model([from_numpy(n, a) for n, a in tensors.items()])


def _arrays(model: Model) -> dict[str, Array]:
    return {t.info.name: to_numpy(t.info, t.read()) for t in model}


def _steps(count: int) -> list[dict[str, Array]]:
    """The digits model and successive changes of some of its weights, as training leaves them."""
    rng = np.random.default_rng(5)
    tensors = _arrays(adapter_for_file(DIGITS).read(DIGITS))
    steps = [tensors]
    for number in range(count):
        tensors = dict(tensors)
        for name, array in tensors.items():
            if array.dtype.kind == "i":
                tensors[name] = array + 10
            elif number != 1 or "conv" in name:
                changed = rng.random(array.shape) < 0.2
                tensors[name] = (array + changed * rng.normal(0, 0.02, array.shape)).astype(array.dtype)
        steps.append(tensors)
    return steps


def _plan(tensors: dict[str, Array], qp: int | None = -24, *, dependent: bool = True) -> EncodePlan:
    model = _model(tensors)
    if qp is None:
        return nnbits.plan_exact(model)
    return nnbits.plan_quantized(model, qp=qp, nonweight_qp=-40, dependent=dependent)


@pytest.mark.parametrize("mode", ["difference", "full"])
@pytest.mark.parametrize("dependent", [True, False])
def test_a_chain_arrives_where_the_encoder_is(mode: str, dependent: bool) -> None:
    base, *versions = _steps(3)
    sender = UpdateChain(_model(base))
    receiver = UpdateChain(_model(base))
    slow = UpdateChain(_model(base))
    for number, version in enumerate(versions):
        update = sender.encode(_model(version), _plan(version, dependent=dependent), mode=mode)  # type: ignore[arg-type]
        receiver.apply(Stream(memoryview(update)))
        if number == 0:
            slow.apply(Stream(memoryview(update), engine=REFERENCE))
            assert slow.digest == receiver.digest
        assert receiver.digest == sender.digest
        got = _arrays(receiver.model())
        for name, array in version.items():
            assert got[name].dtype == array.dtype
            assert np.abs(got[name].astype(np.float64) - array).max() < 2 ** (-24 / 4) * 2


def test_exact_updates_are_exact() -> None:
    base, *versions = _steps(2)
    chain = UpdateChain(_model(base))
    for version in versions:
        chain.encode(_model(version), _plan(version, None))
        got = _arrays(chain.model())
        assert all(got[n].tobytes() == a.tobytes() for n, a in version.items())


def test_only_what_changed_is_sent() -> None:
    base = _steps(0)[0]
    chain = UpdateChain(_model(base))
    name = next(n for n, a in base.items() if a.ndim == 2)
    version = dict(base, **{name: base[name] + np.float32(0.25)})
    stream = Stream(memoryview(chain.encode(_model(version), _plan(version))))
    assert list(stream.tensors) == [name]
    again = Stream(memoryview(chain.encode(chain.model(), _plan(version))))
    assert not again.tensors


def test_tensors_come_and_go() -> None:
    base = {"a": np.ones((3, 4), np.float32), "b": np.arange(5)}
    version = {"a": base["a"], "c": np.full((2, 2), 0.5, np.float16), "d": np.array(True)}
    sender, receiver = UpdateChain(_model(base)), UpdateChain(_model(base))
    update = sender.encode(_model(version), _plan(version, None))
    receiver.apply(Stream(memoryview(update)))
    got = _arrays(receiver.model())
    assert set(got) == set(version)
    assert all(got[n].dtype == a.dtype and got[n].tobytes() == a.tobytes() for n, a in version.items())


def test_contexts_of_earlier_updates_save_bytes() -> None:
    """Changes at the same positions again and again: history and temporal contexts must pay."""
    rng = np.random.default_rng(0)
    base = {"w": rng.normal(0, 0.1, (200, 100)).astype(np.float32)}
    places = rng.random((200, 100)) < 0.05
    versions = [{"w": base["w"]}]
    for _ in range(4):
        change = places * rng.normal(0, 0.1, (200, 100))
        versions.append({"w": (versions[-1]["w"] + change).astype(np.float32)})

    def total(temporal: bool, history: bool) -> int:
        chain = UpdateChain(_model(base))
        sizes = [len(chain.encode(_model(v), _plan(v), temporal=temporal, history=history)) for v in versions[1:]]
        return sum(sizes[1:])

    plain = total(False, False)
    assert total(False, True) < 0.8 * plain
    assert total(True, False) < 0.9 * plain


def test_wrong_order_and_wrong_base_are_refused_and_change_nothing() -> None:
    base, first, second = _steps(2)
    sender = UpdateChain(_model(base))
    updates = [Stream(memoryview(sender.encode(_model(v), _plan(v)))) for v in (first, second)]
    receiver = UpdateChain(_model(base))
    before = receiver.digest
    with pytest.raises(NnbitsError) as caught:
        receiver.apply(updates[1])
    assert caught.value.code is ReasonCode.BASE_MISMATCH
    assert before in caught.value.message
    assert receiver.digest == before
    receiver.apply(updates[0])
    with pytest.raises(NnbitsError) as caught:
        receiver.apply(updates[0])
    assert caught.value.code is ReasonCode.BASE_MISMATCH
    receiver.apply(updates[1])
    assert receiver.digest == sender.digest


def test_a_damaged_update_changes_nothing() -> None:
    base, first = _steps(1)
    sender, receiver = UpdateChain(_model(base)), UpdateChain(_model(base))
    update = bytearray(sender.encode(_model(first), _plan(first)))
    update[-3:] = b"\xff\xff\xff"
    before = receiver.digest
    with pytest.raises(NnbitsError):
        receiver.apply(Stream(memoryview(bytes(update))))
    assert receiver.digest == before


def test_an_update_alone_is_not_a_model() -> None:
    base, first = _steps(1)
    update = UpdateChain(_model(base)).encode(_model(first), _plan(first))
    with pytest.raises(NnbitsError) as caught:
        nnbits.decode(update)
    assert caught.value.code is ReasonCode.BASE_MISSING
    assert "nnbits apply" in str(caught.value)


def test_shape_changes_are_refused() -> None:
    chain = UpdateChain(_model({"a": np.ones((3, 4), np.float32)}))
    version = {"a": np.ones((4, 3), np.float32)}
    with pytest.raises(NnbitsError) as caught:
        chain.encode(_model(version), _plan(version))
    assert caught.value.code is ReasonCode.SHAPE_MISMATCH


def test_order_and_metadata_travel() -> None:
    base = Model(
        [from_numpy("b", np.ones((2, 2), np.float32)), from_numpy("a", np.arange(3))], {"v": "1"}, "safetensors"
    )
    new = Model([from_numpy(n, np.full((2, 2), 2, np.float32)) for n in ("a2", "b", "c")], {"v": "2"}, "safetensors")
    sender, receiver = UpdateChain(base), UpdateChain(base)
    receiver.apply(Stream(memoryview(sender.encode(new, nnbits.plan_exact(new)))))
    assert [t.info.name for t in receiver.model()] == ["a2", "b", "c"]
    assert receiver.model().metadata == {"v": "2"}


def test_differences_that_overflow_are_sent_complete() -> None:
    base = _model({"a": np.array([-(2**31), 5], np.int32)})
    new = {"a": np.array([2**31 - 1, 5], np.int32)}
    chain = UpdateChain(base)
    chain.encode(_model(new), _plan(new, None))
    assert _arrays(chain.model())["a"].tolist() == new["a"].tolist()


def test_an_exact_update_is_an_update_too() -> None:
    base, first = _steps(1)
    update = UpdateChain(_model(base)).encode(_model(first), _plan(first, None), mode="full")
    with pytest.raises(NnbitsError) as caught:
        nnbits.decode(update)
    assert caught.value.code is ReasonCode.BASE_MISSING


@pytest.mark.parametrize("mode", ["difference", "full"])
def test_updates_do_not_depend_on_threads(mode: UpdateMode) -> None:
    base, *versions = _steps(2)
    one, three = UpdateChain(_model(base)), UpdateChain(_model(base))
    for version in versions:
        streams = [
            chain.encode(_model(version), _plan(version), mode=mode, threads=n) for chain, n in ((one, 1), (three, 3))
        ]
        assert streams[0] == streams[1]


def test_every_node_has_its_own_number() -> None:
    base, version = _steps(1)
    chain = UpdateChain(_model(base))
    grown = {**version, "new": np.ones((3, 4), np.float32), "newer": np.ones((3, 4), np.float32)}
    stream = Stream(memoryview(chain.encode(_model(grown), _plan(grown))))
    numbers = {unit.body.names[0]: unit.body.parameter_id for unit in stream.data_units}
    assert len(set(numbers.values())) == len(numbers)
    later = {name: array + (array.dtype.kind == "f") for name, array in grown.items()}
    after = Stream(memoryview(chain.encode(_model(later), _plan(later))))
    for unit in after.data_units:
        assert unit.body.parameter_id == numbers.get(unit.body.names[0], unit.body.parameter_id)
    assert {"new", "newer"} <= {unit.body.names[0] for unit in after.data_units}
