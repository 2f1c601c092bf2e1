"""NNCodec as a decoder of the suite; needs the peer's Python. NNCodec is a black box here.

    python peer_decoder.py PEER_SCRIPT STREAM FOLDER            decode one stream
    python peer_decoder.py PEER_SCRIPT --serve SOCKET MEMORY    import once, then a process for each stream
    python peer_decoder.py --client SOCKET STREAM FOLDER        ask that server; ends as the stream's process ended

PEER_SCRIPT makes NNCodec importable without the packages that it does not need for decoding. Importing it takes ten
seconds, hence the server. A stream's process has MEMORY bytes of address space above what the imports took, and is
killed when its client is.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

_REFUSED, _OUT_OF_MEMORY = 1, 3


def load(path: str) -> Any:
    """NNCodec's ``decompress``, by way of the peer's script."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("peer", path)
    assert spec is not None  # noqa: S101 - the path names a Python file
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.meta_path.insert(0, module._StubFinder())
    from nncodec.nnc import decompress  # type: ignore[import-not-found,unused-ignore]

    return decompress


def decode(decompress: Any, stream: str, folder: str) -> int:
    """Exit status: 0 decoded, 1 refused, 3 out of memory."""
    import contextlib

    import numpy as np

    try:
        with contextlib.redirect_stdout(sys.stderr):
            tensors = decompress(bytearray(Path(stream).read_bytes()))
        # With a codebook the results are float64: the exact products, which float32 rounds.
        named: dict[str, Any] = {name: np.asarray(value) for name, value in tensors.items()}
        single: dict[str, Any] = {n: a.astype(np.float32) if a.dtype == np.float64 else a for n, a in named.items()}
        np.savez(Path(folder) / "tensors.npz", **single)
    except MemoryError as error:
        print(f"MemoryError: {error}", file=sys.stderr)
        return _OUT_OF_MEMORY
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return _REFUSED
    return 0


def serve(script: str, path: str, memory: int) -> None:
    """Until standard input ends."""
    import select

    decompress = load(script)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path + ".new")
        listener.listen(64)
        os.rename(path + ".new", path)
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                try:
                    _watch(decompress, connection, memory)
                finally:
                    os._exit(0)
            connection.close()


def _watch(decompress: Any, connection: socket.socket, memory: int) -> None:
    """Decode in a process of its own, and tell the client how it ended; kill it when the client is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    stream, folder = connection.recv(1 << 16).decode().split("\n")
    child = os.fork()
    if child == 0:
        code = 2
        try:
            _bound(memory)
            with open(folder + ".log", "ab") as log:  # the client's standard error
                os.dup2(log.fileno(), 2)
            code = decode(decompress, stream, folder)
            sys.stderr.flush()
        finally:
            os._exit(code)
    connection.setblocking(False)
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            connection.sendall(str(status).encode())
            return
        try:
            if connection.recv(1) == b"":
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return
        except BlockingIOError:
            time.sleep(0.002)


def _bound(memory: int) -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def ask(path: str, stream: str, folder: str) -> int:
    """Ends as the stream's process did: with its exit status, or by its signal."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(f"{stream}\n{folder}".encode())
        answer = connection.recv(64)
    if not answer:
        print("the server is gone", file=sys.stderr)
        return 4
    status = int(answer)
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))
    return os.waitstatus_to_exitcode(status)


def main(words: list[str]) -> int:
    """Exit status."""
    if words[0] == "--client":
        return ask(*words[1:])
    if words[1] == "--serve":
        serve(words[0], words[2], int(words[3]))
        return 0
    return decode(load(words[0]), words[1], words[2])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
