"""codec.atomic: a target is complete or untouched, and no temporary file stays."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnbits.codec import atomic
from nnbits.codec.atomic import atomic_output
from nnbits.codec.errors import NnbitsError, ReasonCode

posix_only = pytest.mark.skipif(os.name == "nt", reason="POSIX files")
unprivileged_only = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="root may write to read-only folders"
)


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def write(path: Path, data: bytes, *, force: bool = False) -> None:
    with atomic_output(path, force=force) as file:
        file.write(data)


@pytest.mark.parametrize("force", [False, True])
def test_writes_a_new_file(tmp_path: Path, force: bool) -> None:
    write(tmp_path / "a.nnc", b"data", force=force)
    assert (tmp_path / "a.nnc").read_bytes() == b"data"
    assert names(tmp_path) == ["a.nnc"]


def test_the_target_does_not_appear_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.nnc"
    with atomic_output(path, force=False) as file:
        file.write(b"data")
        assert not path.exists()
        (temporary,) = names(tmp_path)
        assert temporary.startswith(".a.nnc.")
        assert temporary.endswith(".tmp")


def test_an_existing_file_is_refused_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(NnbitsError) as caught, atomic_output(path, force=False):
        pytest.fail("the block must not run")
    assert caught.value.code is ReasonCode.FILE_EXISTS
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def no_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(atomic.os, "link", no_links)
    path = tmp_path / "a"

    def race() -> None:
        with atomic_output(path, force=False) as file:
            file.write(b"mine")
            path.write_bytes(b"theirs")

    with pytest.raises(NnbitsError) as caught:
        race()
    assert caught.value.code is ReasonCode.FILE_EXISTS
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["a"]


def test_works_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic.os, "link", no_links)
    write(tmp_path / "a", b"data")
    assert (tmp_path / "a").read_bytes() == b"data"
    assert names(tmp_path) == ["a"]


def test_force_replaces_and_keeps_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o600)
    write(path, b"new", force=True)
    assert path.read_bytes() == b"new"
    if os.name != "nt":
        assert path.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["a"]


@posix_only
def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write(tmp_path / "a", b"data")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


@posix_only
def test_a_link_is_replaced_and_its_target_untouched(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"old")
    (tmp_path / "a").symlink_to("blob")
    with pytest.raises(NnbitsError) as caught:
        write(tmp_path / "a", b"new")
    assert caught.value.code is ReasonCode.FILE_EXISTS
    write(tmp_path / "a", b"new", force=True)
    assert (tmp_path / "blob").read_bytes() == b"old"
    assert (tmp_path / "a").read_bytes() == b"new"
    assert not (tmp_path / "a").is_symlink()


@posix_only
def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("nowhere")
    with pytest.raises(NnbitsError) as caught:
        write(tmp_path / "a", b"new")
    assert caught.value.code is ReasonCode.FILE_EXISTS


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("force", [False, True])
def test_an_exception_leaves_nothing(tmp_path: Path, exception: type[BaseException], force: bool) -> None:
    path = tmp_path / "a"
    if force:
        path.write_bytes(b"old")
    before = names(tmp_path)

    def fail() -> None:
        with atomic_output(path, force=force) as file:
            file.write(b"x" * 100_000)
            raise exception

    with pytest.raises(exception):
        fail()
    assert names(tmp_path) == before
    assert not force or path.read_bytes() == b"old"


def test_an_own_error_passes_unchanged(tmp_path: Path) -> None:
    error = NnbitsError(ReasonCode.BAD_TENSOR, "bad")
    with pytest.raises(NnbitsError) as caught, atomic_output(tmp_path / "a", force=False):
        raise error
    assert caught.value is error
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES])
def test_an_os_error_becomes_file_io(tmp_path: Path, number: int) -> None:
    path = tmp_path / "model.nnc"
    with pytest.raises(NnbitsError) as caught, atomic_output(path, force=False):
        raise OSError(number, os.strerror(number))
    assert caught.value.code is ReasonCode.FILE_IO
    assert "model.nnc" in caught.value.message
    assert caught.value.hint or number == errno.EIO
    assert names(tmp_path) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_at_the_end_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "a"
    path.write_bytes(b"old")
    monkeypatch.setattr(atomic.os, call, fail)
    with pytest.raises(NnbitsError) as caught:
        write(path, b"new", force=True)
    assert caught.value.code is ReasonCode.FILE_IO
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_file_system_without_fsync_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(atomic.os, "fsync", fail)
    write(tmp_path / "a", b"data")
    assert (tmp_path / "a").read_bytes() == b"data"


LIMITED = """
import resource, signal, sys
from pathlib import Path
from nnbits.codec.atomic import atomic_output
from nnbits.codec.errors import NnbitsError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with atomic_output(Path(sys.argv[1]), force=False) as file:
        for _ in range(int(sys.argv[2])):
            file.write(bytes(1001))
except NnbitsError as error:
    print(error.code.name, bool(error.hint))
"""


@posix_only
@pytest.mark.parametrize("writes", [100, 1000])  # the limit met in the last flush, and in a write
def test_a_full_disk_leaves_nothing(tmp_path: Path, writes: int) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LIMITED, str(tmp_path / "a"), str(writes)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["FILE_IO", "True"]
    assert done.stderr == ""
    assert names(tmp_path) == []


@pytest.mark.parametrize("force", [False, True])
def test_impossible_targets(tmp_path: Path, force: bool) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (
        tmp_path,
        tmp_path / "missing" / "a",
        tmp_path / "file" / "a",
        tmp_path / "a\0b",
        tmp_path / ("x" * 300),
    ):
        with pytest.raises(NnbitsError) as caught:
            write(path, b"data", force=force)
        assert caught.value.code is ReasonCode.FILE_IO
        assert caught.value.path == str(path)
    assert names(tmp_path) == ["file"]


@posix_only
@pytest.mark.parametrize("force", [False, True])
def test_a_pipe_is_not_replaced(tmp_path: Path, force: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NnbitsError) as caught:
        write(tmp_path / "pipe", b"data", force=force)
    assert caught.value.code is ReasonCode.FILE_IO
    assert names(tmp_path) == ["pipe"]


@unprivileged_only
def test_a_read_only_folder(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(NnbitsError) as caught:
        write(folder / "a", b"data")
    assert caught.value.code is ReasonCode.FILE_IO


@pytest.mark.parametrize("name", ["x" * 255, "日" * 85, ".hidden", "white space", "a.b.c"])
def test_any_name_that_the_file_system_allows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path, b"1")
    write(path, b"2", force=True)
    assert path.read_bytes() == b"2"


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("a"), b"data")
    assert names(tmp_path) == ["a"]
