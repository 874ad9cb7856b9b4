"""Joules and seconds of computing and of sending in SI units, once: whoever counts asks here.

A part draws its power, and what its circuits draw besides, for as long as it works::

    computing    c b cycles at the clock f    c b/f seconds    kappa c b f^2 + circuit c b/f joules
    sending      S bits at the rate r         S/r seconds      p S/r + circuit S/r joules

`CIRCUITS` adds a joule to all that this package plans, judges and writes down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxedge.scenario.scenario import Devices, Scenario, Server
from jaxedge.scenario.units import LN2


class CircuitPower(NamedTuple):
    """W that each part draws for as long as it works, whatever its clock and its power, or None."""

    server: ArrayLike | None
    """() while the server computes."""
    broadcast: ArrayLike | None
    """() while the model is broadcast."""
    devices: ArrayLike | None
    """(K,) while a device computes."""
    uploads: ArrayLike | None
    """(K,) while it sends."""


NO_CIRCUITS = CircuitPower(None, None, None, None)

CIRCUITS: dict[str, Callable[[Scenario], CircuitPower]] = {}
"""What draws power for as long as parts work, by name; all of it is added up.

Each is a function of one scenario. It is read where a computation is compiled: what changes it
later must clear JAX's caches.
"""


def circuit_power(scenario: Scenario) -> CircuitPower:
    """All of `CIRCUITS` together; None for each part, which costs nothing, where there are none."""
    if not CIRCUITS:
        return NO_CIRCUITS
    drawn = zip(*(power(scenario) for power in CIRCUITS.values()), strict=True)
    one, each = jnp.ones_like(scenario.server.max_power), jnp.ones_like(scenario.devices.gain)
    likes = (one, one, each, each)
    return CircuitPower(*(sum(parts) * like for parts, like in zip(drawn, likes, strict=True)))


class Cost(NamedTuple):
    """Of one round."""

    energy: Array
    """J"""
    time: Array
    """s"""


def computing(
    part: Server | Devices, batch: ArrayLike, clock: ArrayLike, circuit: ArrayLike | None
) -> Cost:
    """Cost of computing ``batch`` samples.

    Args:
        part: with cycles per sample c and capacitance kappa, () or (K,).
        batch: b in samples.
        clock: f in Hz.
        circuit: W, or None.
    """
    cycles: Any = part.cycles_per_sample * batch
    time = cycles / clock
    return Cost(with_circuit(cycles * part.capacitance * (clock * clock), time, circuit), time)


def sending(bits: ArrayLike, rate: ArrayLike, power: ArrayLike, circuit: ArrayLike | None) -> Cost:
    """Cost of a transmission.

    Args:
        bits: S in bit.
        rate: in bit/s, any shape.
        power: p in W.
        circuit: W, or None.
    """
    time: Any = 1 / rate * bits
    return Cost(with_circuit(time * power, time, circuit), time)


def with_circuit(energy: Array, time: ArrayLike, circuit: ArrayLike | None) -> Array:
    """J with those that ``circuit`` W draw in ``time`` s."""
    return energy if circuit is None else energy + circuit * time


def rate_for_power(
    power: ArrayLike,
    bandwidth: ArrayLike,
    gain: ArrayLike,
    noise_density: ArrayLike,
    *,
    xp: Any = jnp,
) -> Array:
    """Rate of a link, B log2(1 + p h/(N0 B)).

    Args:
        power: p in W, any shape.
        bandwidth: B in Hz.
        gain: h, channel power gain.
        noise_density: N0 in W/Hz.
        xp: numpy for arrays on the host, or jax.numpy.

    Returns:
        Rate in bit/s, accurate at low signal-to-noise ratio too.
    """
    snr = xp.asarray(power * gain) / (noise_density * bandwidth)
    return xp.log1p(snr) * bandwidth / LN2
