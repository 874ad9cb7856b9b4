"""The folder of a study: what it is, finished data, figures and the page.

    study.json    size, settings, versions: what the study is
    data/         a table for each finished part, as CSV
    figures/      of each question, as .pdf and .png
    study.md      the page

Every file appears whole, so that a study that was interrupted goes on with what it lacks.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

from jaxedge.machine.output_files import OutputFileError, write_whole
from jaxedge.machine.provenance import differences, environment
from jaxedge.study.table import Table

SCHEMA = 1
"""Raised whenever the same size would give other data, so that older folders are refused."""
CONFIG, DATA, FIGURES, PAGE = "study.json", "data", "figures", "study.md"
PREFIX = "study-"
"""Of the figures' names, which stand beside others in the documentation."""


@dataclasses.dataclass(frozen=True)
class StudyFolder:
    """A study on disk; build it by `opened`."""

    path: Path

    def data(self, name: str) -> Path:
        """The file of a part's data."""
        return self.path / DATA / f"{name}.csv"

    def figure(self, name: str, suffix: str) -> Path:
        """The file of a question's figure."""
        return self.path / FIGURES / f"{PREFIX}{name}{suffix}"

    @property
    def page(self) -> Path:
        """The file of the page."""
        return self.path / PAGE

    def has(self, name: str) -> bool:
        """Whether a part's data are there."""
        return self.data(name).is_file()

    def read(self, name: str) -> Table:
        """A part's data.

        Raises:
            ValueError: if the file is no table.
        """
        try:
            return Table.read(self.data(name).read_text(encoding="utf-8"))
        except (ValueError, UnicodeDecodeError):
            raise ValueError(
                f"{self.data(name)}: is not what a study has written: remove it and go on with "
                "--resume"
            ) from None

    def keep(self, name: str, table: Table) -> None:
        """Write a part's data."""
        write_whole(self.data(name), table.csv().encode())


def configuration(size_name: str, size: Any) -> dict[str, Any]:
    """What decides a study's data to the last bit, as plain JSON types."""
    return {
        "schema": SCHEMA,
        "size": size_name,
        **dataclasses.asdict(size),
        "environment": environment(),
    }


def opened(path: str | os.PathLike[str], config: dict[str, Any], *, resume: bool) -> StudyFolder:
    """A new folder, or with ``resume`` the one of the same study.

    Raises:
        ValueError: if something else is there, it is of another study or version, or it cannot be
            written.
    """
    target = Path(path).absolute()
    if resume and target.exists():
        _check_same(path, target, config)
        return StudyFolder(target)
    if not target.parent.is_dir():
        raise OutputFileError(f"{path}: the folder {target.parent} does not exist: create it first")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise OutputFileError(
            f"{path}: exists already: go on with it by --resume, or give another folder"
        )
    beside = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        for name in (DATA, FIGURES):
            (beside / name).mkdir(parents=True)
        write_whole(beside / CONFIG, (json.dumps(config, indent=1) + "\n").encode())
        if target.is_dir():  # an empty one
            target.rmdir()
        os.rename(beside, target)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise OutputFileError(f"{path}: cannot be written: {error.strerror or error}") from error
    return StudyFolder(target)


def _check_same(path: str | os.PathLike[str], target: Path, config: dict[str, Any]) -> None:
    try:
        told = json.loads((target / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(f"{path}: is not the folder of a study: give one to resume") from None
    if told != json.loads(json.dumps(config)):
        changed = differences(told, config, where="folder")
        raise ValueError(f"{path}: holds another study ({changed}): give another folder")
