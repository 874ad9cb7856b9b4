"""The relaxed two-stage problem as a general nonlinear program, solved by SciPy's SLSQP.

Written from the formulas in the logarithms of the original variables, with none of the structure
that jaxedge's solvers use: slow, for a few devices only, and an independent judge of them.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from jaxedge.scenario.scenario import Scenario


@dataclasses.dataclass(frozen=True)
class Optimum:
    """The best point found: bound, rounds M and N, shares of the budgets used."""

    bound: float
    pretraining_rounds: float
    finetuning_rounds: float
    energy_share: float
    delay_share: float


def _costs(scenario: Scenario, design):
    """(e0, e1, t0, t_dl, t_k) of a round of each stage."""
    (b0, f0, p0), (b, f, p) = design
    server, devices, noise = scenario.server, scenario.devices, scenario.noise_density
    rate = devices.bandwidth * jnp.log2(1 + p * devices.gain / (noise * devices.bandwidth))
    weakest = jnp.min(devices.downlink_gain)
    rate0 = server.bandwidth * jnp.log2(1 + p0 * weakest / (noise * server.bandwidth))
    down, up = scenario.download_bits / rate0, scenario.upload_bits / rate
    work0, work = server.cycles_per_sample * b0, devices.cycles_per_sample * b
    e0 = server.capacitance * work0 * f0**2
    e1 = p0 * down + jnp.sum(devices.capacitance * work * f**2 + p * up)
    return e0, e1, work0 / f0, down, work / f + up


def _bound(scenario: Scenario, m, n, b0, b):
    task = scenario.learning
    eta0, eta = task.server_learning_rate, task.device_learning_rate
    noise0 = task.smoothness * eta0**2 * task.server_variance / b0
    noise = task.smoothness * eta**2 * jnp.sum(task.device_weight**2 * task.device_variance / b)
    numerator = 2 * task.initial_gap + m * (eta0 * task.discrepancy + noise0) + n * noise
    return numerator / (m * eta0 + n * eta)


def _limits(scenario: Scenario):
    server, devices = scenario.server, scenario.devices
    rounds = [scenario.min_pretraining_rounds, scenario.min_finetuning_rounds]
    low = [*rounds, server.min_batch, server.max_clock / 1e3, server.max_power / 1e4, 1e-6]
    high = [1e8, 1e8, server.max_batch, server.max_clock, server.max_power, 1e6]
    low_each = [devices.min_batch, devices.max_clock / 1e3, devices.max_power / 1e4]
    high_each = [devices.max_batch, devices.max_clock, devices.max_power]
    return np.log(np.concatenate([low, *low_each])), np.log(np.concatenate([high, *high_each]))


def slsqp(scenario: Scenario, objective, slack, tolerance: float):
    """SciPy's answer in logs of M, N, R, b, f, p: least objective (with gradient), slack >= 0."""
    low, high = _limits(scenario)
    devices = scenario.devices.gain.size
    start = np.concatenate([np.log([100.0, 100.0, 4.0]), high[3:5] - 0.5, [0.0]])
    each = np.concatenate([np.full(devices, np.log(3.0)), high[6 + devices :] - 0.7])
    found = minimize(
        lambda z: tuple(map(np.asarray, objective(z))),
        np.clip(np.concatenate([start, each]), low, high),
        jac=True,
        method="SLSQP",
        bounds=list(zip(low, high, strict=True)),
        constraints={"type": "ineq", "fun": jax.jit(slack), "jac": jax.jit(jax.jacfwd(slack))},
        options={"maxiter": 500, "ftol": tolerance},
    )
    assert found.success, found.message
    return found


def relaxed_optimum(scenario: Scenario) -> Optimum:
    """Solve the relaxation; variables are the logs of (M, N, b0, f0, p0, R, b, f, p)."""

    def split(z):
        x = jnp.exp(z)
        return x[0], x[1], x[5], (x[2:5], x[6:].reshape(3, -1))

    @jax.jit
    @jax.value_and_grad
    def objective(z):
        m, n, _, (common, each) = split(z)
        return jnp.log(_bound(scenario, m, n, common[0], each[0]))

    def slack(z):
        m, n, time, design = split(z)
        e0, e1, t0, down, each = _costs(scenario, design)
        energy = jnp.log(scenario.energy_budget / (m * e0 + n * e1))
        delay = jnp.log(scenario.delay_budget / (m * t0 + n * (down + time)))
        return jnp.concatenate([jnp.stack([energy, delay]), jnp.log(time / each)])

    found = slsqp(scenario, objective, slack, tolerance=1e-11)
    used = np.exp(-np.asarray(slack(found.x))[:2])
    return Optimum(float(np.exp(found.fun)), *map(float, np.exp(found.x[:2])), *map(float, used))
