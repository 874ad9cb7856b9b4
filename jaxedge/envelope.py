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

from jaxedge.design import Design
from jaxedge.program import Program
from jaxedge.responses import Prices, respond

_AT_LEAST = 1e-6
"""Share of the denominator beyond the least rounds below which a stage runs for the least."""


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
    """The saddle point of a scalar program at its optimal design, prices and value."""
    rounds, answer = program.rounds, respond(program, prices)
    m, n = design.pretraining_rounds, design.finetuning_rounds
    scaling = 1 / (m * rounds.server_rate + n * rounds.device_rate)

    def price(cost: Array, rate: Array, count: Array, least: Array) -> Array:
        more = (count - least) * rate * scaling > _AT_LEAST
        return jnp.where(more, 0.0, jnp.maximum(cost - value * rate, 0.0))

    first = (answer.pretraining_cost, rounds.server_rate, m, rounds.min_pretraining)
    second = (answer.finetuning_cost, rounds.device_rate, n, rounds.min_finetuning)
    return Saddle(
        prices=prices,
        pretraining=m * scaling,
        finetuning=n * scaling,
        scaling=scaling,
        value=value,
        least_pretraining=price(*first),
        least_finetuning=price(*second),
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
