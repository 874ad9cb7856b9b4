"""The two-stage average: ‖∇F‖² over both stages, weighted by learning rate."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.bounds.base import (
    Bound,
    Effort,
    Fraction,
    aggregated_variance,
    check_rounds,
    effort_of,
)
from jaxedge.bounds.formulation import program_of
from jaxedge.program.program import Program, Rounds
from jaxedge.scenario.scenario import Learning, Scenario
from jaxedge.system.allocation import Allocation


def two_stage_fraction(learning: Learning, effort: Effort) -> Fraction:
    """``two_stage_bound`` before the division."""
    first, second = effort.pretraining_rounds, effort.finetuning_rounds
    eta0, eta = learning.server_learning_rate, learning.device_learning_rate
    step0, step = learning.smoothness * eta0, learning.smoothness * eta
    noise = aggregated_variance(learning, effort.inverse_device_batch)
    pretraining = learning.discrepancy + step0 * learning.server_variance * (
        effort.inverse_server_batch
    )
    numerator = first * eta0 * pretraining + second * eta * step * noise + 2 * learning.initial_gap
    return Fraction(numerator, first * eta0 + second * eta)


def two_stage_bound(scenario: Scenario, allocation: Allocation) -> Array:
    """Bound on the average of ‖∇F‖² over both stages, weighted by learning rate.

        [2 Delta + M (eta0 d2 + L eta0² s0/b0) + N L eta² sum_k w_k² s_k/b_k] / (M eta0 + N eta)

    Args:
        scenario: one scenario; needs eta0, eta <= 1/L.
        allocation: of which the rounds and the batches matter.

    Returns:
        () the bound; infinite where there is no round at all.
    """
    return two_stage_fraction(scenario.learning, effort_of(allocation)).value


@jax.jit
def two_stage_program(scenario: Scenario) -> Program:
    """The two-stage bound's program of a validated scenario; rounds have no upper limit."""
    task = scenario.learning
    eta0, eta = task.server_learning_rate, task.device_learning_rate
    infinity = jnp.full_like(eta, jnp.inf)
    return program_of(
        scenario,
        gap=2 * task.initial_gap,
        floor=eta0 * task.discrepancy,
        server_variance=task.smoothness * eta0**2 * task.server_variance,
        device_variance=task.smoothness * eta**2 * task.device_weight**2 * task.device_variance,
        weight=jnp.ones_like(eta),
        rounds=Rounds(
            min_pretraining=scenario.min_pretraining_rounds,
            max_pretraining=infinity,
            min_finetuning=scenario.min_finetuning_rounds,
            max_finetuning=infinity,
            tied=jnp.zeros_like(eta, bool),
            server_rate=eta0,
            device_rate=eta,
        ),
    )


@dataclasses.dataclass(frozen=True)
class TwoStage(Bound):
    """The average of ‖∇F‖² over both stages: one program, rounds among its variables."""

    name = "two-stage"
    unit = "mean squared gradient norm"
    differentiable = True

    def check(self, scenario: Scenario) -> None:
        """Make sure that there is a round."""
        check_rounds(scenario)

    def value(self, scenario: Scenario, allocation: Allocation) -> Array:
        """() `two_stage_bound`."""
        return two_stage_bound(scenario, allocation)

    def program(self, scenario: Scenario, outer: Array) -> Program:
        """The one program; ``outer`` is (0,)."""
        del outer
        program: Program = two_stage_program(scenario)
        return program
