"""The library's calls on tensors of every kind: exact where promised, equal for any number of threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nnbits
from nnbits.codec.decode import REFERENCE, Stream
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.limits import Limits
from nnbits.codec.quant.step import step_size
from nnbits.codec.types import DTYPES

Arrays = dict[str, np.ndarray[Any, Any]]

#: Element types with a carrier in the standard profile for every bit pattern.
ALWAYS_EXACT = ["float32", "float16", "bfloat16", "int32", "int16", "int8", "uint16", "uint8", "bool"]


def _bits(dtype: str, shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Random bit patterns: NaN payloads, signed zeros and subnormals included."""
    storage = DTYPES[dtype].storage
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape))
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    raw = np.frombuffer(rng.bytes(count * storage.itemsize), storage).reshape(shape)
    return raw.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else raw


tensors = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    st.builds(
        _bits,
        st.sampled_from(ALWAYS_EXACT),
        hnp.array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=5),
        st.integers(0, 2**32),
    ),
    max_size=5,
)


@settings(deadline=None)
@given(tensors, st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=2), st.integers(1, 3))
def test_without_quality_every_bit_comes_back(arrays: Arrays, metadata: dict[str, str], threads: int) -> None:
    try:
        data = nnbits.encode(arrays, metadata=metadata, threads=threads)
    except UnicodeEncodeError:
        return  # metadata with lone surrogates
    got = nnbits.decode(data, threads=threads)
    assert list(got) == list(arrays)
    for name, array in arrays.items():
        assert got[name].dtype == array.dtype
        assert got[name].shape == array.shape
        assert got[name].tobytes() == array.tobytes()


@settings(deadline=None, max_examples=40)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=9), elements=st.floats(-8, 8, width=32)),
    st.integers(-40, 4),
    st.booleans(),
    st.sampled_from([1, 2, 3]),
)
def test_quantization_error_is_bounded(array: np.ndarray[Any, Any], qp: int, dependent: bool, density: int) -> None:
    data = nnbits.encode({"x": array}, qp=qp, nonweight_qp=qp, dependent=dependent, qp_density=density)
    got = nnbits.decode(data)["x"]
    bound = step_size(qp, density) * (2.01 if dependent else 0.5001)
    rounding = 2 * np.spacing(np.abs(array))  # of value / step and of level * step
    assert (np.abs(got - array) <= bound + rounding).all()


def _model(seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "conv.weight": rng.normal(0, 0.1, (24, 12, 3, 3)).astype(np.float32),
        "conv.bias": rng.normal(0, 0.1, 24).astype(np.float32),
        "half": rng.normal(0, 0.1, (40, 30)).astype(np.float16),
        "ids": rng.integers(-5, 5, (7, 9)),
        "flag": np.array(True),
    }


@pytest.mark.parametrize("options", [{}, {"qp": -28}, {"qp": -24, "dependent": False}])
def test_bytes_do_not_depend_on_threads(options: dict[str, Any]) -> None:
    model = _model()
    assert len({nnbits.encode(model, threads=n, **options) for n in (1, 2, 5)}) == 1


def test_reference_decodes_what_the_core_encodes() -> None:
    data = nnbits.encode(_model(), qp=-28, profile="standard")
    fast = nnbits.decode(data)
    slow = dict(Stream(memoryview(data), engine=REFERENCE).decode_all())
    assert all(slow[name].tobytes() == array.tobytes() for name, array in fast.items())


def test_open_decodes_one_tensor_at_a_time(tmp_path: Path) -> None:
    model = _model()
    report = nnbits.save(model, tmp_path / "m.nnc", qp=-28, metadata={"who": "me"})
    assert report.stream_bytes == (tmp_path / "m.nnc").stat().st_size
    assert report.source_bytes == sum(a.nbytes for a in model.values())
    everything = nnbits.load(tmp_path / "m.nnc")
    with nnbits.open(tmp_path / "m.nnc") as file:
        assert list(file) == list(model)
        assert len(file) == len(model)
        assert "half" in file
        assert "none" not in file
        assert file.metadata == {"who": "me"}
        assert file.info("half").dtype.name == "float16"
        for name in reversed(list(file)):
            assert file[name].tobytes() == everything[name].tobytes()
        with pytest.raises(NnbitsError) as caught:
            file["none"]
        assert caught.value.code is ReasonCode.NO_SUCH_TENSOR
        kept = file["ids"]
    assert kept.tobytes() == model["ids"].tobytes()


@pytest.mark.parametrize(
    ("arrays", "options", "code"),
    [
        ({"x": np.array([2**31])}, {"profile": "standard"}, ReasonCode.NOT_EXACT),
        ({"x": np.array([0.1])}, {"profile": "standard"}, ReasonCode.NOT_EXACT),
        ({"x": np.array([2**63], np.uint64)}, {"qp": -4, "profile": "standard"}, ReasonCode.NOT_EXACT),
        ({"x": np.array([1j])}, {"profile": "standard"}, ReasonCode.NOT_EXACT),
        ({"x": np.array(["a"])}, {}, ReasonCode.BAD_TENSOR),
        ({"x\0": np.zeros(1)}, {}, ReasonCode.BAD_TENSOR),
        ({"\ud800": np.zeros(1)}, {}, ReasonCode.BAD_TENSOR),
        ({"x" * 70000: np.zeros(1)}, {}, ReasonCode.BAD_TENSOR),
        ({"x": np.zeros(1)}, {"qp": 1000}, ReasonCode.BAD_OPTION),
        ({"x": np.zeros(1)}, {"qp": 1, "qp_density": 9}, ReasonCode.BAD_OPTION),
        ({"x": np.zeros(1)}, {"qp": 1, "plan": nnbits.EncodePlan()}, ReasonCode.BAD_OPTION),
        ({"x": np.zeros(1)}, {"plan": nnbits.EncodePlan()}, ReasonCode.BAD_OPTION),
        ({"x": np.zeros(1)}, {"plan": nnbits.EncodePlan({"y": nnbits.TensorPlan("raw")})}, ReasonCode.BAD_OPTION),
        ({"x": np.zeros(1)}, {"plan": nnbits.EncodePlan({"x": nnbits.TensorPlan("integer")})}, ReasonCode.BAD_OPTION),
        (
            {"x": np.full(3, np.inf)},
            {"plan": nnbits.EncodePlan({"x": nnbits.TensorPlan("uniform", 0)})},
            ReasonCode.BAD_TENSOR,
        ),
        (
            {"x": np.full(3, 3e38, np.float32)},
            {"plan": nnbits.EncodePlan({"x": nnbits.TensorPlan("uniform", 0)})},
            ReasonCode.BAD_TENSOR,
        ),
    ],
)
def test_what_cannot_be_done_is_refused(
    arrays: Arrays, options: dict[str, Any], code: ReasonCode, tmp_path: Path
) -> None:
    with pytest.raises(NnbitsError) as caught:
        nnbits.save(arrays, tmp_path / "x.nnc", **options)
    assert caught.value.code is code
    assert not list(tmp_path.iterdir())


def test_values_that_cannot_be_quantized_stay_exact() -> None:
    arrays = {"x": np.array([[1.0, np.nan], [np.inf, -0.0]], np.float32), "y": np.ones((2, 2), np.float32)}
    got = nnbits.decode(nnbits.encode(arrays, qp=-8))
    assert got["x"].tobytes() == arrays["x"].tobytes()


def test_levels_that_overflow_raise_the_qp() -> None:
    arrays = {"x": np.array([[1e6, 1.0], [2.0, 3.0]], np.float32)}
    report_plan = nnbits.EncodePlan({"x": nnbits.TensorPlan("uniform", -100)})
    got = nnbits.decode(nnbits.encode(arrays, plan=report_plan))
    assert np.abs(got["x"] - arrays["x"]).max() < 1e-2


def test_memory_budget_is_kept() -> None:
    data = nnbits.encode({"x": np.zeros((100, 100), np.float32)}, profile="standard")
    with pytest.raises(NnbitsError) as caught:
        Stream(memoryview(data), limits=Limits(max_tensor_bytes=39_999))
    assert caught.value.code is ReasonCode.MEMORY_BUDGET
    Stream(memoryview(data), limits=Limits(max_tensor_bytes=40_000))


def test_every_cut_is_noticed() -> None:
    """At every length of a small stream: an error, never fewer tensors."""
    data = nnbits.encode({"a": np.arange(6.0, dtype=np.float32).reshape(2, 3), "b": np.arange(3)}, qp=-8)
    for length in range(len(data)):
        with pytest.raises(NnbitsError) as caught:
            nnbits.decode(data[:length])
        assert caught.value.code in (ReasonCode.TRUNCATED, ReasonCode.NOT_NNC), length


@pytest.mark.parametrize("junk", [b"", b"PK\x03\x04" + bytes(60), bytes(64), b"GGUF" + bytes(60), b"\xff" * 64, b"{}"])
def test_other_files_are_not_streams(junk: bytes) -> None:
    with pytest.raises(NnbitsError) as caught:
        nnbits.decode(junk)
    assert caught.value.code in (ReasonCode.NOT_NNC, ReasonCode.TRUNCATED)
    if junk:
        assert caught.value.code is ReasonCode.NOT_NNC


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damage_never_escapes_the_error_class(data: st.DataObject) -> None:
    stream = bytearray(nnbits.encode(_model(), qp=-20))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    codes: list[ReasonCode] = []
    got: Arrays = {}
    try:
        got = nnbits.decode(bytes(stream))
    except NnbitsError as error:
        codes.append(error.code)
    assert ReasonCode.INTERNAL not in codes
    assert all(isinstance(array, np.ndarray) for array in got.values())
