"""Aligned plain-text tables and paragraphs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 88
"""Columns that paragraphs are wrapped to."""


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right.

    Rows shorter than the first are filled up with empty cells.
    """
    count = len(rows[0])
    full = [[*row, *[""] * (count - len(row))] for row in rows]
    widths = [max(len(row[column]) for row in full) for column in range(count)]
    lines = []
    for row in full:
        rest = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([f"{row[0]:<{widths[0]}}", *rest]).rstrip())
    return lines


def paragraph(text: str, indent: str = "  ") -> list[str]:
    """Lines of wrapped text."""
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


def index_ranges(indices: Sequence[int]) -> str:
    """Sorted indices as ranges: "0-3, 7"."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
