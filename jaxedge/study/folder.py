"""The folder of a study: what it is, finished data, figures and the page.

    study.json    size, settings, versions: what the study is
    data/         a table for each finished part, as CSV
    figures/      of each question, as .pdf and .png
    study.md      the page

Every file appears whole, so that a study that was interrupted goes on with what it lacks.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from jaxedge.machine.output_files import write_json, write_whole
from jaxedge.machine.provenance import environment
from jaxedge.machine.resumable import Resumable, json_file
from jaxedge.study.table import Table

SCHEMA = 1
"""Raised whenever the same size would give other data, so that older folders are refused."""
CONFIG, DATA, FIGURES, PAGE = "study.json", "data", "figures", "study.md"
PREFIX = "study-"
"""Of the figures' names, which stand beside others in the documentation."""


@dataclasses.dataclass(frozen=True)
class StudyFolder:
    """A study on disk; build it by `open_folder`."""

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


FOLDER = Resumable(work="study", read=json_file(CONFIG))
"""What is asked of the folder of a study."""


def open_folder(
    path: str | os.PathLike[str], config: dict[str, Any], *, resume: bool
) -> StudyFolder:
    """A new folder, or with ``resume`` the one of the same study.

    Raises:
        OutputFileError: if something else is there, it is of another study or version, or it cannot
            be written.
    """
    target = Path(path).absolute()
    if resume and target.exists():
        FOLDER.reopen(path, config)
        return StudyFolder(target)

    def fill(folder: Path) -> None:
        for name in (DATA, FIGURES):
            (folder / name).mkdir()
        write_json(folder / CONFIG, config)

    return StudyFolder(FOLDER.create(path, fill))
