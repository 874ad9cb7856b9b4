"""What all figures share: one column of a two-column paper, colours, and how they are written."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxedge.machine.output_files import OutputFileError, check_writable, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PathLike = str | os.PathLike[str]

FORMATS = (".png", ".pdf", ".svg")
"""Accepted suffixes of figure files."""

COLUMN = 3.5
"""Inches, the width of one column of a two-column paper."""

# Okabe and Ito's colours, which colour-blind people tell apart too.
BLUE, SKY, ORANGE, VERMILION = "#0072B2", "#56B4E9", "#E69F00", "#D55E00"
GREEN, PURPLE, GREY, BLACK = "#009E73", "#CC79A7", "#BBBBBB", "#000000"

_STYLE: dict[Any, Any] = {
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxedge",  # identifiers in the file, the same every time
    "pdf.fonttype": 42,
}


def check_figure_path(path: PathLike) -> None:
    """Make sure that a figure can be written to ``path``, before anything is computed.

    Raises:
        OutputFileError: if the suffix is not one of ``FORMATS`` or the file cannot be written.
    """
    suffix = Path(path).suffix
    if suffix.lower() not in FORMATS:
        named = f"the suffix {suffix!r} is unknown" if suffix else "has no suffix"
        raise OutputFileError(f"{os.fspath(path)}: {named}: must be one of {', '.join(FORMATS)}")
    check_writable(path)


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Within it figures are drawn and written in the common style."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield


def new_figure(height: float, width: float = COLUMN) -> Figure:
    """An empty figure of so many inches, without a display and outside pyplot's list."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: PathLike) -> None:
    """Write a figure as its suffix says, whole or not at all.

    Raises:
        OutputFileError: if the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    content = io.BytesIO()
    # No dates inside: the same content gives the same file.
    stamp = {".pdf": "CreationDate", ".svg": "Date"}.get(suffix)
    metadata = {} if stamp is None else {stamp: None}
    figure.savefig(content, format=suffix[1:], dpi=300, metadata=metadata)
    write_whole(path, content.getvalue())


def spread(centres: Sequence[float], apart: float, least: float, most: float) -> list[float]:
    """Ascending places near ascending ``centres``, ``apart`` from each other and inside limits."""
    places: list[float] = []
    for centre in centres:
        places.append(max(centre, least, places[-1] + apart if places else least))
    ceiling = most
    for index in range(len(places) - 1, -1, -1):
        places[index] = min(places[index], ceiling)
        ceiling = places[index] - apart
    return places
