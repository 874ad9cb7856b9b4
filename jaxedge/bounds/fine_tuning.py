"""The fine-tuning average, after pre-training under the Polyak-Lojasiewicz inequality."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.bounds.base import (
    PRETRAINING,
    Bound,
    Effort,
    Fraction,
    Restriction,
    aggregated_variance,
    check_rounds,
    effort_of,
)
from jaxedge.bounds.formulation import program_of
from jaxedge.bounds.spans import Decay, Span, best_span_bound
from jaxedge.program.program import Program, Rounds
from jaxedge.program.responses import Prices
from jaxedge.scenario.scenario import Learning, Scenario
from jaxedge.system.allocation import Allocation


def decay(learning: Learning, pretraining_rounds: ArrayLike) -> tuple[Array, Array]:
    """q^M and 1 - q^M with q = 1 - mu eta0, both () and without cancellation.

    Args:
        learning: needs ``pl_constant`` mu (with mu eta0 <= 1).
        pretraining_rounds: M >= 0.

    Raises:
        ValueError: where the scenario has no ``learning.pl_constant``.
    """
    contraction = jnp.asarray(required_pl_constant(learning) * learning.server_learning_rate)
    # At mu eta0 = 1 the logarithm is -inf, and M = 0 would give NaN where q^0 = 1.
    below_one = jnp.nextafter(jnp.ones_like(contraction), jnp.zeros_like(contraction))
    exponent = pretraining_rounds * jnp.log1p(-jnp.minimum(contraction, below_one))
    return jnp.exp(exponent), -jnp.expm1(exponent)


def handed_over_gap(learning: Learning, effort: Effort) -> Array:
    """() bound G on E F - F* after pre-training.

        G = q^M Delta + (1 - q^M) [d2/(2 mu) + L eta0 s0/(2 mu b0)],   q = 1 - mu eta0

    Args:
        learning: needs ``pl_constant`` mu.
        effort: of which M and 1/b0 matter; G = Delta at M = 0.

    Raises:
        ValueError: where there is no ``learning.pl_constant``.
    """
    kept, lost = decay(learning, effort.pretraining_rounds)
    step = learning.smoothness * learning.server_learning_rate
    floor = learning.discrepancy + step * learning.server_variance * effort.inverse_server_batch
    return kept * learning.initial_gap + lost * floor / (2 * required_pl_constant(learning))


def fine_tuning_fraction(learning: Learning, effort: Effort) -> Fraction:
    """``fine_tuning_bound`` before the division.

    Raises:
        ValueError: where there is no ``learning.pl_constant``.
    """
    second, eta = effort.finetuning_rounds, learning.device_learning_rate
    noise = aggregated_variance(learning, effort.inverse_device_batch)
    numerator = handed_over_gap(learning, effort) * (2 / eta)
    return Fraction(numerator + second * (learning.smoothness * eta) * noise, second)


def fine_tuning_bound(scenario: Scenario, allocation: Allocation) -> Array:
    """Bound on the average of ‖∇F‖² over fine-tuning, after pre-training under the PL inequality.

        2 G/(eta N) + L eta sum_k w_k² s_k/b_k,   with G as in ``handed_over_gap``

    Args:
        scenario: one scenario; needs ``learning.pl_constant`` and eta0, eta <= 1/L.
        allocation: of which the rounds and the batches matter.

    Returns:
        () the bound; infinite at N = 0, where there is no round to average over.

    Raises:
        ValueError: where the scenario has no ``learning.pl_constant``.
    """
    return fine_tuning_fraction(scenario.learning, effort_of(allocation)).value


def required_pl_constant(learning: Learning) -> ArrayLike:
    """Mu of the fine-tuning bound; ValueError where the scenario has none."""
    if learning.pl_constant is None:
        raise ValueError(
            "learning.pl_constant is missing: the fine-tuning bound needs the Polyak-Lojasiewicz "
            "constant mu, a positive number of at most learning.smoothness"
        )
    return learning.pl_constant


def fine_tuning_program(scenario: Scenario, pretraining_rounds: Array) -> Program:
    """The fine-tuning bound's program at fixed pre-training rounds M >= 0.

    The whole pre-training stage is one "round" of the program, with weight M.
    """
    task = scenario.learning
    eta0, eta, mu = task.server_learning_rate, task.device_learning_rate, required_pl_constant(task)
    kept, lost = decay(task, pretraining_rounds)
    one = jnp.ones_like(eta)
    return program_of(
        scenario,
        gap=jnp.zeros_like(eta),
        floor=2 * (kept * task.initial_gap + lost * task.discrepancy / (2 * mu)) / eta,
        server_variance=lost * task.smoothness * eta0 * task.server_variance / (mu * eta),
        device_variance=task.smoothness * eta * task.device_weight**2 * task.device_variance,
        weight=pretraining_rounds,
        rounds=Rounds(
            min_pretraining=one,
            max_pretraining=one,
            # Without a fine-tuning round the bound is infinite.
            min_finetuning=jnp.maximum(scenario.min_finetuning_rounds, one),
            max_finetuning=jnp.full_like(one, jnp.inf),
            tied=jnp.zeros_like(one, bool),
            server_rate=jnp.zeros_like(one),
            device_rate=one,
        ),
    )


def floor_decay(scenario: Scenario) -> Decay:
    """How the floor of a validated scenario with a ``pl_constant`` depends on M."""
    task = scenario.learning
    kept, lost = decay(task, jnp.ones_like(task.initial_gap))
    mu = jnp.asarray(required_pl_constant(task))
    slope = 2 * (task.initial_gap - task.discrepancy / (2 * mu)) / task.device_learning_rate
    # Of q and 1 - q the smaller has the digits.
    return Decay(jnp.asarray(slope), jnp.where(lost < 0.5, -jnp.log1p(-lost), -jnp.log(kept)))


@dataclasses.dataclass(frozen=True)
class FineTuning(Bound):
    """The average of ‖∇F‖² over fine-tuning: M is searched, and N is the program's own."""

    name = "fine-tuning"
    unit = "mean squared gradient norm"
    outer = (PRETRAINING,)
    finite_without_finetuning = False

    def check(self, scenario: Scenario) -> None:
        """Make sure that there is a ``learning.pl_constant``, and a round."""
        check_rounds(scenario)
        required_pl_constant(scenario.learning)

    def value(self, scenario: Scenario, allocation: Allocation) -> Array:
        """() `fine_tuning_bound`."""
        return fine_tuning_bound(scenario, allocation)

    def handed_over(self, scenario: Scenario, rounds: ArrayLike, batch: ArrayLike) -> Array:
        """(n,) `handed_over_gap`."""
        effort = Effort(
            pretraining_rounds=jnp.asarray(rounds),
            finetuning_rounds=jnp.zeros(()),
            inverse_server_batch=1 / jnp.asarray(batch),
            inverse_device_batch=1.0,
        )
        return handed_over_gap(scenario.learning, effort)

    def program(self, scenario: Scenario, outer: Array) -> Program:
        """The program at M = outer[0]."""
        return fine_tuning_program(scenario, outer[0])

    def lower_bound(
        self,
        scenario: Scenario,
        low: Array,
        high: Array,
        prices: Prices,
        *,
        integer: bool,
        restrict: Restriction | None = None,
    ) -> Array:
        """() from the programs at both ends, at the best multiple of the prices (`spans`)."""
        ends = [self.program(scenario, end) for end in (low, high)]
        ends = ends if restrict is None else [restrict(end) for end in ends]
        span = Span(low[0], high[0], *ends)
        return best_span_bound(floor_decay(scenario), span, prices, integer=integer)
