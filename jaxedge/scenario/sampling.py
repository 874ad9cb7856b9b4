"""Random scenarios of a macro cell from a JAX key: positions, shadowing, fading, uneven devices.

Positions are uniform in a disc, the loss is 3GPP's 128.1 + 37.6 log10(d/km) dB with log-normal
shadowing, the fading is Rayleigh and differs between uplink and downlink. JAX draws the uniform
numbers (the same bits everywhere) and NumPy transforms them; what it gives is rounded to the
precision of float32, which hides the last bits in which machines differ.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxedge.scenario.costs import Cost, circuit_power, computing, rate_for_power, sending
from jaxedge.scenario.scenario import Devices, Learning, Scenario, Server
from jaxedge.scenario.validation import MAX_DEVICES, validate_batch

NOISE_DENSITY = 1.259e-20
"""W/Hz, -169 dBm/Hz: thermal noise at 290 K (-174) and a receiver's usual noise figure (5 dB)."""

RESOURCE_BLOCK = 180e3
"""Hz: 12 subcarriers of 15 kHz, the unit in which LTE and 5G NR grant bandwidth (TS 38.211)."""

DEVICE_POWER = 0.1995
"""W, 23 dBm: power class 3 of handsets (3GPP TS 36.101 and 38.101-1)."""

_PER_DEVICE, _COMMON = 12, 14  # uniform numbers drawn, with a few to spare
_LEAST_GAIN = 10 ** (-14.4)  # 144 dB, beyond which LTE does not reach (TR 45.820)
_GREATEST_GAIN = 10 ** (-7.0)  # 70 dB, the minimum coupling loss of a macro cell (TR 36.942)


def path_loss_gain(distance_km: np.ndarray) -> np.ndarray:
    """Power gain of 3GPP's macro cell: loss 128.1 + 37.6 log10(d/km) dB (TR 25.814, TR 36.814)."""
    return np.asarray(10.0 ** (-(128.1 + 37.6 * np.log10(distance_km)) / 10.0))


def sample(
    key: jax.Array,
    num_devices: int = 10,
    *,
    tightness: float = 0.0,
    radius_km: float = 0.5,
    shadowing_db: float = 8.0,
) -> Scenario:
    """Draw one scenario with K = ``num_devices``, valid and normalised.

    Budgets are what R rounds of both stages cost at half clock and power, R^(1 - tightness) with R
    log-uniform in [100, 3000], drawn apart for energy and delay: at tightness 0 hundreds of rounds
    fit, at 1 about one; at 1.1 every second scenario is infeasible, at 1.3 nearly all are.

    Raises:
        ValueError: if an argument is outside its domain.
    """
    batch = _draw(key[None], num_devices, tightness, radius_km, shadowing_db)
    scenario: Scenario = jax.tree.map(lambda leaf: leaf[0], batch)
    return scenario


def sample_batch(
    key: jax.Array,
    count: int,
    num_devices: int = 10,
    *,
    tightness: float = 0.0,
    radius_km: float = 0.5,
    shadowing_db: float = 8.0,
) -> Scenario:
    """Draw B = ``count`` scenarios stacked along a leading axis (B, ...).

    Element i is ``sample(jax.random.split(key, count)[i], num_devices, ...)``.

    Raises:
        ValueError: if an argument is outside its domain.
    """
    _require_count("count", count, 10**9)
    keys = jax.random.split(key, count)
    return _draw(keys, num_devices, tightness, radius_km, shadowing_db)


def _require_count(name: str, value: int, greatest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= greatest:
        raise ValueError(f"{name} = {value!r}: must be a whole number from 1 to {greatest}")


def _draw(
    keys: jax.Array, num_devices: int, tightness: float, radius_km: float, shadowing_db: float
) -> Scenario:
    _require_count("num_devices", num_devices, MAX_DEVICES)
    if not 0.0 < radius_km < np.inf:
        raise ValueError(f"radius_km = {radius_km!r} km: must be finite and > 0")
    if not 0.0 <= shadowing_db < np.inf:
        raise ValueError(f"shadowing_db = {shadowing_db!r} dB: must be finite and >= 0")
    if not np.isfinite(tightness):
        raise ValueError(f"tightness = {tightness!r}: must be finite; 0 is loose, 1 is tight")
    drawn = uniforms(keys, _COMMON + _PER_DEVICE * num_devices)
    common = iter(drawn[:, :_COMMON].T)
    each = drawn[:, _COMMON:].reshape(-1, _PER_DEVICE, num_devices)
    devices = iter(np.moveaxis(each, 1, 0))
    loose = _scenario(common, devices, num_devices, radius_km, shadowing_db)
    return validate_batch(_with_budgets(loose, common, tightness))


def uniforms(keys: jax.Array, count: int) -> np.ndarray:
    """Uniform numbers in (0, 1] from B keys, shape (B, count)."""
    with jax.enable_x64(True):
        draw = functools.partial(jax.random.uniform, shape=(count,), dtype="float64")
        return 1.0 - np.asarray(jax.vmap(draw)(keys))


def _scenario(
    common: Iterator[np.ndarray],
    each: Iterator[np.ndarray],
    num_devices: int,
    radius_km: float,
    shadowing_db: float,
) -> Scenario:
    """The scenario without its budgets; draws are consumed in the order written."""
    carrier = 52 * RESOURCE_BLOCK  # 10 MHz (TS 38.101-1, table 5.3.2-1)
    bits = _log_uniform(common, 1e5, 1e7)  # small networks, quantised, to a million parameters
    uplink, downlink = cell_gains(each, radius_km, shadowing_db)
    return Scenario(
        learning=_learning(common, each),
        server=Server(
            cycles_per_sample=_log_uniform(common, 1e6, 1e7),
            capacitance=_log_uniform(common, 1e-28, 1e-26),
            max_clock=_log_uniform(common, 3e9, 2e10),
            max_batch=512,
            bandwidth=carrier,
            max_power=1.0,  # 30 dBm, a small cell
        ),
        devices=Devices(
            cycles_per_sample=_uniform(each, 1e7, 3e7),
            capacitance=_uniform(each, 0.5e-28, 2e-28),
            max_clock=_uniform(each, 0.5e9, 2e9),  # old and new handsets
            max_batch=128,
            bandwidth=carrier / num_devices,
            gain=uplink,
            downlink_gain=downlink,
            max_power=DEVICE_POWER,
        ),
        noise_density=NOISE_DENSITY,
        upload_bits=bits,
        download_bits=bits,
        energy_budget=1.0,
        delay_budget=1.0,
    )


def _learning(common: Iterator[np.ndarray], each: Iterator[np.ndarray]) -> Learning:
    steps = np.array([0.005, 0.01, 0.02])  # all below 1/smoothness
    weight = _rounded(-np.log(next(each)))
    return Learning(
        initial_gap=_uniform(common, 1.0, 4.0),
        smoothness=10.0,
        discrepancy=_log_uniform(common, 1e-3, 1.0),
        server_learning_rate=_choice(common, steps),
        device_learning_rate=_choice(common, steps),
        server_variance=_uniform(common, 5.0, 20.0),
        device_variance=_uniform(each, 5.0, 20.0),
        # Normalised exponential draws: Dirichlet(1, ..., 1), every split equally likely.
        device_weight=weight / weight.sum(axis=-1, keepdims=True),
        pl_constant=_log_uniform(common, 0.03, 1.0),
    )


def normal(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Box and Muller's standard normal number from two uniform ones in (0, 1]."""
    return np.asarray(np.sqrt(-2.0 * np.log(first)) * np.cos(2.0 * np.pi * second))


def cell_gains(
    each: Iterator[np.ndarray], radius_km: float, shadowing_db: float
) -> tuple[np.ndarray, np.ndarray]:
    """Uplink and downlink gains (B, K): common path loss and shadowing, separate fading.

    Five arrays (B, K) of uniform numbers in (0, 1] are taken from ``each``.
    """
    distance = np.maximum(radius_km * np.sqrt(next(each)), 0.01)  # at least 10 m away
    shadowing = shadowing_db * normal(next(each), next(each))
    mean = path_loss_gain(distance) * 10.0 ** (shadowing / 10.0)
    faded = [mean * -np.log(next(each)) for _ in range(2)]
    uplink, downlink = (plausible_gain(gain) for gain in faded)
    return uplink, downlink


def plausible_gain(gain: np.ndarray) -> np.ndarray:
    """Power gains cut to what radios meet, 70 to 144 dB of loss, in the precision of float32."""
    return _rounded(np.clip(gain, _LEAST_GAIN, _GREATEST_GAIN))


def _with_budgets(loose: Scenario, common: Iterator[np.ndarray], tightness: float) -> Scenario:
    energy, delay = _reference_round(loose)
    multiples = [_log_uniform(common, 100.0, 3000.0) ** (1.0 - tightness) for _ in range(2)]
    return dataclasses.replace(
        loose,
        energy_budget=_rounded(energy * multiples[0]),
        delay_budget=_rounded(delay * multiples[1]),
    )


def _reference_round(scenario: Scenario) -> tuple[np.ndarray, np.ndarray]:
    """Energy (B,) and time (B,) of one round of both stages at half clock and half power."""
    server, devices = scenario.server, scenario.devices
    watts = jax.vmap(circuit_power)(validate_batch(scenario))
    weakest = np.asarray(devices.downlink_gain).min(axis=-1)
    own = _computing(server, 16, watts.server)
    wait = _sending(scenario, server, weakest, scenario.download_bits, watts.broadcast)
    each = _computing(devices, 4, watts.devices)
    bits = np.asarray(scenario.upload_bits)[:, None]
    sent = _sending(scenario, devices, devices.gain, bits, watts.uploads)
    joules, seconds = each.energy + sent.energy, each.time + sent.time
    return (
        np.asarray(own.energy + wait.energy + joules.sum(axis=-1)),
        np.asarray(own.time + wait.time + seconds.max(axis=-1)),
    )


def _computing(part: Any, batch: int, circuit: Any) -> Cost:
    return computing(part, batch, part.max_clock / 2.0, circuit)


def _sending(scenario: Scenario, part: Any, gain: Any, bits: Any, circuit: Any) -> Cost:
    power, noise = part.max_power / 2.0, np.asarray(scenario.noise_density)
    rate = rate_for_power(power, part.bandwidth, gain, noise, xp=np)
    return sending(bits, rate, power, circuit)


def _uniform(draws: Iterator[np.ndarray], low: float, high: float) -> np.ndarray:
    return _rounded(low + (high - low) * next(draws))


def _log_uniform(draws: Iterator[np.ndarray], low: float, high: float) -> np.ndarray:
    return _rounded(low * (high / low) ** next(draws))


def _choice(draws: Iterator[np.ndarray], options: np.ndarray) -> np.ndarray:
    # Uniform numbers are in (0, 1], so the last index is reached by rounding up.
    return np.asarray(options[np.ceil(next(draws) * len(options)).astype(int) - 1])


def _rounded(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.float64)
