"""Wireless links: the rates of uploads and broadcast, and the powers behind them."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.scenario.costs import rate_for_power
from jaxedge.scenario.scenario import Devices, Scenario
from jaxedge.scenario.units import LN2
from jaxedge.system.allocation import Allocation


def power_for_rate(
    rate: ArrayLike, bandwidth: ArrayLike, gain: ArrayLike, noise_density: ArrayLike
) -> Array:
    """Power that a rate takes, (N0 B/h) (2^(r/B) - 1): the inverse of ``rate_for_power``.

    Args:
        rate: r in bit/s, any shape.
        bandwidth: B in Hz.
        gain: h, channel power gain.
        noise_density: N0 in W/Hz.

    Returns:
        Power in W.
    """
    return jnp.expm1(LN2 * rate / bandwidth) * (noise_density * bandwidth / gain)


def power_for_time(
    time: ArrayLike,
    bits: ArrayLike,
    bandwidth: ArrayLike,
    gain: ArrayLike,
    noise_density: ArrayLike,
) -> Array:
    """Power that sends ``bits`` S in ``time`` u, (N0 B/h) (2^(S/(B u)) - 1).

    Args:
        time: u in s, any shape, positive.
        bits: S in bit.
        bandwidth: B in Hz.
        gain: h, channel power gain.
        noise_density: N0 in W/Hz.

    Returns:
        Power in W.
    """
    return power_for_rate(bits / time, bandwidth, gain, noise_density)


def weakest_downlink_gain(devices: Devices) -> Array:
    """() min_k g_k, the gain that a broadcast must serve; g_k = h_k where none is given."""
    gain = devices.gain if devices.downlink_gain is None else devices.downlink_gain
    return jnp.min(jnp.asarray(gain))


def uplink_rate(scenario: Scenario, allocation: Allocation) -> Array:
    """(K,) upload rates in bit/s, B_k log2(1 + p_k h_k/(N0 B_k))."""
    devices = scenario.devices
    return rate_for_power(
        allocation.devices.power, devices.bandwidth, devices.gain, scenario.noise_density
    )


def downlink_rate(scenario: Scenario, allocation: Allocation) -> Array:
    """() broadcast rate in bit/s, B_0 log2(1 + p_0 min_k g_k/(N0 B_0))."""
    gain = weakest_downlink_gain(scenario.devices)
    return rate_for_power(
        allocation.server.power, scenario.server.bandwidth, gain, scenario.noise_density
    )
