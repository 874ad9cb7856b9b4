"""Many designs and seeds trained side by side in one compiled program.

Each of a few lanes does run after run, a block of rounds at a time, each block followed by a
measurement. Rounds, batches and seeds are numbers to the program; how many samples it takes in a
round is its shape, so runs are grouped by that. Draws are those of `runner.train`, and so are the
weights, to rounding.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.answers.files import check_runnable
from jaxedge.scenario.scenario import Learning, Scenario
from jaxedge.system.allocation import Allocation
from jaxedge.training.models.tasks import Task
from jaxedge.training.rounds.many_rounds import (
    Block,
    Shared,
    Static,
    advance,
    measure_alone,
    shared_of,
)
from jaxedge.words.choices import check_whole

LANES = 8
"""Runs side by side; more gain nothing on a few CPU cores."""
_BLOCKS = 8
"""Blocks of one compiled call."""
_LEAST = 8
"""Samples of the narrowest program."""

Curve = dict[str, np.ndarray]
"""``round``, ``fine_tuning``, ``loss``, ``accuracy``, ``training_loss`` and
``gradient_norm_squared`` of one run, arrays of equal length; the first entry is the start."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runs:
    """What P designs from S seeds have come to; nan where a run diverged."""

    loss: np.ndarray
    """(P, S) on the task's test data, at the end."""
    accuracy: np.ndarray
    """(P, S) likewise."""
    training_loss: np.ndarray
    """(P, S) F, the devices' weighted loss over their whole data, at the end."""
    gradient_norm_squared: np.ndarray
    """(P, S) ``|grad F|^2`` of the devices' whole data, at the end."""
    two_stage_average: np.ndarray
    """(P, S) ``|grad F|^2`` before the rounds, weighted by learning rate as in the bound."""
    finetuning_average: np.ndarray
    """(P, S) ``|grad F|^2`` before the fine-tuning rounds; nan where there is none."""
    curves: list[list[Curve]]
    """[P][S]"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Run:
    rounds: tuple[int, int]
    """M and N."""
    batch: np.ndarray
    """(1 + K,) of the server and the devices; 1 of a stage without rounds."""
    seed: int

    @property
    def samples(self) -> int:
        """In its largest round."""
        return int(max(self.batch[0], self.batch[1:].sum()))

    def blocks(self, every: int) -> Iterator[tuple[bool, int, int]]:
        """Stage, first round and rounds of each block."""
        for fine, total in zip((False, True), self.rounds, strict=True):
            for start in range(0, total, every):
                yield fine, start, min(every, total - start)

    def count(self, every: int) -> int:
        """Blocks."""
        return sum(-(-total // every) for total in self.rounds)


def train_many(
    task: Task,
    scenario: Scenario,
    designs: Sequence[Allocation],
    seeds: Sequence[int],
    *,
    every: int = 20,
    lanes: int = LANES,
    progress: Callable[[str, float | None], None] | None = None,
) -> Runs:
    """Run each of P designs from each of S seeds, as `runner.train` does with one local step.

    Args:
        task: data and model.
        scenario: gives learning rates, the devices' weights and the limits of the designs; budgets
            are left to whoever has made the designs.
        designs: whole rounds and batches.
        seeds: of the samples drawn.
        every: rounds between two measurements, counted from the start of each stage; averages are
            over the rounds measured before, each standing for those up to the next.
        lanes: runs side by side.
        progress: called with (text, fraction).

    Raises:
        ValueError: naming the design that cannot be run as it stands or asks for more samples than
            an owner has, or the option that is not valid.
    """
    for name, value in (("every", every), ("lanes", lanes)):
        check_whole(name, value)
    checked = [_checked(task, scenario, design, p) for p, design in enumerate(designs)]
    runs = [
        _Run(rounds=rounds, batch=batch, seed=int(seed))
        for rounds, batch in checked
        for seed in seeds
    ]
    shared = shared_of(task, scenario.learning)
    narrow = Static.of(task, samples=1, width=1, every=every)
    start = jax.device_get(measure_alone(narrow, task.weights, shared))
    rows: list[list[tuple[int, bool, Any]]] = [[(0, False, start)] for _ in runs]
    total, done = sum(run.count(every) for run in runs), 0
    for samples, group in sorted(_groups(runs).items()):
        width = _padded(max(int(runs[i].batch[1:].max()) for i in group))
        static = Static.of(task, samples=samples, width=width, every=every)
        for i, fine, end, found in _trained(static, shared, runs, group, lanes):
            rows[i].append((end + fine * runs[i].rounds[0], fine, found))
            done += 1
            if progress is not None:
                progress(f"training {len(runs):,} runs side by side", done / total)
    curves = [_curve(one) for one in rows]
    return _told(curves, runs, scenario.learning, (len(checked), len(seeds)))


def _checked(
    task: Task, scenario: Scenario, design: Allocation, number: int
) -> tuple[tuple[int, int], np.ndarray]:
    """Rounds and batches of a design that can be run."""
    try:
        check_runnable(design, scenario)
        first, second = (
            int(np.asarray(x)) for x in (design.pretraining_rounds, design.finetuning_rounds)
        )
        server = float(np.asarray(design.server.batch)) if first else 1.0
        devices = np.asarray(design.devices.batch, np.float64)
        devices = devices if second else np.ones_like(devices)
        if devices.shape != task.sizes.shape:
            raise ValueError(
                f"it is for {devices.size} devices and the data are of {task.sizes.size}: must be "
                "the same"
            )
        task.check_batches(server, devices)
    except ValueError as error:
        raise ValueError(f"design {number}: {error}") from None
    return (first, second), np.array([server, *devices], np.int32)


def _padded(count: int) -> int:
    """The next power of two, so that programs are few; each takes seconds to compile."""
    return max(2 ** math.ceil(math.log2(count)), _LEAST)


def _groups(runs: list[_Run]) -> dict[int, list[int]]:
    """Positions of the runs by the samples of the program that they need."""
    groups: dict[int, list[int]] = {}
    for i, run in enumerate(runs):
        groups.setdefault(_padded(run.samples), []).append(i)
    return groups


def _trained(
    static: Static, shared: Shared, runs: list[_Run], group: list[int], lanes: int
) -> Iterator[tuple[int, bool, int, Any]]:
    """Run, stage, last round and measurement of every block of a group, as they are computed."""
    queues = _queues(static.every, runs, group, lanes)
    every_seed = sorted({runs[i].seed for i in group})
    keys = _keys(every_seed)
    row_of = {seed: row for row, seed in enumerate(every_seed)}
    weights = jax.tree.map(lambda w: jnp.broadcast_to(w, (lanes, *w.shape)), shared.start)
    waiting: tuple[list[Any], Any] | None = None
    for first in range(0, max(map(len, queues)), _BLOCKS):
        cut = [
            [queue[n] if n < len(queue) else None for queue in queues]
            for n in range(first, first + _BLOCKS)
        ]
        weights, found = advance(
            static, shared, weights, _blocks(cut, runs, group[0], keys, row_of)
        )
        if waiting is not None:
            yield from _read(*waiting)
        waiting = cut, found
    if waiting is not None:
        yield from _read(*waiting)


def _keys(seeds: list[int]) -> Array:
    """(S, 2) keys of both stages."""
    each = [jax.random.fold_in(jax.random.key(seed), stage) for seed in seeds for stage in (1, 2)]
    return jnp.stack(each).reshape(-1, 2)


Piece = tuple[int, bool, int, int]
"""Run, stage, first round, rounds."""


def _queues(every: int, runs: list[_Run], group: list[int], lanes: int) -> list[list[Piece]]:
    """The blocks of each lane: the longest run first, each to the lane with the least to do."""
    queues: list[list[Piece]] = [[] for _ in range(lanes)]
    for i in sorted(group, key=lambda i: -runs[i].count(every)):
        min(queues, key=len).extend((i, *block) for block in runs[i].blocks(every))
    return queues


def _blocks(
    cut: list[list[Piece | None]],
    runs: list[_Run],
    anyone: int,
    keys: Array,
    row_of: dict[int, int],
) -> Block:
    """(blocks, lanes) as arrays."""
    pieces = [piece or (anyone, False, 0, 0) for row in cut for piece in row]
    shape = len(cut), len(cut[0])
    fine = np.array([piece[1] for piece in pieces]).reshape(shape)
    start = np.array([piece[2] for piece in pieces], np.int32).reshape(shape)
    own = [runs[piece[0]] for piece in pieces]
    after = np.array([run.rounds[0] > 0 for run in own]).reshape(shape) & fine
    seed = np.array([row_of[run.seed] for run in own]).reshape(shape)
    return Block(
        key=keys[seed, fine.astype(int)],
        fine=jnp.asarray(fine),
        start=jnp.asarray(start),
        rounds=jnp.asarray(np.array([p[3] for p in pieces], np.int32).reshape(shape)),
        batch=jnp.asarray(np.stack([run.batch for run in own]).reshape(*shape, -1)),
        fresh=jnp.asarray((start == 0) & ~after),
    )


def _read(cut: list[list[Piece | None]], found: Any) -> Iterator[tuple[int, bool, int, Any]]:
    host = jax.device_get(found)
    for b, row in enumerate(cut):
        for lane, piece in enumerate(row):
            if piece is not None:
                i, fine, start, count = piece
                yield i, fine, start + count, {name: x[b, lane] for name, x in host.items()}


def _curve(rows: list[tuple[int, bool, Any]]) -> Curve:
    told = {name: np.array([row[2][name] for row in rows], float) for name in rows[0][2]}
    return {
        "round": np.array([row[0] for row in rows]),
        "fine_tuning": np.array([row[1] for row in rows]),
        **told,
    }


def _told(
    curves: list[Curve], runs: list[_Run], learning: Learning, shape: tuple[int, int]
) -> Runs:
    rates = [float(np.asarray(learning.server_learning_rate))]
    rates.append(float(np.asarray(learning.device_learning_rate)))
    averages = [_averages(c, run, rates) for c, run in zip(curves, runs, strict=True)]
    last = {
        name: np.array([curve[name][-1] for curve in curves]).reshape(shape)
        for name in ("loss", "accuracy", "training_loss", "gradient_norm_squared")
    }
    return Runs(
        **last,
        two_stage_average=np.array([both for both, _ in averages]).reshape(shape),
        finetuning_average=np.array([fine for _, fine in averages]).reshape(shape),
        curves=[curves[p * shape[1] : (p + 1) * shape[1]] for p in range(shape[0])],
    )


def _averages(curve: Curve, run: _Run, rates: list[float]) -> tuple[float, float]:
    """Of ``|grad F|^2`` over both stages, weighted by learning rate, and over fine-tuning."""
    standing = np.diff(curve["round"])
    before = curve["gradient_norm_squared"][:-1]
    fine = curve["fine_tuning"][1:]
    rate = np.where(fine, rates[1], rates[0])
    both = np.sum(rate * standing * before) / np.sum(rate * standing) if sum(run.rounds) else np.nan
    tuned = np.sum((standing * before)[fine]) / run.rounds[1] if run.rounds[1] else np.nan
    return float(both), float(tuned)
