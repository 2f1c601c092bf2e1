"""Where streams are read from: files, bytes, objects with seek or ranges, URLs; and if one is cut in use."""

from __future__ import annotations

import io
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

import nnbits
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.ranges import FileSource, open_source

ARRAYS = {f"layer{i}.weight": np.random.default_rng(i).normal(size=(60, 50)).astype(np.float32) for i in range(40)}


@pytest.fixture(scope="module")
def stream() -> bytes:
    return nnbits.encode(ARRAYS)


def check(target: Any) -> None:
    with nnbits.open(target) as file:
        assert list(file) == list(ARRAYS)
        assert file["layer7.weight"].tobytes() == ARRAYS["layer7.weight"].tobytes()
        assert file.read_rows("layer9.weight", 5, 9).tobytes() == ARRAYS["layer9.weight"][5:9].tobytes()
    loaded = nnbits.load(target, threads=3)
    assert all(loaded[name].tobytes() == array.tobytes() for name, array in ARRAYS.items())


class Grudging(io.RawIOBase):
    """Can seek, but gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._file = io.BytesIO(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, 777) if size >= 0 else size)


def test_every_kind_of_source(stream: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.nnc"
    path.write_bytes(stream)
    for target in (path, str(path), stream, bytearray(stream), memoryview(stream), io.BytesIO(stream)):
        check(target)
    check(Grudging(stream))
    with path.open("rb") as file:
        check(file)


def test_urls_of_fsspec(stream: bytes) -> None:
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.pipe_file("/nnbits-test/m.nnc", stream)
    try:
        check("memory://nnbits-test/m.nnc")
        with pytest.raises(NnbitsError) as caught:
            nnbits.open("memory://nnbits-test/other.nnc")
        assert caught.value.code is ReasonCode.FILE_NOT_FOUND
        with nnbits.open("memory://nnbits-test/m.nnc") as file:
            system.pipe_file("/nnbits-test/m.nnc", stream[:100])
            with pytest.raises(NnbitsError) as caught:
                _ = file["layer7.weight"]
            assert caught.value.code is ReasonCode.FILE_IO
    finally:
        system.rm("/nnbits-test", recursive=True)


class Handler(BaseHTTPRequestHandler):
    """One file with range requests."""

    content = b""
    ranges: list[tuple[int, int]]

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, body: bool) -> None:
        first, last, status = 0, len(self.content) - 1, 200
        if wanted := self.headers.get("Range"):
            low, high = wanted.removeprefix("bytes=").split("-")
            first, last, status = int(low), min(int(high), last), 206
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(self.content)}")
        self.end_headers()
        if body:
            self.ranges.append((first, last))
            self.wfile.write(self.content[first : last + 1])


def test_http_with_range_requests(stream: bytes) -> None:
    """One request for the end, one for the tensor, and no more bytes than these take."""
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    Handler.content, Handler.ranges = stream, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        with nnbits.open(f"http://127.0.0.1:{server.server_address[1]}/m.nnc") as file:
            assert file["layer7.weight"].tobytes() == ARRAYS["layer7.weight"].tobytes()
        assert len(Handler.ranges) == 2
        assert sum(last - first + 1 for first, last in Handler.ranges) < len(stream)
    finally:
        server.shutdown()
        server.server_close()


def test_a_file_that_is_cut_while_it_is_open(stream: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.nnc"
    path.write_bytes(stream)
    with nnbits.open(path) as file:
        os.truncate(path, 1000)
        with pytest.raises(NnbitsError) as caught:
            _ = file["layer39.weight"]
    assert caught.value.code is ReasonCode.FILE_IO


def test_what_cannot_be_read(tmp_path: Path) -> None:
    for target, code in (
        (tmp_path / "none.nnc", ReasonCode.FILE_NOT_FOUND),
        (tmp_path, ReasonCode.FILE_IO),
        (17, ReasonCode.BAD_OPTION),
    ):
        with pytest.raises(NnbitsError) as caught:
            open_source(target)  # type: ignore[arg-type]
        assert caught.value.code is code
    (tmp_path / "empty").write_bytes(b"")
    source = FileSource(tmp_path / "empty")
    assert source.size == 0
    source.close()
