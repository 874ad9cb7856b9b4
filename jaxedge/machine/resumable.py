"""The folder that appears whole, knows what made it, refuses another's and can be gone on with."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxedge.machine.output_files import (
    PART,
    OutputFileError,
    PathLike,
    to_disk,
    written,
)
from jaxedge.machine.provenance import differences


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resumable:
    """A kind of folder: the work that it holds, and where it says what that work is."""

    work: str
    """In words: "sweep"."""
    read: Callable[[Path], Mapping[str, Any]]
    """The specification in a folder, of plain JSON types; where there is none it raises OSError,
    ValueError, KeyError or TypeError."""
    kind: str = "folder"
    """What users call the folder: "store"."""

    def specification(self, path: PathLike) -> Mapping[str, Any] | None:
        """What has made the folder at ``path``; None where it is not of this kind."""
        try:
            return self.read(Path(path))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def check_free(self, path: PathLike) -> Path:
        """Make sure that new work may have this folder, and return its absolute path.

        Raises:
            OutputFileError: if something is there, or its parent is missing.
        """
        target = Path(path).absolute()
        if not target.parent.is_dir():
            raise OutputFileError(
                f"{path}: the folder {target.parent} does not exist: create it first"
            )
        if self.specification(target) is not None:
            raise OutputFileError(
                f"{path}: exists already: go on with it by --resume (resume=True), or give "
                "another folder"
            )
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise OutputFileError(
                f"{path}: is there and is not the {self.kind} of a {self.work}: give another folder"
            )
        return target

    def create(self, path: PathLike, fill: Callable[[Path], None]) -> Path:
        """Make a new folder by ``fill`` under another name; it appears whole or not at all.

        Raises:
            OutputFileError: if something is there, or it cannot be written.
        """
        target = self.check_free(path)
        beside = target.with_name(f".jaxedge-{secrets.token_hex(8)}.new")
        with written(path):
            beside.mkdir()
            try:
                fill(beside)
                if target.is_dir():  # an empty one
                    target.rmdir()
                os.rename(beside, target)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
            to_disk(target.parent)
        return target

    def reopen(self, path: PathLike, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make sure that a folder is of this work, and remove what a killed process left half done.

        Args:
            path: of the folder.
            wanted: the specification, or some entries of it; others may differ.

        Returns:
            The folder's own specification.

        Raises:
            OutputFileError: if it is not of this kind, of other work (with the difference), in use,
                or cannot be written.
        """
        told = self.specification(path)
        if told is None:
            raise OutputFileError(
                f"{path}: is not the {self.kind} of a {self.work}: give one to resume"
            )
        before, now = {key: told.get(key) for key in wanted}, json.loads(json.dumps(wanted))
        if before != now:
            changed = differences(before, now, where=self.kind)
            raise OutputFileError(
                f"{path}: holds another {self.work} ({changed}): give another folder"
            )
        with held(path), written(path):
            for left in Path(path).rglob(PART.format("*")):
                left.unlink(missing_ok=True)
            trial = Path(path) / PART.format(secrets.token_hex(8))
            trial.touch(exist_ok=False)
            trial.unlink()
        return told


def json_file(name: str) -> Callable[[Path], Mapping[str, Any]]:
    """Reads the specification from a JSON file of the folder, for `Resumable.read`."""

    def read(path: Path) -> Mapping[str, Any]:
        told = json.loads((path / name).read_text(encoding="utf-8"))
        if not isinstance(told, dict):
            raise TypeError(f"{name} holds no object")
        return told

    return read


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
