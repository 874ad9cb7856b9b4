"""Segments of rounds as compiled programs: blocks of rounds, each followed by a measurement.

Batches of the devices, rounds and the segment's place are arguments, so that a run compiles one
program for each stage; a segment that reaches beyond the end of its stage keeps the weights there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.scenario.scenario import Scenario
from jaxedge.training.models.convolutions import check_convolution, with_convolution
from jaxedge.training.models.tasks import Task
from jaxedge.training.rounds import measuring
from jaxedge.training.rounds.measuring import all_finite
from jaxedge.training.rounds.stages import Span, Stage, finetune, pretrain
from jaxedge.training.rounds.strategies import AUTO, SIDE_BY_SIDE, Strategy
from jaxedge.training.runs.courses import Course, Leg
from jaxedge.words.choices import check_whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a course is run."""

    seed: int = 0
    """Of the samples drawn."""
    every: int = 20
    """Rounds between two measurements."""
    segment: int = 200
    """Rounds of one compiled call, after each of which a checkpoint is due."""
    local_steps: int = 1
    """Gradient steps of a device in a round; the bounds are proven for 1."""
    gradient_norm: bool = False
    """Measure ‖∇F‖² of the devices' whole data too, which the bounds speak of."""
    strategy: str = "vmap"
    """How the devices' steps are computed, one of `strategies.STRATEGIES`; or "auto", which
    `choose_strategy` replaces by the fastest."""
    chunk: int = SIDE_BY_SIDE.chunk
    """Devices side by side where they are computed in chunks."""
    convolution: str = "direct"
    """How convolutions are computed in both stages, one of `convolutions.CONVOLUTIONS`; or
    "auto", likewise."""

    def __post_init__(self) -> None:
        for name in ("every", "segment", "local_steps"):
            check_whole(name, getattr(self, name))
        if self.strategy != AUTO:
            self.execution.check(self.local_steps)
        if self.convolution != AUTO:
            check_convolution(self.convolution)

    @property
    def execution(self) -> Strategy:
        """The strategy as rounds take it."""
        return Strategy(self.strategy, self.chunk)


def usual_every(test_samples: int) -> int:
    """Rounds between two measurements: 20 for every 1,500 test samples begun.

    Measuring 75 samples costs about what a round of some tens of samples does.
    """
    return 20 * max(-(-test_samples // 1500), 1)


def _batch(leg: Leg) -> Array:
    """Samples of a round: (1,) of the server, or (K,) of the devices."""
    part = leg.design.devices if leg.fine_tuning else leg.design.server
    return jnp.asarray(np.atleast_1d(part.batch).astype(np.int32))


def width(course: Course, *, fine_tuning: bool) -> int:
    """The largest batch of a stage in samples; 1 where it has no rounds."""
    legs = [leg for leg in course.legs if leg.fine_tuning == fine_tuning]
    return max((int(np.max(_batch(leg))) for leg in legs), default=1)


class Segments:
    """The compiled segments of a run: one program for each stage, and one that measures."""

    def __init__(self, task: Task, scenario: Scenario, course: Course, settings: Settings) -> None:
        self.task, self.settings = task, settings
        loss = with_convolution(settings.convolution, task.loss)
        self._trained = dataclasses.replace(task, loss=loss)
        self.blocks = -(-settings.segment // settings.every)
        learning = scenario.learning
        share = jnp.asarray(np.asarray(learning.device_weight), jnp.float32)
        devices, key = task.device_samples, jax.random.key(settings.seed)
        self.data = {
            "test": (jnp.asarray(task.test.x), jnp.asarray(task.test.y)),
            "devices": devices,
            "device_weight": share,
        }
        self._pretraining = functools.partial(
            Stage,
            data=task.server_samples,
            rate=np.asarray(learning.server_learning_rate),
            key=jax.random.fold_in(key, 1),
            width=width(course, fine_tuning=False),
        )
        self._finetuning = functools.partial(
            Stage,
            data=devices,
            rate=np.asarray(learning.device_learning_rate),
            key=jax.random.fold_in(key, 2),
            width=width(course, fine_tuning=True),
            weights=share,
            local_steps=settings.local_steps,
        )
        self.measure = jax.jit(self._measured)

    def _measured(self, weights: Any, data: Any) -> dict[str, Array]:
        task = self.task
        found = measuring.loss_and_accuracy(task.loss, task.outputs, weights, *data["test"])
        if self.settings.gradient_norm:
            gradient = measuring.task_gradient(
                task.loss, weights, data["devices"], data["device_weight"]
            )
            found["gradient_norm_squared"] = measuring.squared_norm(gradient)
        return found

    def run(self, leg: Leg, first: int, weights: Any) -> tuple[Any, Any]:
        """Dispatch the segment of a leg from its round ``first`` on.

        Returns:
            The weights after it; and of each block (blocks, ...) what was measured at its end, and
            (blocks, every) whether the weights were finite after each round.
        """
        run = self._finetune if leg.fine_tuning else self._pretrain
        stage = self._finetuning if leg.fine_tuning else self._pretraining
        start, end = leg.start + first, leg.start + leg.rounds
        return run(weights, self.data, stage(batch=_batch(leg)), start, end)

    @functools.cached_property
    def _finetune(self) -> Callable[..., tuple[Any, Any]]:
        task, strategy = self._trained, self.settings.execution

        def rounds(weights: Any, stage: Stage, span: Span) -> Any:
            loss, tuned = task.tuned_loss(weights), task.tuned_of(weights)
            tuned, seen = finetune(loss, tuned, stage, span, strategy=strategy, observe=all_finite)
            return task.with_tuned(weights, tuned), seen

        return jax.jit(self._in_blocks(rounds))

    @functools.cached_property
    def _pretrain(self) -> Callable[..., tuple[Any, Any]]:
        def rounds(weights: Any, stage: Stage, span: Span) -> Any:
            return pretrain(self._trained.loss, weights, stage, span, observe=all_finite)

        return jax.jit(self._in_blocks(rounds))

    def _in_blocks(self, rounds: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
        """A segment: blocks of rounds, each followed by a measurement."""
        every = self.settings.every

        def segment(
            weights: Any, data: Any, stage: Stage, start: Array, end: Array
        ) -> tuple[Any, Any]:
            def block(weights: Any, number: Array) -> tuple[Any, Any]:
                span = Span(start=start + number * every, end=end, length=every)
                new, before = rounds(weights, stage, span)
                after = jnp.append(before[1:], all_finite(new))
                return new, (self._measured(new, data), after)

            return jax.lax.scan(block, weights, jnp.arange(self.blocks))

        return segment
