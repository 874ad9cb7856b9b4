"""Convergence bounds: what a design promises about training (derived in docs/theory.md).

A bound is any function (scenario, allocation) -> scalar that JAX can differentiate, so a user's
own enters wherever one of these does. Its unit is that of a squared gradient norm.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.allocation import Allocation
from jaxedge.scenario import Learning, Scenario

Bound = Callable[[Scenario, Allocation], Array]


class Fraction(NamedTuple):
    """A bound as numerator over denominator; with 1/b = rounds/X it is convex over linear."""

    numerator: Array
    """()"""
    denominator: Array
    """() zero where there is no round to average over."""

    @property
    def value(self) -> Array:
        """() the bound; infinite where the denominator is zero."""
        some = self.denominator > 0
        return jnp.where(some, self.numerator / jnp.where(some, self.denominator, 1), jnp.inf)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Effort:
    """What a bound sees of a design."""

    pretraining_rounds: Array
    """() M."""
    finetuning_rounds: Array
    """() N."""
    inverse_server_batch: ArrayLike
    """() 1/b_0."""
    inverse_device_batch: ArrayLike
    """(K,) 1/b_k."""


def aggregated_variance(learning: Learning, inverse_batch: ArrayLike) -> Array:
    """() variance of one fine-tuning round's aggregated gradient, sum_k w_k² s_k (1/b_k)."""
    weight = jnp.asarray(learning.device_weight)
    return jnp.sum(jnp.square(weight) * learning.device_variance * inverse_batch)


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
    return two_stage_fraction(scenario.learning, _effort(allocation)).value


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
    return fine_tuning_fraction(scenario.learning, _effort(allocation)).value


BOUNDS: Mapping[str, Bound] = MappingProxyType(
    {"two-stage": two_stage_bound, "fine-tuning": fine_tuning_bound}
)
"""The bounds by the name that users type."""

FRACTIONS: Mapping[str, Callable[[Learning, Effort], Fraction]] = MappingProxyType(
    {"two-stage": two_stage_fraction, "fine-tuning": fine_tuning_fraction}
)
"""The same before the division, for the coordinates in which they are convex over linear."""


def bound_named(name: str) -> Bound:
    """Return the bound of that name.

    Raises:
        ValueError: naming the nearest bound, where there is none of that name.
    """
    return BOUNDS[_known(name)]


def fraction_named(name: str) -> Callable[[Learning, Effort], Fraction]:
    """Return the bound of that name as a fraction.

    Raises:
        ValueError: naming the nearest bound, where there is none of that name.
    """
    return FRACTIONS[_known(name)]


def _known(name: str) -> str:
    if name in BOUNDS:
        return name
    near = difflib.get_close_matches(str(name).lower().replace("_", "-"), BOUNDS, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"bound is {name!r}, but must be one of {', '.join(BOUNDS)}{hint}")


def _effort(allocation: Allocation) -> Effort:
    return Effort(
        pretraining_rounds=jnp.asarray(allocation.pretraining_rounds),
        finetuning_rounds=jnp.asarray(allocation.finetuning_rounds),
        inverse_server_batch=1 / jnp.asarray(allocation.server.batch),
        inverse_device_batch=1 / jnp.asarray(allocation.devices.batch),
    )


def required_pl_constant(learning: Learning) -> ArrayLike:
    """Mu of the fine-tuning bound; ValueError where the scenario has none."""
    if learning.pl_constant is None:
        raise ValueError(
            "learning.pl_constant is missing: the fine-tuning bound needs the Polyak-Lojasiewicz "
            "constant mu, a positive number of at most learning.smoothness"
        )
    return learning.pl_constant
