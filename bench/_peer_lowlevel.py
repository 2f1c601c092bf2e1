"""Runs jobs of NNCodec that its simple calls have no option for; needs the peer's Python.

    .peers/nncodec/bin/python bench/_peer_lowlevel.py ../shared/peers/nncodec/peer.py jobs.json

The first argument is the peer's own script, which is loaded for its jobs (``encode``, ``decode``) and for the stand-ins
of packages that NNCodec imports without need. NNCodec is used as a black box: what is called here are
``nncodec.nnc.compress`` and ``decompress`` with their keyword arguments, the update store that its documentation gives
the form of, and its history tool.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from _peer import Answer, Job, answer_jobs, read_npz

#: Update store and history tool by the name that jobs give them; encoder and decoder need their own.
_STORES: Final[dict[str, dict[str, Any]]] = {}

#: Seconds spent in the methods of the C++ decoder, by name.
_SPENT: Final[defaultdict[str, float]] = defaultdict(float)


def _state(job: Job) -> dict[str, Any]:
    """Keyword arguments that make a call part of the sequence ``job["store"]``; none without one."""
    name = job.get("store")
    if name is None:
        return {}
    if name not in _STORES:
        from nncodec.nnc_core.hdsp.hdsp_tool import HdspTool

        empty = {"parameters": {}, "put_node_depth": {}, "device_id": 0, "parameter_id": {}}
        _STORES[name] = {"approx_param_base": empty, "hdsp_tool": HdspTool(True), "update_base_param": True}
    return _STORES[name]


def _compress(job: Job) -> Answer:
    """``in`` to ``out`` with ``args``; with ``store`` as the next update of a sequence."""
    from nncodec.nnc import compress

    tensors, state = read_npz(job["in"]), _state(job)
    start = time.perf_counter()
    stream = compress(tensors, bitstream_path=job["out"], return_bitstream=True, **job["args"], **state)
    seconds = time.perf_counter() - start
    Path(job["out"]).write_bytes(bytes(stream))
    return {"seconds": seconds, "bytes": len(stream)}


def _decompress(job: Job) -> Answer:
    """``in`` to ``out``; with ``store`` as the next update of a sequence."""
    import numpy as np
    from nncodec.nnc import decompress

    state, stream = _state(job), bytearray(Path(job["in"]).read_bytes())
    start = time.perf_counter()
    tensors = decompress(stream, **state)
    seconds = time.perf_counter() - start
    if state:
        # The decoder leaves it to its caller to remember where updates were not zero.
        state["hdsp_tool"].add_data_to_hist(tensors)
    # With a codebook the results are float64: the exact products, which float32 rounds.
    tensors = {name: t.astype(np.float32) if t.dtype == np.float64 else t for name, t in tensors.items()}
    np.savez(job["out"], **tensors)
    return {"seconds": seconds, "bytes": sum(int(t.nbytes) for t in tensors.values())}


def _time_decode(job: Job) -> Answer:
    """Decode ``in`` once; seconds of the whole call, and of the entropy decoder in C++ inside it."""
    from nncodec.nnc import decompress

    _watch_decoder()
    stream = bytearray(Path(job["in"]).read_bytes())
    _SPENT.clear()
    start = time.process_time()
    tensors = decompress(stream)
    whole = time.process_time() - start
    core = sum(seconds for name, seconds in _SPENT.items() if name != "dequantLayer")
    if job.get("out"):
        import numpy as np

        np.savez(job["out"], **tensors)
    return {"whole": whole, "core": core, "methods": dict(_SPENT)}


@functools.cache
def _watch_decoder() -> None:
    """Put a decoder that notes the time of every call in the place of the C++ decoder."""
    from nncodec.extensions import deepCABAC

    base = deepCABAC.Decoder
    names = [name for name in vars(base) if not name.startswith("_")]
    deepCABAC.Decoder = type("WatchedDecoder", (base,), {name: _timed(name, getattr(base, name)) for name in names})


def _timed(name: str, method: Any) -> Any:
    def call(*args: Any) -> Any:
        start = time.thread_time()
        try:
            return method(*args)
        finally:
            _SPENT[name] += time.thread_time() - start

    return call


def _load(script: str) -> Any:
    spec = importlib.util.spec_from_file_location("peer", script)
    if spec is None or spec.loader is None:
        raise ImportError(script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # Before anything imports NNCodec.
    sys.meta_path.insert(0, module._StubFinder())
    return module


def main() -> int:
    script, source = sys.argv[1:]
    simple = _load(script).run
    jobs = {"compress": _compress, "decompress": _decompress, "time_decode": _time_decode}
    return answer_jobs({"encode": simple, "decode": simple, **jobs}, source)


if __name__ == "__main__":
    raise SystemExit(main())
