"""The decoders that the suite is held against here: ours in several builds, and the peer.

A builder returns a decoder, or raises MISSING_PACKAGE where a compiler or an emulator is absent.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from numpy.typing import NDArray

from nnbits.codec import decode
from nnbits.codec.chain import UpdateChain
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.forward import ForwardStream
from nnbits.codec.head import parse_head
from nnbits.codec.integrity import sha256
from nnbits.codec.limits import Limits as CodecLimits
from nnbits.codec.ranges import BytesSource
from nnbits.codec.reader import ExtendedStream
from nnbits.codec.sparse import map as sparse_map
from nnbits.codec.sparse import portable
from nnbits.codec.syntax import SuppliedParameters
from nnbits.codec.types import TensorInfo
from nnbits.codec.update import UpdateStore
from nnbits.conformance.manifest import ExpectedTensor, little_endian
from nnbits.conformance.runner import CallableDecoder, CommandDecoder, Decoder, Limits

__all__ = [
    "ADAPTERS",
    "CORE_SOURCES",
    "C_INCLUDES",
    "C_SOURCES",
    "build_adapter",
    "build_c_decoder",
    "core",
    "core_folder",
    "decode_sequence",
    "reference",
]

_CODEC: Final = Path(decode.__file__).resolve().parent
#: An installed package has no C sources: it is run in a checkout then.
_CORE: Final = next(
    (folder for folder in (_CODEC / "core", Path.cwd() / "codec" / "core") if (folder / "CMakeLists.txt").is_file()),
    _CODEC / "core",
)
_HERE: Final = Path(__file__).resolve().parent
#: The decoder half of the C core.
CORE_SOURCES: Final = (*sorted((_CORE / "src" / "common").glob("*.c")), *sorted((_CORE / "src" / "dec").glob("*.c")))
#: The decoder program.
C_SOURCES: Final = (
    *(_HERE / f"{name}.c" for name in ("decoder", "model_digest", "pruned", "tensor_files")),
    *CORE_SOURCES,
)
#: Where their headers are.
C_INCLUDES: Final = (_CORE / "include", _CORE / "src", _HERE)
_FLAGS: Final = ("-std=c11", "-Wall", "-Wextra", "-ffp-contract=off", *(f"-I{folder}" for folder in C_INCLUDES))


def core_folder() -> Path:
    """The sources of the C core; they are there in a checkout, not in an installed package."""
    return _CORE


#: Memory that one tensor may take, as decoder.c has it.
BUDGET: Final = 1 << 28

#: NNCodec imports torch, which takes its time.
_SERVER_SECONDS: Final = 300

#: What the C core leaves to the layers above it.
NOT_IN_C: Final = (
    *("source-description", "compressed-topology", "update-digests", "index", "zstd"),
    *("update-metadata", "standard-base"),
)


_SIGNATURE: Final = b"nnbX"

#: Arrays by name, or what a manifest says of them.
Decoded = dict[str, NDArray[Any] | ExpectedTensor]


def decode_sequence(
    streams: Sequence[bytes], supplied: Mapping[str, SuppliedParameters], engine: decode.Engine
) -> Decoded:
    """The tensors of the last stream, as they stand in it, in their storage types; those that an exact update leads to.

    Raises:
        NnbitsError: as :class:`~nnbits.codec.decode.Stream`.
    """
    if len(streams) > 1 and _SIGNATURE in streams[-1] and parse_head(memoryview(streams[-1])) is not None:
        return _decode_updates(streams)
    if len(streams) == 1 and _SIGNATURE in streams[0]:
        found = _decode_extended(streams[0])
        if found is not None:
            return found
    store = UpdateStore() if len(streams) > 1 else None
    tensors: Decoded = {}
    for data in streams:
        limits = CodecLimits(max_tensor_bytes=BUDGET)
        stream = decode.Stream(memoryview(data), supplied=supplied, limits=limits, engine=engine)
        tensors = dict(stream.decode_all(store))
    return tensors


def _decode_extended(data: bytes) -> Decoded | None:
    """The tensors of an extended stream, read from front to back, and then through its index; None for a standard one.

    Raises:
        NnbitsError: as the two readers; INTERNAL if they disagree.
    """
    limits = CodecLimits(max_tensor_bytes=BUDGET)
    forward = ForwardStream(io.BytesIO(data), limits=limits)
    tensors = {info.name: _described(info, stored) for info, stored in forward}
    if forward.head is None:
        return None
    stream = ExtendedStream.open(BytesSource(data), limits=limits)
    model = stream.model() if stream else ()
    found: Decoded = {t.info.name: _described(t.info, t.read()) for t in model}
    for attachment in stream.attachments if stream else ():
        attachment.read()
    if {name: tensors[name] for name in found} != found:
        raise NnbitsError(ReasonCode.INTERNAL, "the two readers of the extended profile disagree")
    return found


def _decode_updates(streams: Sequence[bytes]) -> Decoded:
    """The model that exact updates lead to; each is passed from front to back, and then applied through its index.

    Raises:
        NnbitsError: as the two readers, and as :class:`~nnbits.codec.chain.UpdateChain`.
    """
    limits = CodecLimits(max_tensor_bytes=BUDGET)
    base = ExtendedStream.open(BytesSource(streams[0]), limits=limits)
    chain = UpdateChain(base.model() if base else decode.Stream(memoryview(streams[0]), limits=limits).model())
    for data in streams[1:]:
        forward = ForwardStream(io.BytesIO(data), limits=limits)
        forward.read_head()
        for _ in forward.read_access_units():
            pass
        update = ExtendedStream.open(BytesSource(data), limits=limits)
        if update is not None:
            chain.apply(update)
    return {t.info.name: _described(t.info, t.read()) for t in chain.model()}


def _described(info: TensorInfo, stored: NDArray[Any]) -> ExpectedTensor:
    """Element type and shape are those of the tensor, the bytes those that are stored: packed types stay packed."""
    return ExpectedTensor(info.name, info.dtype.name, info.shape, sha256(little_endian(stored)).hex())


def reference(streams: Sequence[bytes], supplied: Mapping[str, SuppliedParameters]) -> Decoded:
    """Our Python reference: arithmetic decoding and sparse maps in Python, exactly coded values in C."""
    with patch.object(sparse_map, "native", portable):
        return decode_sequence(streams, supplied, decode.REFERENCE)


def core(streams: Sequence[bytes], supplied: Mapping[str, SuppliedParameters]) -> Decoded:
    """Our library: headers in Python, arithmetic decoding in C."""
    return decode_sequence(streams, supplied, decode.NATIVE)


def build_c_decoder(target: Path, compiler: Sequence[str], flags: Sequence[str] = ()) -> Path:
    """Compile decoder.c with the decoder half of the core.

    Raises:
        NnbitsError: MISSING_PACKAGE without the compiler, INTERNAL if it fails.
    """
    return _compile([*compiler, *_FLAGS, *flags, *map(str, C_SOURCES)], target)


def _compile(command: Sequence[str], target: Path) -> Path:
    if shutil.which(command[0]) is None:
        raise NnbitsError(ReasonCode.MISSING_PACKAGE, f"there is no {command[0]}", path="decoder")
    done = subprocess.run([*command, "-o", str(target)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NnbitsError(ReasonCode.INTERNAL, f"{command[0]}: {done.stderr.strip()[-2000:]}", path="decoder")
    return target


def _c(name: str, compiler: Sequence[str], flags: Sequence[str], *options: str, emulator: Sequence[str] = ()) -> Any:
    def build(work: Path) -> Decoder:
        if emulator and shutil.which(emulator[0]) is None:
            raise NnbitsError(ReasonCode.MISSING_PACKAGE, f"there is no {emulator[0]}", path="decoder")
        program = build_c_decoder(work / f"decoder-{name}", compiler, flags)
        plain = not emulator and not any("sanitize" in flag for flag in flags)
        limits = Limits(seconds=20 if plain else 60, memory=1 << 30, enforce_memory=plain)
        words = [*emulator, str(program), *options, "{in}", "{out}"]
        launcher = _compile(["cc", "-O1", str(_HERE / "launcher.c")], work / f"launcher-{name}")
        return CommandDecoder(words, name=name, without=NOT_IN_C, limits=limits, launcher=launcher)

    return build


def _nncodec(work: Path) -> Decoder:
    peers = Path.cwd() / ".peers" / "nncodec" / "bin" / "python"
    script = Path.cwd().parent / "shared" / "peers" / "nncodec" / "peer.py"
    if not peers.exists() or not script.exists():
        raise NnbitsError(
            ReasonCode.MISSING_PACKAGE,
            "NNCodec is not installed",
            path="decoder",
            hint="bench/interop.py --setup installs it into .peers",
        )
    wrapper = str(Path(__file__).resolve().parent / "peer_decoder.py")
    limits = Limits(seconds=30, memory=1 << 30, enforce_memory=False)  # the server bounds memory, above its imports
    path = work / "nncodec"
    log = (work / "nncodec.log").open("wb")
    server = subprocess.Popen(
        [str(peers), wrapper, str(script), "--serve", str(path), str(limits.memory)],
        stdin=subprocess.PIPE,  # it ends when we do
        stdout=log,
        stderr=log,
    )
    until = time.monotonic() + _SERVER_SECONDS
    while not path.exists():
        if server.poll() is not None or time.monotonic() > until:
            server.kill()
            said = (work / "nncodec.log").read_text(errors="replace")[-500:]
            raise NnbitsError(ReasonCode.INTERNAL, f"NNCodec does not start: {said}", path="decoder")
        time.sleep(0.1)
    words = [sys.executable, "-I", "-S", wrapper, "--client", str(path), "{in}", "{out}"]
    decoder = CommandDecoder(words, name="nncodec", without=("updates", "exact-updates"), limits=limits)
    weakref.finalize(decoder, _end, server)
    return decoder


def _end(server: subprocess.Popen[bytes]) -> None:
    if server.stdin:
        server.stdin.close()
    server.wait()


#: Builders by name; each gets a folder for what it makes.
ADAPTERS: Final[Mapping[str, Callable[[Path], Decoder]]] = {
    "reference": lambda work: CallableDecoder(reference, name="reference", limits=Limits(60, 2 << 30)),
    "core": lambda work: CallableDecoder(core, name="core", limits=Limits(20, 2 << 30)),
    "c": _c("c", ["gcc"], ["-O2"]),
    "c-portable": _c("c-portable", ["gcc"], ["-O2", "-DNNB_PORTABLE", "-DNNB_WINDOW_BITS=32"]),
    "c-sanitize": _c(
        "c-sanitize", ["clang"], ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    ),
    "c-aarch64": _c("c-aarch64", ["aarch64-linux-gnu-gcc"], ["-O2", "-static"], emulator=["qemu-aarch64"]),
    "c-32": _c("c-32", ["i686-linux-gnu-gcc"], ["-O2", "-static", "-msse2", "-mfpmath=sse"]),
    "c-big-endian": _c("c-big-endian", ["powerpc64-linux-gnu-gcc"], ["-O2", "-static"], emulator=["qemu-ppc64"]),
    "c-big-endian-32": _c("c-big-endian-32", ["mips-linux-gnu-gcc"], ["-O2", "-static"], emulator=["qemu-mips"]),
    "nncodec": _nncodec,
}


def build_adapter(name: str, work: Path) -> Decoder:
    """One of :data:`ADAPTERS`.

    Raises:
        NnbitsError: BAD_OPTION for an unknown name, MISSING_PACKAGE if something it needs is absent.
    """
    if name not in ADAPTERS:
        known = ", ".join(ADAPTERS)
        raise NnbitsError(
            ReasonCode.BAD_OPTION, f"there is no decoder {name!r}", path="decoder", hint=f"Known: {known}"
        )
    if sys.platform == "win32":
        raise NnbitsError(ReasonCode.UNSUPPORTED_FEATURE, "the runner needs a POSIX system", path="decoder")
    return ADAPTERS[name](work)
