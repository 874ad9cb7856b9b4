"""Output files: found writable before anything is computed, and written whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PathLike = str | os.PathLike[str]


PART = ".jaxedge-{}.part"
"""Name of a file until all of it is there; what is put in differs for every file."""


class OutputFileError(ValueError):
    """A file that cannot be written, in words."""


@contextmanager
def written(path: PathLike) -> Iterator[None]:
    """Name ``path`` where the system refuses to write.

    Raises:
        OutputFileError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise OutputFileError(f"{path}: cannot be written: {error.strerror or error}") from error


def check_writable(path: PathLike) -> None:
    """Make sure that ``path`` can be written, by making it and removing it again.

    Raises:
        OutputFileError: naming the path and what is wrong with it.
    """
    target = _target(path)
    if os.path.isdir(target):
        raise OutputFileError(f"{target}: is a directory: give a file name")
    if not os.path.isdir(target.parent):
        raise OutputFileError(f"{path}: the folder {target.parent} does not exist: create it first")
    if os.path.exists(target) and not os.access(target, os.W_OK):
        raise OutputFileError(f"{path}: cannot be written: permission denied")
    if _in_place(target):
        return
    with written(path):
        # The name itself is tried too: it may be too long, or hold what the system refuses.
        for trial in (_beside(target), target):
            with suppress(FileExistsError):
                trial.touch(exist_ok=False)
                trial.unlink()


def write_whole(path: PathLike, content: bytes) -> None:
    """Write ``content`` to ``path``; what was there stays until all of it is on disk.

    Raises:
        OutputFileError: naming the path and what is wrong with it.
    """
    target = _target(path)
    with written(path):
        if _in_place(target):
            target.write_bytes(content)
            return
        beside = _beside(target)
        try:
            with open(beside, "xb") as file:  # new: no link that was laid there is followed
                file.write(content)
            if os.path.exists(target):
                shutil.copymode(target, beside)
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def write_json(path: PathLike, content: Any) -> None:
    """Write plain JSON types to ``path``, whole.

    Raises:
        OutputFileError: naming the path and what is wrong with it.
    """
    write_whole(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def to_disk(path: Path) -> None:
    """Wait until a file or folder is on disk; one that is not there has nothing to wait for."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _target(path: PathLike) -> Path:
    """The file behind ``path``: a link stays a link."""
    if "\0" in os.fspath(path):
        raise OutputFileError(f"{os.fspath(path)!r}: is no file name: it holds a NUL character")
    return Path(os.path.realpath(path))


def _in_place(target: Path) -> bool:
    """Whether to write into what is there: a pipe, a terminal, a file in a read-only folder."""
    regular, replaceable = os.path.isfile(target), os.access(target.parent, os.W_OK)
    return os.path.exists(target) and not (regular and replaceable)


def _beside(target: Path) -> Path:
    return target.with_name(PART.format(secrets.token_hex(8)))
