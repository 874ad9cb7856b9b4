"""Run a study: data of every part that lacks them, then figures, then the page."""

from __future__ import annotations

import os
from collections.abc import Sequence

from jaxedge.report.figure_style import save, styled
from jaxedge.study.folder import StudyFolder, configuration, open_folder
from jaxedge.study.page import page
from jaxedge.study.questions import QUESTIONS
from jaxedge.study.setting import measured
from jaxedge.study.sizes import SIZES
from jaxedge.words.choices import choice
from jaxedge.words.progress import Progress

CONSTANTS = "constants"
"""Name of the part with the bound's constants, which all questions need."""
FORMATS = (".pdf", ".png")


def run(
    path: str | os.PathLike[str],
    size: str = "full",
    *,
    only: Sequence[str] = (),
    resume: bool = False,
    progress: Progress | None = None,
) -> StudyFolder:
    """Answer the questions of a study into a folder.

    Args:
        path: of the folder.
        size: one of `SIZES`.
        only: names of questions; without any, all but those that the size leaves out.
        resume: go on with the folder; finished parts are kept as they are.
        progress: called with (text, fraction).

    Returns:
        The folder, with a page of all questions that are answered in it.

    Raises:
        ValueError: if a name is not known, or the folder is of another study or cannot be written.
    """
    own = SIZES[choice("size", size, SIZES)]
    names = [choice("question", name, QUESTIONS) for name in only]
    names = names or [name for name in QUESTIONS if name not in own.without]
    folder = open_folder(path, configuration(size, own), resume=resume)
    if not folder.has(CONSTANTS):
        folder.keep(CONSTANTS, measured(own, _told(progress, "constants", 0.0)))
    constants = folder.read(CONSTANTS)
    for number, name in enumerate(names):
        if not folder.has(name):
            told = _told(progress, name, (number + 1) / (len(names) + 1))
            folder.keep(name, QUESTIONS[name].compute(constants, own, told))
        _draw(folder, name)
    answered = {name: folder.read(name) for name in QUESTIONS if folder.has(name)}
    page(folder, size, own, constants, answered)
    return folder


def _told(progress: Progress | None, name: str, fraction: float) -> Progress:
    """Progress within a part, whose share of the whole is not known before."""

    def told(text: str, _: float | None = None) -> None:
        if progress is not None:
            progress(f"{name}: {text}", fraction)

    return told


def _draw(folder: StudyFolder, name: str) -> None:
    """Draw what is not drawn, from the data on disk, so that a resumed study draws the same."""
    lacking = [suffix for suffix in FORMATS if not folder.figure(name, suffix).is_file()]
    if lacking:
        with styled():
            figure = QUESTIONS[name].draw(folder.read(name))
            for suffix in lacking:
                save(figure, folder.figure(name, suffix))
