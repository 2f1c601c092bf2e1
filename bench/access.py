"""One tensor out of a large file: bytes read and time, against safetensors, from disk and over loopback HTTP.

    python bench/access.py [--megabytes 1000] [--folder DIR] [--rounds 15]

The model: layers of 4096 x 1024 bfloat16 weights and biases, values of a normal distribution. Reported for each way
are the bytes fetched and the least and the median time to open the file and get one weight (and 16 rows of it), in a
warm page cache. What safetensors maps is not read until it is touched: ``copied`` is a copy of it in memory, which is
what nnbits delivers. The server counts what it sends. safetensors over HTTP means what its documentation shows: header
by two range requests, then the tensor's range.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

import nnbits


class Server(ThreadingHTTPServer):
    """Serves one folder with Range, and counts requests and bytes."""

    folder: Path
    requests = 0
    sent = 0


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD of files, whole or a range."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def _send(self, body: bool) -> None:
        path = self.server.folder / Path(self.path).name
        size = path.stat().st_size
        first, last, status = 0, size - 1, 200
        if wanted := self.headers.get("Range"):
            low, high = wanted.removeprefix("bytes=").split("-")
            first, last = (int(low), min(int(high or size - 1), size - 1)) if low else (size - int(high), size - 1)
            status = 206
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        self.server.requests += 1
        if body:
            with path.open("rb") as file:
                file.seek(first)
                self.wfile.write(file.read(last - first + 1))
            self.server.sent += last - first + 1

    def do_GET(self) -> None:
        self._send(True)

    def do_HEAD(self) -> None:
        self._send(False)


class Counted:
    """A file with ranges that counts what is read."""

    def __init__(self, path: Path) -> None:
        from nnbits.codec.ranges import FileSource

        self._source = FileSource(path)
        self.size = self._source.size
        self.reads = self.bytes = 0

    def read_range(self, offset: int, size: int) -> bytearray:
        self.reads += 1
        self.bytes += size
        return self._source.read_range(offset, size)


def make(folder: Path, megabytes: int) -> list[str]:
    """The model in both formats; names of its weights."""
    rng = np.random.default_rng(0)
    shape = (4096, 1024)
    layers = max(2, megabytes * 10**6 // (2 * shape[0] * shape[1]))
    arrays: dict[str, Any] = {}
    for i in range(layers):
        values = rng.normal(0, 0.02, shape[0] * shape[1]).astype(np.float32)
        arrays[f"model.layers.{i:03}.mlp.weight"] = values.reshape(shape).astype(ml_dtypes.bfloat16)
        arrays[f"model.layers.{i:03}.mlp.bias"] = rng.normal(size=shape[0]).astype(np.float32)
    save_file(arrays, folder / "m.safetensors")
    nnbits.save(arrays, folder / "m.nnc")
    return [name for name in arrays if name.endswith("weight")]


def range_request(url: str, first: int, last: int) -> bytes:
    """The bytes first to last."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={first}-{last}"})
    with urllib.request.urlopen(request) as answer:
        data: bytes = answer.read()
    return data


def safetensors_http(url: str, name: str, rows: int | None) -> int:
    """One tensor by range requests; its bytes."""
    length = int.from_bytes(range_request(url, 0, 7), "little")
    header = json.loads(range_request(url, 8, 7 + length))
    first, last = header[name]["data_offsets"]
    if rows is not None:
        last = first + rows * (last - first) // header[name]["shape"][0]
    return len(range_request(url, 8 + length + first, 7 + length + last))


def safetensors_disk(path: Path, name: str, rows: int | None, copy: bool) -> int:
    """One tensor by the library; its bytes."""
    with safe_open(path, "pt") as file:
        tensor = file.get_tensor(name) if rows is None else file.get_slice(name)[:rows]
        if copy:
            tensor = tensor.clone()
    return int(tensor.numel()) * 2


def nnc(target: Any, name: str, rows: int | None) -> int:
    """One tensor of a stream; its bytes."""
    with nnbits.open(target) as file:
        array = file[name] if rows is None else file.read_rows(name, 0, rows)
    return int(array.nbytes)


def measure(jobs: list[Callable[[], int]], rounds: int) -> list[tuple[float, float]]:
    """Least and median seconds of each job, run by turns."""
    times: list[list[float]] = [[] for _ in jobs]
    for _ in range(rounds):
        for i, job in enumerate(jobs):
            start = time.perf_counter()
            job()
            times[i].append(time.perf_counter() - start)
    return [(min(t), statistics.median(t)) for t in times]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder_name:
        folder = Path(folder_name)
        names = make(folder, options.megabytes)
        name = names[len(names) // 2]
        stream, plain = folder / "m.nnc", folder / "m.safetensors"
        print(f"files: safetensors {plain.stat().st_size:,} bytes, nnc {stream.stat().st_size:,} bytes")
        server = Server(("127.0.0.1", 0), Handler)
        server.folder = folder
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        print(f"{'way':26} {'what':>8} {'reads':>6} {'bytes read':>12} {'least ms':>9} {'median ms':>9}")
        for label, rows in (("tensor", None), ("16 rows", 16)):
            counted = Counted(stream)
            nnc(counted, name, rows)
            jobs: dict[str, Callable[[], int]] = {
                "safetensors, disk, mapped": partial(safetensors_disk, plain, name, rows, False),
                "safetensors, disk, copied": partial(safetensors_disk, plain, name, rows, True),
                "nnc, disk": partial(nnc, stream, name, rows),
                "safetensors, HTTP": partial(safetensors_http, f"{url}/m.safetensors", name, rows),
                "nnc, HTTP (fsspec)": partial(nnc, f"{url}/m.nnc", name, rows),
            }
            reads = {}
            for way, job in jobs.items():
                server.requests = server.sent = 0
                job()
                reads[way] = (counted.reads, counted.bytes) if way == "nnc, disk" else (server.requests, server.sent)
            found = measure(list(jobs.values()), options.rounds)
            for way, (least, median) in zip(jobs, found, strict=True):
                shown = f"{reads[way][0]:6} {reads[way][1]:12,}" if reads[way][0] else f"{'mapped':>6} {'':12}"
                print(f"{way:26} {label:>8} {shown} {1000 * least:9.2f} {1000 * median:9.2f}", flush=True)
        server.shutdown()


if __name__ == "__main__":
    main()
