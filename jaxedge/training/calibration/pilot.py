"""A pilot run: a few short legs whose losses tell how a task forgets its start, shift and noise.

    pre-training   R rounds at b0 = 16                     R rounds at b0 = 2
    fine-tuning    R/3 rounds from M = R, at b_k = 8       R/3 rounds from M = R/4, at b_k = 8
                   R rounds from M = 0, at b_k = 8         R/3 rounds from M = 0, at b_k = 1

Long and short legs tell curvatures apart, branches start from shift, and small batches the noise.
On every leg the devices' weighted training loss F is measured at even steps.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation, StageAllocation
from jaxedge.system.delay import delay
from jaxedge.system.energy import energy
from jaxedge.training.calibration.path import Advance, Trial, finetuning, pretraining
from jaxedge.training.calibration.samples import thin
from jaxedge.training.models.tasks import Task
from jaxedge.training.rounds.measuring import task_loss_and_gradient
from jaxedge.words.choices import check_whole

LEAST_ROUNDS = 40
"""Of a pilot: below, a leg of R/3 rounds has too few losses to tell decay from noise."""
_STEPS = 40
"""Measurements on a leg of R rounds."""
_MOST_GROWTH = 10.0
"""Of F against the start; beyond, a leg counts as diverged."""
SAMPLES = 4096
"""Of each device at most that F is measured on."""

Progress = Callable[[str, float | None], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PilotPlan:
    """How long and with which batches a pilot runs."""

    rounds: int = 400
    """R, of its longest legs; predictions reach about three times as far."""
    server_batch: int = 16
    """Samples, or all that the server has where it has fewer."""
    least_server_batch: int = 2
    """Samples, of the leg that tells the server's noise."""
    device_batch: int = 8
    """Samples, or all that a device has where it has fewer."""
    least_device_batch: int = 1
    """Samples, of the leg that tells the devices' noise."""
    seed: int = 0
    """Of the samples drawn."""

    def __post_init__(self) -> None:
        least = {"seed": 0, "rounds": LEAST_ROUNDS}
        for item in dataclasses.fields(self):
            check_whole(item.name, getattr(self, item.name), least.get(item.name, 1))

    @property
    def trial(self) -> Trial:
        """Its first leg and the fine-tuning from there as one run, draws and all."""
        return Trial(
            pretraining_rounds=self.rounds,
            finetuning_rounds=self.rounds // 3,
            server_batch=self.server_batch,
            device_batch=self.device_batch,
            seed=self.seed,
        )

    @property
    def every(self) -> int:
        """Rounds between two measurements of F."""
        return max(self.rounds // _STEPS, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leg:
    """F along one leg; n measurements, the first before its first round."""

    pretraining_rounds: np.ndarray
    """(n,) M at each."""
    finetuning_rounds: np.ndarray
    """(n,) N at each."""
    server_batch: int
    """b0"""
    device_batch: np.ndarray
    """(K,) b_k"""
    loss: np.ndarray
    """(n,) F"""

    @property
    def fine(self) -> bool:
        """Whether the devices train on it; else the server does."""
        return bool(self.finetuning_rounds[-1])

    @property
    def rounds(self) -> int:
        """Of its own, after it has branched off."""
        counted = self.finetuning_rounds if self.fine else self.pretraining_rounds
        return int(counted[-1])

    @property
    def label(self) -> str:
        """Its stage, branch and batch in words."""
        if not self.fine:
            return f"pre-training, b0 = {self.server_batch}"
        batch = np.unique(self.device_batch)
        size = f"{batch[0]}" if len(batch) == 1 else f"{batch[0]}-{batch[-1]}"
        return f"fine-tuning from M = {self.pretraining_rounds[0]}, b_k = {size}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pilot:
    """What a pilot has measured and spent."""

    legs: tuple[Leg, ...]
    handed_over: Any
    """The weights after R rounds of pre-training."""
    tuned: Any
    """Those after the fine-tuning from there."""
    energy: float
    """J that its rounds take in the scenario at full clocks and powers."""
    delay: float
    """s likewise."""

    def longest(self, server_rate: float, device_rate: float) -> float:
        """Most rounds behind any of its measurements, counted at the devices' rate."""
        ratio = server_rate / device_rate
        ends = [ratio * leg.pretraining_rounds[-1] + leg.finetuning_rounds[-1] for leg in self.legs]
        return float(max(ends))


class PilotRefused(ValueError):
    """A pilot that says nothing about longer runs; ``legs`` has what was measured."""

    def __init__(self, reason: str, legs: tuple[Leg, ...]) -> None:
        super().__init__(reason)
        self.legs = legs


def run_pilot(
    task: Task,
    scenario: Scenario,
    plan: PilotPlan | None = None,
    *,
    samples: int = SAMPLES,
    progress: Progress | None = None,
) -> Pilot:
    """Run all legs of a pilot from the task's first weights.

    Args:
        task: data and model.
        scenario: one valid scenario, which gives rates and weights, and joules and seconds.
        plan: rounds, batches and seed.
        samples: of each device at most that F is measured on.
        progress: called with (text, fraction).

    Raises:
        PilotRefused: if a leg diverges, or no leg lowers the loss.
    """
    plan = PilotPlan() if plan is None else plan
    runner = _Runner(task, scenario, plan, samples, progress)
    third, quarter = plan.rounds // 3, plan.rounds // 4
    server = min(plan.server_batch, len(task.general))
    devices = np.minimum(plan.device_batch, task.sizes)
    few = np.minimum(plan.least_device_batch, task.sizes)
    first, (early, handed_over) = runner.pretrain(server, (quarter, plan.rounds))
    runner.pretrain(min(plan.least_server_batch, server), (plan.rounds,))
    tuned = runner.finetune(handed_over, first, plan.rounds, third, devices)
    runner.finetune(early, first, quarter, third, devices)
    runner.finetune(task.weights, first, 0, plan.rounds, devices)
    runner.finetune(task.weights, first, 0, third, few)
    legs = tuple(runner.legs)
    if all(leg.loss.min() >= leg.loss[0] for leg in legs):
        raise PilotRefused(
            f"no leg of the pilot lowered the loss F = {legs[0].loss[0]:.6g} within {plan.rounds} "
            "rounds: raise the learning rates in the scenario, or the pilot's rounds",
            legs,
        )
    spent = [_spent(scenario, leg) for leg in legs]
    joules, seconds = np.sum(spent, axis=0).tolist()
    return Pilot(legs=legs, handed_over=handed_over, tuned=tuned, energy=joules, delay=seconds)


class _Runner:
    """Compiled rounds of both stages and the legs run so far."""

    def __init__(
        self, task: Task, scenario: Scenario, plan: PilotPlan, samples: int, progress: Any
    ) -> None:
        self.task, self.plan, self.progress = task, plan, progress
        self.legs: list[Leg] = []
        width = min(plan.server_batch, len(task.general))
        self._server = pretraining(task, scenario, width=width, seed=plan.seed)
        width = int(np.minimum(plan.device_batch, task.sizes).max())
        self._devices = finetuning(task, scenario, width=width, seed=plan.seed)
        data = thin(task.device_samples, samples, plan.seed + 1)
        share = jnp.asarray(np.asarray(scenario.learning.device_weight), jnp.float32)
        self._loss = jax.jit(lambda w: task_loss_and_gradient(task.loss, w, data, share)[0])

    def pretrain(self, batch: int, kept: tuple[int, ...]) -> tuple[int, list[Any]]:
        """A leg of the server from the start; its batch, and the weights after some rounds."""
        found = list(self._advanced(self._server, self.task.weights, batch, kept))
        rounds = np.array([n for n, _, _ in found])
        self._add(found, rounds, np.zeros_like(rounds), batch, np.ones_like(self.task.sizes))
        weights = {n: w for n, w, _ in found}
        return batch, [weights[n] for n in kept]

    def finetune(self, weights: Any, server: int, after: int, rounds: int, batch: Any) -> Any:
        """A leg of the devices; the weights at its end."""
        found = list(self._advanced(self._devices, weights, batch, (rounds,)))
        numbers = np.array([n for n, _, _ in found])
        self._add(found, np.full_like(numbers, after), numbers, server, batch)
        return found[-1][1]

    def _advanced(
        self, advance: Advance, weights: Any, batch: Any, kept: tuple[int, ...]
    ) -> Iterator[tuple[int, Any, Any]]:
        """(round, weights, F) at even steps and where weights are kept."""
        every = self.plan.every
        cuts = sorted({*range(0, kept[-1], every), *kept})
        yield 0, weights, self._loss(weights)
        for start, end in itertools.pairwise(cuts):
            weights = advance(weights, batch, start, end, every)
            yield end, weights, self._loss(weights)

    def _add(self, found: Any, first: Any, second: Any, server: int, devices: np.ndarray) -> None:
        leg = Leg(
            pretraining_rounds=first,
            finetuning_rounds=second,
            server_batch=server,
            device_batch=devices,
            loss=np.array([float(loss) for _, _, loss in found]),
        )
        self.legs.append(leg)
        wild = ~(leg.loss <= _MOST_GROWTH * np.abs(self.legs[0].loss[0]))
        if wild.any():
            at, owner = int(np.argmax(wild)), "device" if leg.fine else "server"
            raise PilotRefused(
                f"the pilot diverged within {(second if leg.fine else first)[at]} rounds of "
                f"{leg.label}: lower learning.{owner}_learning_rate in the scenario",
                tuple(self.legs),
            )
        if self.progress is not None:
            self.progress(f"pilot, {leg.label}", len(self.legs) / 6)


def _spent(scenario: Scenario, leg: Leg) -> tuple[float, float]:
    """J and s of a leg's own rounds at full clocks and powers."""
    server, devices = scenario.server, scenario.devices
    design = Allocation(
        pretraining_rounds=0 if leg.fine else leg.rounds,
        finetuning_rounds=leg.rounds if leg.fine else 0,
        server=StageAllocation(
            batch=leg.server_batch, clock=server.max_clock, power=server.max_power
        ),
        devices=StageAllocation(
            batch=leg.device_batch, clock=devices.max_clock, power=devices.max_power
        ),
    )
    with jax.enable_x64(True):
        return float(energy(scenario, design)), float(delay(scenario, design))
