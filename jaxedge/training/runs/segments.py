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
from jaxedge.training.rounds import measuring, stages
from jaxedge.training.rounds.strategies import AUTO, CHUNK, check_strategy
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
    chunk: int = CHUNK
    """Devices side by side where they are computed in chunks."""
    convolution: str = "direct"
    """How convolutions are computed in both stages, one of `convolutions.CONVOLUTIONS`; or
    "auto", likewise."""

    def __post_init__(self) -> None:
        for name in ("every", "segment", "local_steps"):
            check_whole(name, getattr(self, name))
        if self.strategy != AUTO:
            check_strategy(self.strategy, self.chunk, self.local_steps)
        if self.convolution != AUTO:
            check_convolution(self.convolution)


def usual_every(test_samples: int) -> int:
    """Rounds between two measurements: 20 for every 1,500 test samples begun.

    Measuring 75 samples costs about what a round of some tens of samples does.
    """
    return 20 * max(-(-test_samples // 1500), 1)


def _batch(leg: Leg) -> np.ndarray:
    """Samples of a round: () of the server, or (K,) of the devices."""
    part = leg.design.devices if leg.fine_tuning else leg.design.server
    return np.asarray(part.batch).astype(np.int32)


def width(course: Course, *, fine_tuning: bool) -> int:
    """The largest batch of a stage in samples; 1 where it has no rounds."""
    legs = [leg for leg in course.legs if leg.fine_tuning == fine_tuning]
    return max((int(np.max(_batch(leg))) for leg in legs), default=1)


class Segments:
    """The compiled segments of a run: one program for each stage, and one that measures."""

    def __init__(self, task: Task, scenario: Scenario, course: Course, settings: Settings) -> None:
        self.task, self.settings = task, settings
        self._trained = dataclasses.replace(
            task, loss=with_convolution(settings.convolution, task.loss)
        )
        self.blocks = -(-settings.segment // settings.every)
        learning = scenario.learning
        self.rates = (
            np.asarray(learning.server_learning_rate),
            np.asarray(learning.device_learning_rate),
        )
        self.data = {
            "server": task.server_samples,
            "devices": task.device_samples,
            "test": (jnp.asarray(task.test.x), jnp.asarray(task.test.y)),
            "device_weight": jnp.asarray(np.asarray(learning.device_weight), jnp.float32),
        }
        key = jax.random.key(settings.seed)
        self.keys = [jax.random.fold_in(key, number) for number in (1, 2)]
        self.widths = [width(course, fine_tuning=fine) for fine in (False, True)]
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
        start, end = leg.start + first, leg.start + leg.rounds
        return run(weights, self.data, self.keys[leg.fine_tuning], start, end, _batch(leg))

    @functools.cached_property
    def _finetune(self) -> Callable[..., tuple[Any, Any]]:
        def stage(weights: Any, data: Any, key: Array, batch: Array, **cut: Any) -> Any:
            task = self._trained
            tuned, seen = stages.finetune(
                task.tuned_loss(weights),
                task.tuned_of(weights),
                data["devices"],
                weights=data["device_weight"],
                batch=batch,
                width=self.widths[1],
                rate=self.rates[1],
                key=key,
                local_steps=self.settings.local_steps,
                strategy=self.settings.strategy,
                chunk=self.settings.chunk,
                **cut,
            )
            return task.with_tuned(weights, tuned), seen

        return jax.jit(self._in_blocks(stage))

    @functools.cached_property
    def _pretrain(self) -> Callable[..., tuple[Any, Any]]:
        def stage(weights: Any, data: Any, key: Array, batch: Array, **cut: Any) -> Any:
            return stages.pretrain(
                self._trained.loss,
                weights,
                data["server"],
                batch=batch,
                width=self.widths[0],
                rate=self.rates[0],
                key=key,
                **cut,
            )

        return jax.jit(self._in_blocks(stage))

    def _in_blocks(self, stage: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
        """A segment: blocks of rounds, each followed by a measurement."""
        every = self.settings.every

        def segment(
            weights: Any, data: Any, key: Array, start: Array, rounds: Array, batch: Array
        ) -> tuple[Any, Any]:
            def block(weights: Any, number: Array) -> tuple[Any, Any]:
                new, before = stage(
                    weights,
                    data,
                    key,
                    batch,
                    start=start + number * every,
                    rounds=rounds,
                    length=every,
                    observe=measuring.all_finite,
                )
                after = jnp.append(before[1:], measuring.all_finite(new))
                return new, (self._measured(new, data), after)

            return jax.lax.scan(block, weights, jnp.arange(self.blocks))

        return segment
