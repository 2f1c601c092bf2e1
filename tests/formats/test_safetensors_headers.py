"""Headers of safetensors files: what is refused, as by the library, and what is read."""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import DTYPES, TensorInfo
from nnbits.formats import safetensors


def file_bytes(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


E: dict[str, Any] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
D = b"1234"


def one(**changes: Any) -> bytes:
    return file_bytes({"a": {**E, **changes}}, D)


def without(key: str) -> bytes:
    return file_bytes({"a": {name: value for name, value in E.items() if name != key}}, D)


def pair(first: list[int], second: list[int], size: int) -> bytes:
    return file_bytes({"a": {**E, "data_offsets": first}, "b": {**E, "data_offsets": second}}, bytes(size))


MALFORMED: dict[str, bytes] = {
    "no bytes": b"",
    "seven bytes": b"\x08" + bytes(6),
    "length only": struct.pack("<Q", 2),
    "length 0": struct.pack("<Q", 0),
    "length 0 and data": struct.pack("<Q", 0) + b"{}",
    "length 1": struct.pack("<Q", 1) + b"{",
    "length past the end": struct.pack("<Q", 17) + b"{}" + b" " * 14,
    "length above the bound": struct.pack("<Q", 100_000_001) + b"{}",
    "length of 64 bits": b"\xff" * 8 + b"{}",
    "blank first": file_bytes(b" {}"),
    "byte order mark": file_bytes(b"\xef\xbb\xbf{}"),
    "list": file_bytes(b"[]"),
    "not UTF-8": file_bytes(b'{"\xff":1}'),
    "overlong UTF-8": file_bytes(b'{"\xc0\x80":1}'),
    "not closed": file_bytes(b'{"a":1'),
    "zero bytes behind": file_bytes(b"{}\0\0"),
    "text behind": file_bytes(b"{}{}"),
    "comma at the end": file_bytes(b'{"__metadata__":{},}'),
    "single quotes": file_bytes(b"{'a':1}"),
    "NaN": file_bytes(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":NaN}}', D),
    "Infinity": file_bytes(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":-Infinity}}', D),
    "line break in a name": file_bytes(b'{"a\n":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', D),
    "half character in a name": file_bytes(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', D),
    "nested too deeply": file_bytes(b'{"a":' * 100_000),
    "number too long": file_bytes(b'{"a":{"dtype":"F32","shape":[%b],"data_offsets":[0,4]}}' % (b"1" * 10_000), D),
    "name twice": file_bytes(b'{"a":%b,"a":%b}' % (json.dumps(E).encode(), json.dumps(E).encode()), D),
    "field twice": file_bytes(b'{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', D),
    "metadata twice": file_bytes(b'{"__metadata__":{},"__metadata__":{}}'),
    "metadata key twice": file_bytes(b'{"__metadata__":{"a":"1","a":"1"}}'),
    "metadata list": file_bytes({"__metadata__": []}),
    "metadata string": file_bytes({"__metadata__": "a"}),
    "metadata number": file_bytes({"__metadata__": {"a": 1}}),
    "metadata null value": file_bytes({"__metadata__": {"a": None}}),
    "metadata nested": file_bytes({"__metadata__": {"a": {"b": "c"}}}),
    "metadata half character": file_bytes(b'{"__metadata__":{"a":"\\udfff"}}'),
    "tensor null": file_bytes({"a": None}),
    "tensor list": file_bytes({"a": ["F32", [1], [0, 4]]}, D),
    "tensor number": file_bytes({"a": 1}),
    "no dtype": without("dtype"),
    "no shape": without("shape"),
    "no data_offsets": without("data_offsets"),
    "dtype null": one(dtype=None),
    "dtype number": one(dtype=32),
    "dtype unknown": one(dtype="F33"),
    "dtype empty": one(dtype=""),
    "dtype lower case": one(dtype="f32"),
    "dtype list": one(dtype=["F32"]),
    "shape null": one(shape=None),
    "shape number": one(shape=1),
    "shape string": one(shape="1"),
    "shape object": one(shape={"0": 1}),
    "shape negative": one(shape=[-1]),
    "shape negative pair": one(shape=[-1, -1]),
    "shape minus zero": file_bytes(b'{"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}'),
    "shape true": one(shape=[True]),
    "shape float": one(shape=[1.0]),
    "shape exponent": file_bytes(b'{"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}', D),
    "shape nested": one(shape=[[1]]),
    "shape 2**64": one(shape=[2**64]),
    "shape overflows": one(shape=[2**32, 2**32]),
    "shape overflows to 4 bytes": one(shape=[2**32 + 1, 2**32]),
    "shape times width overflows": one(shape=[2**62 + 1]),
    "shape overflows before a 0": file_bytes({"a": {**E, "shape": [2**63, 2**63, 0], "data_offsets": [0, 0]}}),
    "shape of many dimensions": one(shape=[1] * 10_000 + [2]),
    "shape too small": one(shape=[]).replace(b"F32", b"F16"),
    "shape too large": one(shape=[2]),
    "offsets null": one(data_offsets=None),
    "offsets one": one(data_offsets=[4]),
    "offsets three": one(data_offsets=[0, 4, 4]),
    "offsets true": one(shape=[0], data_offsets=[False, False]),
    "offsets float": one(data_offsets=[0, 4.0]),
    "offsets negative": one(data_offsets=[-4, 0]),
    "offsets reversed": one(data_offsets=[4, 0]),
    "offsets 2**64": one(data_offsets=[2**64, 2**64 + 4]),
    "offsets not from 0": file_bytes({"a": {**E, "data_offsets": [4, 8]}}, bytes(8)),
    "offsets past the end": one(shape=[2], data_offsets=[0, 8]),
    "data missing": file_bytes({"a": E}),
    "data cut": file_bytes({"a": E}, b"123"),
    "data behind": file_bytes({"a": E}, b"12345"),
    "data without tensors": file_bytes({}, b"1"),
    "hole": pair([0, 4], [5, 9], 9),
    "overlap": pair([0, 4], [3, 7], 7),
    "same data": pair([0, 4], [0, 4], 4),
    "empty tensor in the middle of another": file_bytes({"a": E, "b": {**E, "shape": [0], "data_offsets": [2, 2]}}, D),
    "F4 without a whole byte": one(dtype="F4", shape=[3], data_offsets=[0, 1]),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files(tmp_path: Path, case: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(MALFORMED[case])
    with pytest.raises(NnbitsError) as caught:
        safetensors.read(path)
    assert caught.value.code is ReasonCode.FILE_FORMAT
    assert caught.value.path
    assert len(str(caught.value)) < 1000


#: Here the library is, or was, more lenient.
STRICTER = {"blank first", "name twice", "metadata key twice", "tensor list"}


@pytest.mark.parametrize("case", sorted(MALFORMED.keys() - STRICTER))
def test_the_library_refuses_malformed_files_too(case: str) -> None:
    peer = pytest.importorskip("safetensors")
    with pytest.raises(peer.SafetensorError):
        peer.deserialize(MALFORMED[case])


WELL_FORMED: dict[str, bytes] = {
    "nothing": file_bytes({}),
    "blanks behind": file_bytes(b"{} \n\t\r  "),
    "not padded": file_bytes({"a": E}, D),
    "indented": file_bytes(json.dumps({"a": E}, indent=3).encode(), D),
    "metadata null": file_bytes({"__metadata__": None, "a": E}, D),
    "metadata last": file_bytes({"a": E, "__metadata__": {"x": "y"}}, D),
    "escaped name": file_bytes(json.dumps({"日本😀": E}, ensure_ascii=True).encode(), D),
    "more fields": file_bytes({"a": {**E, "x": [1, -1, 1.5, None, {"y": True}]}}, D),
    "not in the order of data": pair([4, 8], [0, 4], 8),
    "empty tensors": file_bytes(
        {
            "a": {**E, "shape": [0], "data_offsets": [4, 4]},
            "b": E,
            "c": {**E, "shape": [3, 0], "data_offsets": [0, 0]},
        },
        D,
    ),
    "not aligned": file_bytes(
        {"a": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}, "b": {**E, "data_offsets": [3, 7]}}, bytes(7)
    ),
    "32 dimensions": one(shape=[1] * 32),
}


@pytest.mark.parametrize("case", WELL_FORMED)
def test_well_formed_files(tmp_path: Path, case: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(WELL_FORMED[case])
    model = safetensors.read(path)
    peer = pytest.importorskip("safetensors")
    expected = dict(peer.deserialize(WELL_FORMED[case]))
    assert {tensor.info.name for tensor in model} == set(expected)
    for tensor in model:
        assert tensor.read().tobytes() == bytes(expected[tensor.info.name]["data"])


def test_tensors_come_in_the_order_of_their_data(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(WELL_FORMED["not in the order of data"])
    assert [tensor.info.name for tensor in safetensors.read(path)] == ["b", "a"]
    path.write_bytes(WELL_FORMED["empty tensors"])
    assert [tensor.info.name for tensor in safetensors.read(path)] == ["c", "b", "a"]


@pytest.mark.parametrize("shape", [[0, 2**62], [2**63, 0], [0, 2**63], [1] * 1000])
def test_shapes_that_numpy_cannot_represent(tmp_path: Path, shape: list[int]) -> None:
    size = 4 * prod(shape)
    path = tmp_path / "a"
    path.write_bytes(file_bytes({"a": {**E, "shape": shape, "data_offsets": [0, size]}}, bytes(size)))
    with pytest.raises(NnbitsError) as caught:
        safetensors.read(path)
    assert caught.value.code is ReasonCode.UNSUPPORTED_FEATURE


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "BOOL", "shape": [4], "data_offsets": [0, 4]}},
        b'{"a":{"dtype":"BOOL","shape":[4],"data_offsets":[0,4]}}   ',
    ],
)
def test_booleans_that_are_neither_0_nor_1(tmp_path: Path, header: object) -> None:
    path = tmp_path / "a"
    path.write_bytes(file_bytes(header, b"\0\1\2\1"))
    model = safetensors.read(path)
    (tensor,) = model.tensors
    assert tensor.info == TensorInfo("a", DTYPES["uint8"], (4,))
    assert tensor.read().tolist() == [0, 1, 2, 1]
    safetensors.write(tmp_path / "b", model)
    assert (tmp_path / "b").read_bytes() == path.read_bytes()


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_are_refused_or_read(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever the damage, only NnbitsError comes out, and what is accepted the library accepts too."""
    peer = pytest.importorskip("safetensors")
    raw = bytearray(
        file_bytes(
            {"__metadata__": {"x": "y"}, "a": E, "b": {**E, "shape": [2, 1], "data_offsets": [4, 12]}}, bytes(12)
        )
    )
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(raw) - 1))
        raw[position] = data.draw(st.sampled_from([*b'{}[]",:0123456789-.eE \\u', 0, 255, raw[position] ^ 1]))
    path = tmp_path / "a"
    path.write_bytes(raw)
    try:
        model = safetensors.read(path)
    except NnbitsError as error:
        if error.code not in (ReasonCode.FILE_FORMAT, ReasonCode.UNSUPPORTED_FEATURE):
            raise
        return
    expected = dict(peer.deserialize(bytes(raw)))
    assert {tensor.info.name: tensor.read().tobytes() for tensor in model} == {
        name: bytes(item["data"]) for name, item in expected.items()
    }
