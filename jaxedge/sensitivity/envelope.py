"""The envelope theorem: the optimum's gradient is the Lagrangian's, at the optimum and its prices.

With (P, Q, G) = (M, N, 1)/(M eta0 + N eta), the Lagrangian of a program is::

    L = scale [gap G + P A + Q B - (lam + nu) G + theta (1 - P eta0 - Q eta)
               - alpha (P - M_min G) - beta (Q - N_min G)]

where A and B are the least priced costs of a round of either stage, theta is the program's value,
and alpha = A - theta eta0, beta = B - theta eta price the least rounds. At the optimum its value is
the optimal bound. All that the optimum chooses, prices or design, is held fixed for the derivative;
A and B are minima already.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.program.design import Design
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices, respond


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Saddle:
    """What is held fixed: rounds, prices and multipliers of an optimum."""

    prices: Prices
    pretraining: Array
    """() P."""
    finetuning: Array
    """() Q."""
    scaling: Array
    """() G."""
    value: Array
    """() theta."""
    least_pretraining: Array
    """() alpha >= 0, the price of the least pre-training rounds; 0 where more are run."""
    least_finetuning: Array
    """() beta >= 0."""


def saddle_of(program: Program, design: Design, prices: Prices, value: Array) -> Saddle:
    """The saddle point of a scalar program at its nearly optimal design, prices and value.

    Of the rounds beyond a stage's least, as a share of the denominator, and the price of the least
    rounds, as a share of the value, one is zero at the optimum. The smaller is taken for it: paths
    to the optimum stop where both are still positive.
    """
    rounds, answer = program.rounds, respond(program, prices)
    m, n = design.pretraining_rounds, design.finetuning_rounds
    scaling = 1 / (m * rounds.server_rate + n * rounds.device_rate)

    def stage(cost: Array, rate: Array, count: Array, least: Array) -> tuple[Array, Array]:
        price = jnp.maximum(cost - value * rate, 0.0)
        more = (count - least) * rate * scaling > price / (value * rate)
        return jnp.where(more, count, least), jnp.where(more, 0.0, price)

    first = (answer.pretraining_cost, rounds.server_rate, m, rounds.min_pretraining)
    second = (answer.finetuning_cost, rounds.device_rate, n, rounds.min_finetuning)
    (m, alpha), (n, beta) = stage(*first), stage(*second)
    scaling = 1 / (m * rounds.server_rate + n * rounds.device_rate)
    return Saddle(
        prices=prices,
        pretraining=m * scaling,
        finetuning=n * scaling,
        scaling=scaling,
        value=value,
        least_pretraining=alpha,
        least_finetuning=beta,
    )


def lagrangian(program: Program, saddle: Saddle) -> Array:
    """() the optimal bound as a function of the program alone, right to first order."""
    rounds, prices, answer = program.rounds, saddle.prices, respond(program, saddle.prices)
    p, q, g = saddle.pretraining, saddle.finetuning, saddle.scaling
    cost = p * answer.pretraining_cost + q * answer.finetuning_cost
    idle = g * (program.gap - prices.energy - prices.time)
    weight = saddle.value * (1 - p * rounds.server_rate - q * rounds.device_rate)
    least = saddle.least_pretraining * (p - g * rounds.min_pretraining)
    least += saddle.least_finetuning * (q - g * rounds.min_finetuning)
    return program.scale * (cost + idle + weight - least)
