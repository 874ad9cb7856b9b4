"""Dual decomposition: two bracketed line searches over the prices, a scalar root per device.

For a fixed energy price the dual is maximised over the price of time, reached through the round
time R that the devices share: at R each device's own price of time is a scalar root, found for all
devices side by side. The outer search finds the energy price at which the energy balances.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxedge.methods.roots import bracketed_root, decreasing_roots
from jaxedge.program.certificates import ray_values
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices, respond, respond_computing, respond_transmission

LOG_PRICE_MIN, LOG_PRICE_MAX = -60.0, 40.0
"""Range of the logarithms of the scaled prices; a price at its lower end counts as zero."""
_TILT = 1e-5
"""Slope that makes the split of the time price unique where a device's time does not react.

A device at all its limits has one time for a range of prices, and there the split is set-valued;
the tilt lowers the dual, by up to 1e-5 of it (`tests/relaxation/test_dual_solvers.py`), and is
removed when the design is read off."""
_TOLERANCE = 1e-13


def device_log_time(program: Program, lam: Array, log_nu: Array, *, integer: bool) -> Array:
    """(K,) logarithm of each device's time in a round at its own price of time."""
    nus = jnp.exp(log_nu)
    work = respond_computing(program.devices, lam, nus, integer=integer)
    return jnp.log(work.time + respond_transmission(program.uploads, lam, nus).time)


def split(
    program: Program, lam: Array, log_round: Array, start: Array, *, tilt: float, integer: bool
) -> Array:
    """(K,) log prices of time at which each device takes the (tilted) time exp(log_round)."""
    low, high = jnp.full_like(start, LOG_PRICE_MIN), jnp.full_like(start, LOG_PRICE_MAX)

    def excess(log_nu: Array) -> Array:
        time = device_log_time(program, lam, log_nu, integer=integer)
        return time - tilt * log_nu - log_round

    return decreasing_roots(excess, low, high, start, tolerance=_TOLERANCE)


class _Balance(NamedTuple):
    value: Array
    energy: Array


def _balance(program: Program, prices: Prices, *, integer: bool) -> _Balance:
    """Slope of the dual in the price of time, and the energy excess of the best mix of rounds.

    value: least dual piece that underspends time minus least piece that overspends; its root in
    the price of time maximises the dual. energy: log(spent/budget) for the mix of these two
    pieces that spends the delay budget exactly.
    """
    r = respond(program, prices, integer=integer)
    idle = program.gap - prices.energy - prices.time
    pieces = ray_values(program, r.pretraining_cost, r.finetuning_cost, idle)
    spent = [
        ray_values(program, r.pretraining_use[i], r.finetuning_use[i], jnp.zeros_like(idle))
        for i in (0, 1)
    ]
    delay_excess = spent[1] - program.rays[:, 2]
    over, big = delay_excess > 0, jnp.finfo(pieces.dtype).max
    i_over = jnp.argmin(jnp.where(over, pieces, big))
    i_under = jnp.argmin(jnp.where(over, big, pieces))
    any_over, any_under = jnp.any(over), jnp.any(~over)
    value = jnp.where(any_over, jnp.where(any_under, pieces[i_under] - pieces[i_over], big), -big)
    mix = -delay_excess[i_under] / (delay_excess[i_over] - delay_excess[i_under])
    mix = jnp.where(any_over, jnp.where(any_under, mix, 1.0), 0.0)
    energy = mix * spent[0][i_over] + (1 - mix) * spent[0][i_under]
    budget = mix * program.rays[i_over, 2] + (1 - mix) * program.rays[i_under, 2]
    return _Balance(value, jnp.log(energy) - jnp.log(budget))


def solve_prices(program: Program, *, integer: bool = False) -> Prices:
    """Prices that maximise the dual of a feasible scalar program."""
    low, high = jnp.full_like(program.devices.work, LOG_PRICE_MIN), LOG_PRICE_MAX

    def at_round(lam: Array, log_round: Array, start: Array) -> tuple[_Balance, Array]:
        log_nu = split(program, lam, log_round, start, tilt=_TILT, integer=integer)
        prices = Prices(energy=lam, device_time=jnp.exp(log_nu))
        return _balance(program, prices, integer=integer), log_nu

    def at_energy_price(log_lam: Array, start: Array) -> tuple[Array, Array]:
        lam = jnp.exp(log_lam)
        fastest = device_log_time(program, lam, low + high - low, integer=integer) - _TILT * high
        slowest = device_log_time(program, lam, low, integer=integer) - _TILT * low

        def slope(log_round: Array, start: Array) -> tuple[Array, Array]:
            balance, log_nu = at_round(lam, log_round, start)
            return balance.value, log_nu

        # A short round means a high price of time: the dual's slope falls with the price.
        log_round, log_nu = bracketed_root(
            lambda r, s: slope(-r, s),
            -jnp.max(slowest),
            -jnp.max(fastest),
            start,
            tolerance=_TOLERANCE,
        )
        balance, log_nu = at_round(lam, -log_round, log_nu)
        return balance.energy, log_nu

    zero = jnp.zeros_like(low)
    log_lam, start = bracketed_root(
        at_energy_price,
        jnp.full_like(program.gap, LOG_PRICE_MIN),
        jnp.full_like(program.gap, LOG_PRICE_MAX),
        zero,
        tolerance=_TOLERANCE,
    )
    _, log_nu = at_energy_price(log_lam, start)
    return Prices(energy=jnp.exp(log_lam), device_time=jnp.exp(log_nu))
