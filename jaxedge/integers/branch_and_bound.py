"""Branch and bound: closes the certified gap of integer designs.

A node is a box of rounds and batches (`jaxedge.integers.boxes`) with the Lagrangian bound of
its program.
A sweep takes the nodes of lowest bound from every search; each is split in several ways where few
are open, and the split that raises the bound most is kept. What a split costs is foreseen from the
loss at the relaxed optimum, corrected by what splits of that coordinate did before.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Callable

import jax
import numpy as np

from jaxedge.integers.boxes import Box, JudgedBoxes, judge_boxes, whole_box
from jaxedge.integers.local_search import (
    Integer,
    best_of,
    first_candidates,
    flat,
    solve_batches,
    spread,
    whole_rounds,
)
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import put, take
from jaxedge.program.design import Design
from jaxedge.program.program import Program

_PAIRS = 16
"""Splits tried in a sweep of one search: their boxes fill a small chunk."""
_NODES = 8
"""Nodes split in a sweep of one search."""
_LEAST_LOSS = 1e-12
"""Loss of a coordinate that is whole already: split only when nothing else is left."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Node:
    bound: float
    box: Box
    point: np.ndarray
    loss: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Split:
    """A node cut in two at a coordinate: at most ``at``, and more."""

    node: _Node
    coordinate: int
    at: float

    def halves(self) -> tuple[Box, Box]:
        upper, lower = np.array(self.node.box.upper), np.array(self.node.box.lower)
        if lower[self.coordinate] < upper[self.coordinate]:
            upper[self.coordinate], lower[self.coordinate] = self.at, self.at + 1
        return (
            Box(lower=self.node.box.lower, upper=upper),
            Box(lower=lower, upper=self.node.box.upper),
        )


def _splits(node: _Node, ratios: np.ndarray, count: int) -> list[_Split]:
    """The ``count`` splits of which most is expected; a point is split into itself."""
    lower, upper = node.box.lower, node.box.upper
    expected = np.where(upper > lower, ratios * (node.loss + _LEAST_LOSS), -1.0)
    order = np.argsort(-expected, kind="stable")[:count]
    chosen = [i for i in order if upper[i] > lower[i]] or [0]
    at = np.clip(np.floor(node.point * (1 + _LEAST_LOSS)), lower, upper - 1)
    return [_Split(node=node, coordinate=int(i), at=float(at[i])) for i in chosen]


class _Search:
    """The tree of one program."""

    def __init__(self, value: float, bound: float, gap: float, max_nodes: int) -> None:
        self.value, self.bound, self.nodes = value, bound, 0
        self.design: Design | None = None
        self._gap, self._max_nodes = gap, max_nodes
        self._undecided, self._excluded = np.inf, np.inf
        self._open: list[tuple[float, int, _Node]] = []
        self._pushed = 0
        self._gained: dict[int, float] = {}
        self._foreseen: dict[int, float] = {}

    @property
    def cutoff(self) -> float:
        """What is no lower is of no interest."""
        rounding = 1 + 4 * float(np.finfo(float).eps)
        return min(self.value / (1 + self._gap) * rounding, self.value)

    @property
    def reached(self) -> bool:
        """Whether the gap is closed, or it is proven that there is no design."""
        return self.bound >= self.cutoff

    @property
    def alive(self) -> bool:
        """Whether another sweep may help and is allowed."""
        return bool(self._open) and not self.reached and self.nodes < self._max_nodes

    def offer(self, value: float, design: Callable[[], Design]) -> None:
        """A feasible whole design."""
        if value < self.value:
            self.value, self.design = value, design()

    def choose(self) -> list[_Split]:
        """Splits of the most promising nodes: many ways each while few are open."""
        nodes: list[_Node] = []
        while self._open and len(nodes) < _NODES:
            nodes.append(heapq.heappop(self._open)[2])
        size = len(nodes[0].loss)
        ratios = np.ones(size)
        for i, gained in self._gained.items():
            ratios[i] = gained / self._foreseen[i]
        ways = max(_PAIRS // len(nodes), 1)
        return [split for node in nodes for split in _splits(node, ratios, ways)]

    def grow(self, splits: list[_Split], judged: JudgedBoxes, start: int) -> list[int]:
        """Keep the best split of each node; its halves are judged from ``start`` on.

        Returns:
            The positions of the nodes that stay open.
        """
        self.nodes += 2 * len(splits)
        kept = []
        for _, group in itertools.groupby(enumerate(splits), key=lambda pair: id(pair[1].node)):
            kept += self._replace(list(group), judged, start)
        return kept

    def _replace(
        self, group: list[tuple[int, _Split]], judged: JudgedBoxes, start: int
    ) -> list[int]:
        node, scores = group[0][1].node, []
        lower, upper = np.array(node.box.lower), np.array(node.box.upper)
        for place, split in group:
            bounds = judged.bound[start + 2 * place : start + 2 * place + 2]
            scores.append(self._score(split, bounds))
            # A half without interest is cut off all other splits of the node, too.
            self._exclude(*(bound for bound in bounds if bound >= self.cutoff))
            if bounds[0] >= self.cutoff:
                lower[split.coordinate] = split.halves()[1].lower[split.coordinate]
            if bounds[1] >= self.cutoff:
                upper[split.coordinate] = split.halves()[0].upper[split.coordinate]
        place = group[int(np.argmax(scores))][0]
        rows = [start + 2 * place, start + 2 * place + 1]
        return [row for row in rows if self.enter(judged, row, Box(lower=lower, upper=upper))]

    def _score(self, split: _Split, bounds: np.ndarray) -> float:
        finite = [self.cutoff, *bounds, split.node.bound + 1]
        cap = next(x for x in finite if np.isfinite(x))
        gains = np.minimum(bounds, cap) - split.node.bound
        score = float((5 * np.min(gains) + np.max(gains)) / 6)
        i = split.coordinate
        self._gained[i] = self._gained.get(i, 0.0) + score
        self._foreseen[i] = self._foreseen.get(i, 0.0) + float(split.node.loss[i]) + _LEAST_LOSS
        return score

    def enter(self, judged: JudgedBoxes, row: int, within: Box) -> bool:
        """Put a judged box among the open nodes, if anything in it is of interest."""
        bound = float(judged.bound[row])
        if bound >= self.cutoff:
            self._exclude(bound)
            return False
        if np.all(judged.boxes.lower[row] == judged.boxes.upper[row]):
            # A point is its corner: already offered, or within rounding of the budgets.
            if not judged.corner.fits[row]:
                self._undecided = min(self._undecided, bound)
            return False
        outlook = take(judged.outlook, np.asarray(row))
        if judged.shrunk[row]:
            self._exclude(float(judged.cutoffs[row]))
        box = Box(
            lower=np.maximum(outlook.box.lower, within.lower),
            upper=np.minimum(outlook.box.upper, within.upper),
        )
        if np.any(box.lower > box.upper):
            return False
        node = _Node(bound=bound, box=box, point=outlook.point, loss=outlook.loss)
        heapq.heappush(self._open, (bound, self._pushed, node))
        self._pushed += 1
        return True

    def _exclude(self, *bounds: float) -> None:
        """Remember what is proven of boxes that are not looked at again."""
        self._excluded = min([self._excluded, *bounds])

    def settle(self) -> None:
        """Update the bound after a sweep."""
        while self._open and self._open[0][0] >= self.cutoff:
            self._exclude(heapq.heappop(self._open)[0])
        lowest = self._open[0][0] if self._open else np.inf
        bound = min(lowest, self._undecided, self._excluded)
        self.bound = min(max(self.bound, bound), self.value)


def _offer_corners(searches: list[_Search], owners: np.ndarray, judged: JudgedBoxes) -> None:
    values = np.where(judged.corner.fits, judged.corner.design.value, np.inf)
    for row in np.flatnonzero(np.isfinite(values)):
        searches[owners[row]].offer(
            float(values[row]), lambda row=row: take(judged.corner.design, np.asarray(row))
        )


def _offer_rounded(
    searches: list[_Search], owners: np.ndarray, judged: JudgedBoxes, rows: list[int]
) -> None:
    """Whole designs near the relaxed optima of the boxes in ``rows``."""
    if not rows:
        return
    index = np.asarray(rows)
    programs, relaxed = take(judged.programs, index), take(judged.relaxed, index)
    starts = in_chunks(first_candidates, programs, relaxed.design, take(judged.prices, index))
    candidates = best_of(solve_batches(spread(programs, 3), flat(starts)), 3)
    values = np.array([searches[i].value for i in owners[index]])
    promising = np.flatnonzero(candidates.answer.design.value < values)
    if not promising.size:
        return
    designs = whole_rounds(take(programs, promising), take(candidates, promising))
    for place, row in enumerate(index[promising]):
        searches[owners[row]].offer(
            float(designs.value[place]), lambda place=place: take(designs, np.asarray(place))
        )


def _sweep(programs: Program, searches: list[_Search], gap: float) -> None:
    """Split the most promising nodes of all searches that are alive."""
    chosen = [(i, search.choose()) for i, search in enumerate(searches) if search.alive]
    splits = [(i, split) for i, some in chosen for split in some]
    halves = [half for _, split in splits for half in split.halves()]
    boxes: Box = jax.tree.map(lambda *xs: np.stack(xs), *halves)
    owners = np.repeat([i for i, _ in splits], 2)
    floors = np.repeat([split.node.bound for _, split in splits], 2)
    judged = _judge(programs, searches, owners, boxes, floors, gap)
    start, kept = 0, []
    for i, some in chosen:
        kept += searches[i].grow(some, judged, start)
        start += 2 * len(some)
    _offer_rounded(searches, owners, judged, kept)
    for search in searches:
        search.settle()


def _judge(
    programs: Program,
    searches: list[_Search],
    owners: np.ndarray,
    boxes: Box,
    floors: np.ndarray,
    gap: float,
) -> JudgedBoxes:
    cutoffs = np.array([searches[i].cutoff for i in owners])
    judged = judge_boxes(take(programs, owners), boxes, floors, cutoffs, gap)
    _offer_corners(searches, owners, judged)
    return judged


def _plant(programs: Program, searches: list[_Search], gap: float) -> None:
    """Bound the roots."""
    roots = whole_box(programs)
    owners = np.arange(len(searches))
    floors = np.array([search.bound for search in searches])
    judged = _judge(programs, searches, owners, roots, floors, gap)
    for i, search in enumerate(searches):
        search.nodes += 1
        search.enter(judged, i, take(roots, np.asarray(i)))
        search.settle()


def branch_and_bound(
    programs: Program,
    whole: Integer,
    *,
    gap: float,
    max_nodes: int = 2000,
    progress: Callable[[str, float | None], None] | None = None,
) -> Integer:
    """Close the certified gaps of integer designs; those within ``gap`` are left as they are.

    Args:
        programs: batch of feasible programs.
        whole: their integer designs and bounds; a value of inf where none is known.
        gap: certified relative gap to reach, 0 for the very best.
        max_nodes: boxes to bound for each program before giving up, about.
        progress: told what is being done and the share of programs done.

    Returns:
        Designs and bounds no worse than before; where no design exists both are inf.
    """
    value, bound = np.asarray(whole.design.value), np.asarray(whole.lower_bound)
    open_ones = np.flatnonzero(~(value <= bound * (1 + gap)))
    searches = [_Search(float(value[i]), float(bound[i]), gap, max_nodes) for i in open_ones]
    some = take(programs, open_ones)
    precision = float(np.clip(0.1 * gap, 1e-8, 1e-5))
    if searches:
        _plant(some, searches, precision)
    while any(search.alive for search in searches):
        if progress is not None:
            done = sum(not search.alive for search in searches)
            nodes = sum(search.nodes for search in searches)
            progress(f"branch and bound: {nodes} nodes", (done + 0.5) / (len(searches) + 1))
        _sweep(some, searches, precision)
    return _with_results(whole, open_ones, searches)


def _with_results(whole: Integer, index: np.ndarray, searches: list[_Search]) -> Integer:
    design, bound = whole.design, np.array(whole.lower_bound)
    for i, search in zip(index, searches, strict=True):
        bound[i] = search.bound
        if search.design is not None:
            one: Design = jax.tree.map(lambda x: np.asarray(x)[None], search.design)
            design = put(design, np.asarray([i]), one)
    return dataclasses.replace(whole, design=design, lower_bound=bound)
