"""The planning problem in logarithms of M, N, b0, f0, p0, R, b, f and p, as JAX functions.

R is the devices' common round time, so that the maximum over devices becomes K inequalities.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.scenario.scenario import Scenario
from peers.parameters import starting_choices


def log_bound(z: jax.Array, scenario: Scenario) -> jax.Array:
    """() logarithm of the two-stage bound."""
    (m, n, b0, *_), (b, _, _) = _split(z)
    task = scenario.learning
    eta0, eta = task.server_learning_rate, task.device_learning_rate
    noise0 = task.smoothness * eta0**2 * task.server_variance / b0
    spread = jnp.sum(task.device_weight**2 * task.device_variance / b)
    numerator = 2 * task.initial_gap + m * (eta0 * task.discrepancy + noise0)
    numerator += n * task.smoothness * eta**2 * spread
    return jnp.log(numerator / (m * eta0 + n * eta))


def limits(z: jax.Array, scenario: Scenario) -> jax.Array:
    """(2+K,) logarithms of energy and delay over their budgets and of the times over R, <= 0."""
    (m, n, b0, f0, p0, slowest), (b, f, p) = _split(z)
    server, devices, noise = scenario.server, scenario.devices, scenario.noise_density
    weakest = jnp.min(devices.downlink_gain)
    down = _sending(scenario.download_bits, server.bandwidth, p0 * weakest / noise)
    up = _sending(scenario.upload_bits, devices.bandwidth, p * devices.gain / noise)
    cycles0, cycles = server.cycles_per_sample * b0, devices.cycles_per_sample * b
    each = devices.capacitance * cycles * f**2 + p * up
    energy = m * server.capacitance * cycles0 * f0**2 + n * (p0 * down + jnp.sum(each))
    delay = m * cycles0 / f0 + n * (down + slowest)
    shares = jnp.stack([energy / scenario.energy_budget, delay / scenario.delay_budget])
    return jnp.log(jnp.concatenate([shares, (cycles / f + up) / slowest]))


def boxes(scenario: Scenario) -> tuple[np.ndarray, np.ndarray]:
    """(6+3K,) lowest and highest logarithms."""
    server, devices, delay = scenario.server, scenario.devices, scenario.delay_budget
    m, n = (max(x, 1e-9) for x in (scenario.min_pretraining_rounds, scenario.min_finetuning_rounds))
    low = [m, n, server.min_batch, server.max_clock * 1e-4, server.max_power * 1e-8, delay * 1e-9]
    high = [1e12, 1e12, server.max_batch, server.max_clock, server.max_power, delay / min(n, 1e6)]
    each_low = [devices.min_batch, devices.max_clock * 1e-4, devices.max_power * 1e-8]
    each_high = [devices.max_batch, devices.max_clock, devices.max_power]
    return np.log(np.concatenate([low, *each_low])), np.log(np.concatenate([high, *each_high]))


def start_of(scenario: Scenario) -> np.ndarray:
    """(6+3K,) where all methods start: half speed on half of the budgets."""
    choices = starting_choices(scenario)
    devices = scenario.devices
    batch, clock, power = choices[5:].reshape(3, -1)
    width, noise = devices.bandwidth, scenario.noise_density
    upload = _sending(scenario.upload_bits, width, power * devices.gain / noise)
    slowest = np.max(devices.cycles_per_sample * batch / clock + np.asarray(upload))
    return np.log(np.concatenate([choices[:5], [1.1 * slowest], choices[5:]]))


def _split(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The six shared variables and (3, K) of the devices."""
    x = jnp.exp(z)
    return x[:6], x[6:].reshape(3, -1)


def _sending(bits: jax.Array, width: jax.Array, received: jax.Array) -> jax.Array:
    """Seconds of a transmission; ``received`` is power times gain over the noise density."""
    return bits * np.log(2) / (width * jnp.log1p(received / width))
