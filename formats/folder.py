"""Folders with a model, as Hugging Face has them, and models in several files with an index.

Model files are read by their adapters, all others travel as they are.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from nnbits.codec.atomic import atomic_output
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import Attachment, Model, TensorInfo

from ._input import InputFile
from ._layout import safe_relative
from ._parts import FOLDER, join, parts_of
from .base import Adapter

__all__ = ["ADAPTER", "probe", "read", "write"]

_MAX_INDEX_BYTES: Final = 2**28
_MAX_FILES: Final = 100_000
_SKIPPED: Final = frozenset({ReasonCode.FILE_FORMAT, ReasonCode.UNSUPPORTED_FEATURE})


def probe(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is the index of a model in several files."""
    return head.lstrip().startswith(b"{") and b'"weight_map"' in head


def read(path: Path, /) -> Model:
    """Open a folder with all that is in it, or an index with the files it names.

    Links are followed; what is neither file nor folder is left out. Files in a known format that are damaged travel
    as they are.

    Raises:
        NnbitsError: FILE_NOT_FOUND; FILE_IO; FILE_FORMAT if there is no model file, or the index is damaged;
            MISSING_PACKAGE.
    """
    path = Path(path)
    root = path if path.is_dir() else path.parent
    files = _walk(path) if path.is_dir() else _indexed(path)
    empty = [] if not path.is_dir() else _empty_folders(path)
    models: list[tuple[str, Model]] = []
    beside: set[str] = set()
    for name in files:
        model = _model(root / name)
        if model is not None:
            models.append((name, model))
            folder = Path(name).parent
            beside.update((folder / other).as_posix() for other in model.source.get("beside", ()))
    models = [(name, model) for name, model in models if name not in beside]
    if not any(model.tensors for _, model in models):
        raise NnbitsError(
            ReasonCode.FILE_FORMAT,
            f"{path} holds no model file that nnbits knows",
            path=str(path),
            hint="Name a folder with model files, or the model file",
        )
    known = beside | {name for name, _ in models}
    others = [_attachment(root, name) for name in files if name not in known]
    source: dict[str, Any] = {"suffix": ""}
    if empty:
        source["folders"] = empty
    return join(models, others, source)


def _walk(folder: Path) -> list[str]:
    """Regular files below a folder, in the order of their paths; each folder once, whatever links there are."""
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    todo = [folder]
    try:
        while todo:
            current = todo.pop()
            status = current.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            for entry in os.scandir(current):
                if entry.is_dir():
                    todo.append(Path(entry.path))
                elif entry.is_file():
                    found.append(Path(entry.path).relative_to(folder).as_posix())
            if len(found) > _MAX_FILES:
                raise NnbitsError(ReasonCode.LIMIT, f"{folder} holds more than {_MAX_FILES} files", path=str(folder))
    except OSError as error:
        raise NnbitsError(
            ReasonCode.FILE_IO, f"{folder} could not be read: {error.strerror or error}", path=str(folder)
        ) from error
    return sorted(found)


def _empty_folders(folder: Path) -> list[str]:
    return sorted(
        Path(place).relative_to(folder).as_posix()
        for place, folders, files in os.walk(folder)
        if not folders and not files and Path(place) != folder
    )


def _indexed(path: Path) -> list[str]:
    file = InputFile.of(path, "an index of model files")
    if file.size > _MAX_INDEX_BYTES:
        file.refuse(f"it has {file.size} bytes")
    try:
        index = json.loads(file.read(0, file.size).tobytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        file.refuse(f"it is no JSON: {error}")
    weights = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights.values()):
        file.refuse("it names no files")
    names = sorted({path.name, *weights.values()})
    for name in names:
        try:
            safe_relative(name)
        except NnbitsError:
            file.refuse(f"{name!r:.100} is not beside it")
        InputFile.of(path.parent / name, "a model file")
    return names


def _model(path: Path) -> Model | None:
    from .registry import adapter_for_file

    try:
        adapter = adapter_for_file(path)
        if adapter.name == FOLDER:
            return None
        model = adapter.read(path)
    except NnbitsError as error:
        if error.code in _SKIPPED:
            return None
        raise
    return model if model.tensors else None


def _attachment(root: Path, name: str) -> Attachment:
    file = InputFile.of(root / name, "a file")
    return Attachment(name, file.size, partial(_bytes, file))


def _bytes(file: InputFile) -> bytes:
    return file.read(0, file.size).tobytes()


def write(
    path: Path,
    model: Model,
    /,
    *,
    force: bool = False,
    threads: int = 1,
    on_tensor: Callable[[TensorInfo], None] | None = None,
) -> None:
    """Write the folder that the model was read from, byte for byte.

    It appears complete or not at all. A folder that is there already is replaced as a whole, with ``force``, by one
    that has the new files and the other files of the old one; after an error the old one is as it was.

    Raises:
        NnbitsError: UNSUPPORTED_FEATURE if the model does not come from a folder; METADATA if a path leads out of it;
            FILE_EXISTS if there is a file, or a folder that is not empty and not ``force``, or has a folder where the
            model has a file or the other way round; FILE_IO; what the adapters of the files raise.
    """
    path = Path(path)
    if path.is_symlink() and path.is_dir():
        path = Path(os.path.realpath(path))
    if model.source_format != FOLDER or "files" not in model.source:
        raise NnbitsError(
            ReasonCode.UNSUPPORTED_FEATURE,
            "a folder can only be written from the whole model of a folder",
            path=str(path),
            hint="Choose --to safetensors",
        )
    names, folders = _checked_names(model)
    _check_target(path, force=force)
    temporary = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir()
        for folder in folders:
            (temporary / folder).mkdir(parents=True, exist_ok=True)
        _write_files(temporary, model, names, threads, on_tensor)
        _publish(temporary, path)
    except OSError as error:
        raise NnbitsError(
            ReasonCode.FILE_IO, f"{path} could not be written: {error.strerror or error}", path=str(path)
        ) from error
    finally:
        with suppress(OSError):
            shutil.rmtree(temporary)


def _checked_names(model: Model) -> tuple[list[str], list[str]]:
    """Files of the folder that are attachments, and folders that are empty."""
    parts = parts_of(model)
    beside = [
        (Path(part.path).parent / name).as_posix()
        for part in parts
        for name in part.model.source.get("beside", ())
        if isinstance(name, str)
    ]
    others = [a.name for a in model.attachments if not a.name.startswith("nnbits:")]
    folders = model.source.get("folders", [])
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        folders = []
    everything = [*(part.path for part in parts), *beside, *others]
    for name in (*everything, *folders):
        safe_relative(name)
    if len(set(everything)) != len(everything) or not set(everything).isdisjoint(_parents((*everything, *folders))):
        raise NnbitsError(ReasonCode.METADATA, "two files of the folder have the same path", path="files")
    return others, folders


def _parents(names: Iterable[str]) -> set[str]:
    return {parent.as_posix() for name in names for parent in Path(name).parents}


def _check_target(path: Path, *, force: bool) -> None:
    if not os.path.lexists(path):
        return
    if not path.is_dir() or (not force and any(path.iterdir())):
        raise NnbitsError(
            ReasonCode.FILE_EXISTS,
            f"{path} already exists",
            path=str(path),
            hint="Choose another name, or ask for its files to be replaced (--force)",
        )


def _write_files(
    folder: Path,
    model: Model,
    names: Iterable[str],
    threads: int,
    on_tensor: Callable[[TensorInfo], None] | None,
) -> None:
    from .registry import adapter_by_name

    for part in parts_of(model):
        if part.model.source_format == FOLDER:
            raise NnbitsError(ReasonCode.METADATA, "a folder is described as a file", path=part.path)
        target = folder / safe_relative(part.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        adapter_by_name(part.model.source_format or "").write(target, part.model, threads=threads, on_tensor=on_tensor)
    wanted = set(names)
    for attachment in model.attachments:
        if attachment.name in wanted:
            target = folder / safe_relative(attachment.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_output(target, force=False) as file:
                file.write(attachment.read())


def _publish(temporary: Path, path: Path) -> None:
    if not path.is_dir():
        os.rename(temporary, path)
        return
    _keep_others(path, temporary)
    old = path.with_name(f"{temporary.name}.old")
    try:
        os.rename(path, old)
        os.rename(temporary, path)
    except BaseException:
        if not os.path.lexists(path):
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _keep_others(old: Path, new: Path) -> None:
    """Give the new folder all that is only in the old one, which stays as it is."""
    for place, folders, files in os.walk(old):
        inside = new / Path(place).relative_to(old)
        inside.mkdir(exist_ok=True)
        shutil.copystat(place, inside)
        for name in (*folders, *files):
            source, target = Path(place) / name, inside / name
            is_folder = source.is_dir() and not source.is_symlink()
            if os.path.lexists(target):
                if is_folder != target.is_dir():
                    raise NnbitsError(
                        ReasonCode.FILE_EXISTS,
                        f"{source} is a {'folder' if is_folder else 'file'}, and in the model it is not",
                        path=str(source),
                        hint="Remove it, or choose another name",
                    )
            elif not is_folder:
                _link(source, target)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):  # file systems without hard links
        shutil.copy2(source, target, follow_symlinks=False)


ADAPTER: Final = Adapter(FOLDER, (), probe, read, write)
