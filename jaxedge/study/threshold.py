"""When pre-training pays: the largest discrepancy at which it does, in closed form."""

from __future__ import annotations

import numpy as np

from jaxedge.answers.batch import Answers
from jaxedge.scenario.scenario import Scenario


def discrepancy_threshold(scenarios: Scenario, finetuning_only: Answers) -> np.ndarray:
    """The discrepancy below which pre-training lowers the relaxed optimal bound, (B,).

    At the best design without pre-training let Theta be its bound and lam, nu the prices of energy
    and time. A round of pre-training lowers the bound where it costs less than it weighs,
    A(lam, nu) < eta0 Theta (docs/theory.md), and d^2 enters A as eta0 d^2 alone:

        d^2 < Theta - min_b [L eta0^2 s0/b + pi b]/eta0,
        pi = lam kappa0 c0^3/tau^2 + nu tau,   tau = max((2 lam kappa0 c0^3/nu)^(1/3), c0/f_max),

    at b = sqrt(L eta0^2 s0/pi), cut to its limits. By convexity what lowers the bound at first
    lowers the optimum, and nothing else does. Least rounds of pre-training must be 0.

    Args:
        scenarios: stacked, as `validate_batch` gives them.
        finetuning_only: relaxed optima of theirs without pre-training, with shadow prices.

    Returns:
        Negative where pre-training pays at no discrepancy; nan where there is no design.
    """
    learning, server = scenarios.learning, scenarios.server
    rate, clock = np.asarray(learning.server_learning_rate), np.asarray(server.max_clock)
    weight = finetuning_only.allocation.finetuning_rounds * learning.device_learning_rate
    lam, nu = (
        -np.asarray(finetuning_only.shadow_prices[name]) * weight
        for name in ("energy_budget", "delay_budget")
    )
    cycles = np.asarray(server.cycles_per_sample)
    work = np.asarray(server.capacitance) * cycles**3
    with np.errstate(divide="ignore", invalid="ignore"):
        slow = np.where(lam > 0, np.cbrt(2 * lam * work / nu), 0.0)
        tau = np.maximum(slow, cycles / clock)
        price = lam * work / tau**2 + nu * tau
        noise = np.asarray(learning.smoothness) * rate**2 * learning.server_variance
        batch = np.clip(np.sqrt(noise / price), server.min_batch, server.max_batch)
    cost = (noise / batch + price * batch) / rate
    return np.asarray(finetuning_only.bound - cost)
