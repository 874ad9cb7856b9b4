"""How a sweep is cut: chunks of its arrays, tasks that compute them, and blocks solved together.

Blocks are the same whatever the chunks are, so that the last bits of an answer, which depend on
what is solved beside it, do not depend on the chunks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from jaxedge.sweeps.sweep import Sweep

_CELLS_APART = 16
"""Elements of a chunk whose draws do not fit into one task."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The cut of one sweep."""

    shape: tuple[int, ...]
    """Lengths of the kept axes."""
    draws: int
    """Draws behind each element; 1 where nothing is reduced."""
    chunk: tuple[int, ...]
    """Shape of a chunk over the kept axes."""
    draws_each: int
    """Draws of one task: a power of two, or all."""
    block: int

    @property
    def grid(self) -> tuple[int, ...]:
        """How many chunks along each axis."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunk, strict=True))

    @property
    def chunks(self) -> int:
        """How many chunks."""
        return math.prod(self.grid)

    @property
    def parts(self) -> int:
        """How many tasks a chunk takes."""
        return -(-self.draws // self.draws_each)

    @property
    def rows(self) -> int:
        """How many scenarios."""
        return math.prod(self.shape) * self.draws

    def place(self, chunk: int) -> tuple[slice, ...]:
        """Where a chunk stands along the kept axes."""
        at = np.unravel_index(chunk, self.grid) if self.grid else ()
        return tuple(
            slice(int(i) * c, min((int(i) + 1) * c, n))
            for i, c, n in zip(at, self.chunk, self.shape, strict=True)
        )

    def cells(self, chunk: int) -> range:
        """The elements of a chunk by number: they follow each other."""
        place = self.place(chunk)
        first = [part.start for part in place]
        start = int(np.ravel_multi_index(first, self.shape)) if self.shape else 0
        return range(start, start + math.prod(part.stop - part.start for part in place))

    def ranges(self, chunk: int, part: int) -> list[tuple[int, int]]:
        """(first, last + 1) of the rows of a task."""
        cells = self.cells(chunk)
        if self.parts == 1:
            return [(cells.start * self.draws, cells.stop * self.draws)]
        low = part * self.draws_each
        high = min(low + self.draws_each, self.draws)
        return [(cell * self.draws + low, cell * self.draws + high) for cell in cells]

    def blocks(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The blocks that cover the rows from ``first`` to ``last``."""
        period = self.draws if self.draws > self.block else self.rows
        row = first
        while row < last:
            base = row // period * period
            start = base + (row - base) // self.block * self.block
            row = min(start + self.block, base + period)
            yield start, row


def layout_of(sweep: Sweep, chunk: int) -> Layout:
    """Cut a sweep into chunks of about ``chunk`` scenarios, a block at least."""
    chunk = max(chunk, sweep.block)
    shape, draws = tuple(len(axis) for axis in sweep.kept), sweep.draws
    room = max(chunk // draws, 1)
    each = draws
    if draws > chunk:
        room = min(_CELLS_APART, math.prod(shape))
        each = 1 << (max(chunk // room, sweep.block) - 1).bit_length()
    return Layout(
        shape=shape,
        draws=draws,
        chunk=_greedy(shape, room, sweep.block // math.gcd(draws, sweep.block)),
        draws_each=min(each, draws),
        block=sweep.block,
    )


def _greedy(shape: tuple[int, ...], room: int, multiple: int) -> tuple[int, ...]:
    """The last axes whole and a piece of the one before, at most ``room`` elements together."""
    chunk: list[int] = []
    for length in reversed(shape):
        piece = min(length, max(room, 1))
        if 1 < piece < length:  # whole blocks where that costs little, so that none is solved twice
            whole = multiple // math.gcd(multiple, math.prod(chunk))
            piece = piece // whole * whole or piece
        chunk.append(piece)
        room = room // piece if piece == length else 1
    return tuple(reversed(chunk))
