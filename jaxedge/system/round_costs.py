"""What every part of the system spends in one round, for all who count joules and seconds."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from jaxedge.scenario.costs import Cost, circuit_power, computing, sending
from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation
from jaxedge.system.channel import downlink_rate, uplink_rate


class RoundCosts(NamedTuple):
    """Joules and seconds of each part in one round of its stage."""

    server: Cost
    """() computing of pre-training: kappa_0 c_0 b_0 f_0² and c_0 b_0/f_0."""
    broadcast: Cost
    """() p_0 S_d/rate_0 and S_d/rate_0."""
    devices: Cost
    """(K,) computing: kappa_k c_k b_k f_k² and c_k b_k/f_k."""
    uploads: Cost
    """(K,) p_k S_u/rate_k and S_u/rate_k."""


def round_costs(scenario: Scenario, allocation: Allocation) -> RoundCosts:
    """What one round of either stage costs; circuits' joules are in each part."""
    watts = circuit_power(scenario)
    own, theirs = allocation.server, allocation.devices
    up, down = uplink_rate(scenario, allocation), downlink_rate(scenario, allocation)
    server = jnp.asarray(own.batch), jnp.asarray(own.clock)
    devices = jnp.asarray(theirs.batch), jnp.asarray(theirs.clock)
    return RoundCosts(
        server=computing(scenario.server, *server, watts.server),
        broadcast=sending(scenario.download_bits, down, own.power, watts.broadcast),
        devices=computing(scenario.devices, *devices, watts.devices),
        uploads=sending(scenario.upload_bits, up, theirs.power, watts.uploads),
    )
