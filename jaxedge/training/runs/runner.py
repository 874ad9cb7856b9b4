"""Run a course: both stages in compiled segments of rounds, measured on the way.

Every draw is a function of the seed, the stage and the round, so a run that goes on from a
checkpoint is the run that was never interrupted, bit for bit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from jaxedge.scenario.scenario import Scenario
from jaxedge.training.models.tasks import Task
from jaxedge.training.runs.checkpoints import Checkpoint
from jaxedge.training.runs.courses import Course, Leg
from jaxedge.training.runs.segments import Segments, Settings

PRETRAINING, FINETUNING, START = "pre-training", "fine-tuning", "start"
"""Stages as metrics name them; the first row is of the weights before any round."""

Row = dict[str, Any]
"""What is measured after a round: round, stage, energy (J), delay (s), loss, accuracy, ..."""


class Keeper(Protocol):
    """Who keeps what a run produces."""

    def rows(self, rows: list[Row]) -> None:
        """Keep measurements."""

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint; its measurements have been kept before."""


class Diverged(ArithmeticError):
    """Training went to NaN or infinity; everything before is kept."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """What a run has come to."""

    weights: Any
    rows: list[Row]


def train(
    task: Task,
    scenario: Scenario,
    course: Course,
    settings: Settings,
    *,
    begin: Checkpoint | None = None,
    keeper: Keeper | None = None,
    progress: Callable[[str, float | None], None] | None = None,
) -> Trained:
    """Run a course, or what is left of it.

    Args:
        task: data and model.
        scenario: gives learning rates and the devices' weights.
        course: of the same scenario.
        settings: how.
        begin: a checkpoint of the same run; by default the task's weights.
        keeper: is given measurements and checkpoints as they come.
        progress: called with (text, fraction).

    Returns:
        The weights, and the measurements of the rounds run here.

    Raises:
        ValueError: if a batch is larger than its owner's data.
        Diverged: naming the round after which the weights or the loss are not finite.
    """
    check(task, course)
    total = len(course.ledger)
    last = Checkpoint(rounds=0, weights=task.weights) if begin is None else begin
    kept: list[Row] = []
    for segment in _segments(task, scenario, course, settings, last, fresh=begin is None):
        kept += segment.rows
        if keeper is not None:
            keeper.rows(segment.rows)
        if segment.diverged == 0:
            raise Diverged(
                "the initial weights give no finite loss on the test data: check model and data"
            )
        if segment.diverged is not None:
            raise Diverged(
                f"training diverged in round {segment.diverged} of {total}: its weights or loss "
                f"are not finite; the last good checkpoint is of round {last.rounds}: lower the "
                "learning rates in the scenario and plan again"
            )
        last = segment.end
        if keeper is not None:
            keeper.checkpoint(last)
        if progress is not None and kept:
            row = kept[-1]
            text = f"{row['stage']}, round {last.rounds:,} of {total:,}"
            text += f", accuracy {row['accuracy']:.1%}"
            progress(text, last.rounds / max(total, 1))
    return Trained(weights=last.weights, rows=kept)


def check(task: Task, course: Course) -> None:
    """Make sure that a course can be run on a task's data.

    Raises:
        ValueError: if there are other devices, or a batch is larger than its owner's data.
    """
    for leg in course.legs:
        batch = np.asarray(leg.design.devices.batch)
        if batch.shape != task.sizes.shape:
            raise ValueError(
                f"the design is for {batch.size} devices and the data for {task.sizes.size}: must "
                "be the same"
            )
        server = 0.0 if leg.fine_tuning else float(np.asarray(leg.design.server.batch))
        task.check_batches(server, batch if leg.fine_tuning else np.zeros_like(batch))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Segment:
    end: Checkpoint
    rows: list[Row]
    diverged: int | None
    """The round, counted from 1, after which something is not finite."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pending:
    """A segment that the device computes while the host deals with the one before."""

    leg: Leg
    first: int
    """Rounds of the leg done before."""
    before: int
    """Rounds of the run done before."""
    count: int
    weights: Any
    seen: Any
    """(blocks, ...) measurements, and (blocks, every) whether weights were finite."""


def _segments(
    task: Task,
    scenario: Scenario,
    course: Course,
    settings: Settings,
    begin: Checkpoint,
    *,
    fresh: bool,
) -> Iterator[_Segment]:
    """The segments from a checkpoint on, each computed while its forerunner is dealt with.

    A fresh run begins by measuring the weights before any round.
    """
    energy = np.concatenate([[0.0], np.cumsum(course.ledger.energy)])
    delay = np.concatenate([[0.0], np.cumsum(course.ledger.time)])
    spent = np.stack([energy, delay], axis=1)
    program = Segments(task, scenario, course, settings)
    if fresh:
        found = jax.device_get(program.measure(begin.weights, program.data))
        row = _row(0, START, spent, found)
        diverged = None if all(map(math.isfinite, measured(row).values())) else 0
        yield _Segment(end=begin, rows=[] if diverged == 0 else [row], diverged=diverged)
    waiting: _Pending | None = None
    for pending in _dispatched(program, course, settings, begin):
        if waiting is not None:
            yield _finished(waiting, settings, spent)
        waiting = pending
    if waiting is not None:
        yield _finished(waiting, settings, spent)


def _dispatched(
    program: Segments, course: Course, settings: Settings, begin: Checkpoint
) -> Iterator[_Pending]:
    weights, before = begin.weights, 0
    length = program.blocks * settings.every
    for leg in course.legs:
        first = min(max(begin.rounds - before, 0), leg.rounds)
        while first < leg.rounds:
            count = min(length, leg.rounds - first)
            weights, seen = program.run(leg, first, weights)
            yield _Pending(
                leg=leg, first=first, before=before + first, count=count, weights=weights, seen=seen
            )
            first += count
        before += leg.rounds


def _finished(pending: _Pending, settings: Settings, spent: np.ndarray) -> _Segment:
    """Wait for a segment and read what it has measured."""
    found, finite = jax.device_get(pending.seen)
    stage = FINETUNING if pending.leg.fine_tuning else PRETRAINING
    rows: list[Row] = []
    diverged = None
    for block in range(-(-pending.count // settings.every)):
        end = min((block + 1) * settings.every, pending.count)
        good = finite[block][: end - block * settings.every]
        if not good.all():
            diverged = pending.before + block * settings.every + int(np.argmin(good)) + 1
            break
        row = _row(pending.before + end, stage, spent, jax.tree.map(lambda x, b=block: x[b], found))
        if not all(map(math.isfinite, measured(row).values())):
            diverged = pending.before + end
            break
        rows.append(row)
    return _Segment(
        end=Checkpoint(rounds=pending.before + pending.count, weights=pending.weights),
        rows=rows,
        diverged=diverged,
    )


def _row(rounds: int, stage: str, spent: np.ndarray, found: dict[str, Any]) -> Row:
    energy, delay = spent[rounds].tolist()
    numbers = {name: float(value) for name, value in found.items()}
    return {"round": rounds, "stage": stage, "energy": energy, "delay": delay, **numbers}


def measured(row: Row) -> dict[str, float]:
    """The numbers of a row by name: what was spent and measured, without where."""
    return {name: value for name, value in row.items() if name not in ("round", "stage")}
