"""The path of a short trial run through both stages, on which constants are measured."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.scenario.scenario import Scenario
from jaxedge.training.models.tasks import Task
from jaxedge.training.rounds.measuring import all_finite
from jaxedge.training.rounds.stages import Span, Stage, finetune, pretrain
from jaxedge.words.choices import check_whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial run; the nearer it is to the runs to be planned, the better its constants fit."""

    pretraining_rounds: int = 400
    finetuning_rounds: int = 400
    intervals: int = 5
    """Of each stage; the points measured are their ends, evenly spaced, both ends included."""
    server_batch: int = 16
    """Samples, or all that the server has where it has fewer."""
    device_batch: int = 8
    """Samples, or all that a device has where it has fewer."""
    seed: int = 0
    """Of the samples drawn."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            check_whole(item.name, getattr(self, item.name), 0 if item.name == "seed" else 1)
        shortest = min(self.pretraining_rounds, self.finetuning_rounds)
        if self.intervals > shortest:
            raise ValueError(
                f"intervals = {self.intervals}: must be at most the rounds of the shorter stage, "
                f"{shortest}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """Weights on the path."""

    rounds: int
    """Rounds done, both stages together."""
    weights: Any


def path(task: Task, scenario: Scenario, trial: Trial) -> Iterator[Point]:
    """Both stages at the scenario's learning rates: intervals + 1 points each, the middle shared.

    Raises:
        ValueError: naming the stage and the rounds within which the weights went to NaN.
    """
    point = Point(rounds=0, weights=task.weights)
    yield point
    server = min(trial.server_batch, len(task.general))
    devices = np.minimum(trial.device_batch, task.sizes)
    stages = (
        (trial.pretraining_rounds, pretraining, server, "server"),
        (trial.finetuning_rounds, finetuning, devices, "device"),
    )
    for rounds, stage, batch, owner in stages:
        advance = stage(task, scenario, width=int(np.max(batch)), seed=trial.seed)
        before, weights = point.rounds, point.weights
        cuts = np.linspace(0, rounds, trial.intervals + 1).astype(int)
        length = int(np.diff(cuts).max())
        for start, end in itertools.pairwise(cuts.tolist()):
            weights = advance(weights, batch, start, end, length)
            if not bool(all_finite(weights)):
                raise ValueError(
                    f"the trial run diverged between rounds {before + start} and {before + end}: "
                    f"lower learning.{owner}_learning_rate in the scenario"
                )
            point = Point(rounds=before + end, weights=weights)
            yield point


Advance = Callable[[Any, Any, int, int, int], Any]
"""(weights, batch, start, end, length) -> weights after the rounds start ... end - 1, at most
length of them, with batches () or (K,) of at most the width."""


def pretraining(task: Task, scenario: Scenario, *, width: int, seed: int) -> Advance:
    """Rounds of the server at the scenario's rate."""
    stage = partial(
        Stage,
        data=task.server_samples,
        rate=np.asarray(scenario.learning.server_learning_rate),
        key=jax.random.fold_in(jax.random.key(seed), 1),
        width=width,
    )

    @partial(jax.jit, static_argnums=4)
    def advance(weights: Any, batch: Any, start: int, end: int, length: int) -> Any:
        span = Span(start=start, end=end, length=length)
        return pretrain(task.loss, weights, stage(batch=jnp.atleast_1d(batch)), span)[0]

    return advance


def finetuning(task: Task, scenario: Scenario, *, width: int, seed: int) -> Advance:
    """Rounds of the devices at the scenario's rate and weights."""
    stage = partial(
        Stage,
        data=task.device_samples,
        rate=np.asarray(scenario.learning.device_learning_rate),
        key=jax.random.fold_in(jax.random.key(seed), 2),
        width=width,
        weights=jnp.asarray(np.asarray(scenario.learning.device_weight)),
    )

    @partial(jax.jit, static_argnums=4)
    def advance(weights: Any, batch: Any, start: int, end: int, length: int) -> Any:
        span = Span(start=start, end=end, length=length)
        loss, tuned = task.tuned_loss(weights), task.tuned_of(weights)
        tuned, _ = finetune(loss, tuned, stage(batch=jnp.asarray(batch)), span)
        return task.with_tuned(weights, tuned)

    return advance
