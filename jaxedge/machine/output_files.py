"""Output files: found writable before anything is computed, and written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PathLike = str | os.PathLike[str]


class OutputFileError(ValueError):
    """A file that cannot be written, in words."""


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
    try:
        # The name itself is tried too: it may be too long, or hold what the system refuses.
        for trial in (_beside(target), target):
            if not trial.exists():
                trial.touch()
                trial.unlink()
    except OSError as error:
        raise OutputFileError(f"{path}: cannot be written: {error.strerror}") from error


def write_whole(path: PathLike, content: bytes) -> None:
    """Write ``content`` to ``path``; what was there stays until all of it is on disk.

    Raises:
        OutputFileError: naming the path and what is wrong with it.
    """
    target = _target(path)
    beside = target if _in_place(target) else _beside(target)
    try:
        beside.write_bytes(content)
        if beside is not target:
            if os.path.exists(target):
                shutil.copymode(target, beside)
            os.replace(beside, target)
    except OSError as error:
        if beside is not target:
            beside.unlink(missing_ok=True)
        raise OutputFileError(f"{path}: cannot be written: {error.strerror}") from error


@contextmanager
def held(folder: PathLike) -> Iterator[None]:
    """Keep other processes out of a folder; they are let in when this one ends, however it ends.

    Nothing is written. File systems and systems without such locks keep nobody out.

    Raises:
        OutputFileError: if another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise OutputFileError(
                    f"{folder}: another process writes to it: wait until it has ended, or give "
                    "another folder"
                ) from None
        yield
    finally:
        os.close(descriptor)


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
    return target.with_name(f".jaxedge-{os.getpid()}.part")
