"""Clocks and powers that keep a deadline on the least energy: chains that share the delay.

Each device computes and then uploads; the server computes and broadcasts. These K + 1 *chains*
share the delay: the devices take R in every fine-tuning round and the server the rest,

    t_k(nu_k) = R,     t_s(nu) = T - N R,     nu = sum_k nu_k,

where t(nu) is a chain's time under the best response to the price nu of time in energy. The energy
is convex in R with slope N (nu - sum_k nu_k), so this is a root in R, with a decreasing root in the
logarithm of its price for each chain. log t is convex in log nu, so that Newton's method on
all equations at once is safe; it runs over u with N R = T/(1 + e^-u), near which all is almost
linear. What it leaves is repaired: chains fill their share of the delay exactly, at second order.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.methods.roots import bracketed_root, decreasing_roots
from jaxedge.program.elementary import rest_of_exp
from jaxedge.program.program import Program
from jaxedge.program.responses import transmission_exponent

TOLERANCE = 1e-12
"""Relative excess over a budget that is taken for rounding."""
LOG_ZERO = -100.0
"""Logarithm of a price (or of odds) that counts as zero."""
_SETTLED = 1e-5
"""Last step in the logarithms; errors are of its square, and the energy's of that one's square."""
_FLAT = -1e-12
"""Slopes of log t in log nu above this are none."""
_MAX_STEP = 4.0
_MAX_ITERATIONS = 25


class Chains(NamedTuple):
    """What computes and then sends, (K + 1,): the devices in one round, the server in all."""

    samples: Array
    work: Array
    min_time: Array
    max_time: Array
    sends: Array
    nats: Array
    joules: Array
    min_exponent: Array
    max_exponent: Array

    def respond(self, log_price: Array) -> tuple[Array, Array]:
        """Times per sample and exponents that are best at a price of time in energy."""
        free = jnp.exp((jnp.log(2 * self.work) - log_price) / 3)
        x = transmission_exponent(jnp.exp(log_price) * (self.nats / self.joules))
        tau = jnp.clip(free, self.min_time, self.max_time)
        return tau, jnp.clip(x, self.min_exponent, self.max_exponent)

    def time(self, tau: Array, x: Array) -> Array:
        """Computing and sending."""
        return self.samples * tau + self.sends * self.nats / x

    def energy(self, tau: Array, x: Array) -> Array:
        """Computing and sending."""
        return self.samples * self.work / tau**2 + self.sends * self.joules * jnp.expm1(x) / x

    def log_time(self, log_price: Array) -> Array:
        """Logarithm of the time under the best response."""
        time = self.time(*self.respond(log_price))
        return jnp.log(jnp.maximum(time, np.finfo(time.dtype).tiny))

    def log_price(self, tau: Array, x: Array) -> Array:
        """Highest price at which either choice is best; choices without freedom count as zero."""
        moves = (self.samples > 0) & (self.min_time < self.max_time) & (tau <= self.max_time)
        computing = jnp.where(moves, jnp.log(2 * self.work) - 3 * jnp.log(tau), LOG_ZERO)
        moves = (self.sends > 0) & (self.min_exponent < self.max_exponent)
        moves = moves & (x >= self.min_exponent)
        rest = jnp.log(self.joules / self.nats) + x + jnp.log(rest_of_exp(x)[1])
        sending = jnp.where(moves, rest, LOG_ZERO)
        return jnp.maximum(jnp.maximum(computing, sending), LOG_ZERO)

    def fill(self, log_price: Array, time: Array) -> tuple[Array, Array]:
        """Choices near the best response that take exactly ``time``, or as near as limits allow."""
        tau, x = self.respond(log_price)
        full = (time - self.sends * self.nats / x) / self.samples
        full = jnp.clip(full, self.min_time, self.max_time)
        tau = jnp.where(self.samples > 0, full, tau)
        left = time - self.samples * tau
        # Nothing left means the highest exponent; the division must not see a zero.
        full = self.sends * self.nats / jnp.maximum(left, np.finfo(left.dtype).tiny)
        full = jnp.clip(full, self.min_exponent, self.max_exponent)
        return tau, jnp.where(self.sends > 0, full, x)


def chains_of(program: Program, m: Array, n: Array, server: Array, device: Array) -> Chains:
    """The chains of a program at the given rounds and batches."""

    def join(of_devices: Array, of_server: Array) -> Array:
        return jnp.concatenate([jnp.broadcast_to(of_devices, device.shape), of_server[None]])

    a, b, up, down = program.devices, program.server, program.uploads, program.broadcast
    return Chains(
        samples=join(a.weight * device, m * b.weight * server),
        work=join(a.work, b.work),
        min_time=join(a.min_time, b.min_time),
        max_time=join(a.max_time, b.max_time),
        sends=join(jnp.ones_like(n), n),
        nats=join(up.nats, down.nats),
        joules=join(up.joules, down.joules),
        min_exponent=join(up.min_exponent, down.min_exponent),
        max_exponent=join(up.max_exponent, down.max_exponent),
    )


class _State(NamedTuple):
    odds: Array
    """() u, the logarithm of the devices' share of the delay over the server's."""
    log_price: Array
    """(K + 1,)"""
    step: Array
    steps: Array


class _Case(NamedTuple):
    """The chains with a deadline that they can keep, and the ends of what can be chosen."""

    chains: Chains
    rounds: Array
    """() N."""
    deadline: Array
    least_odds: Array
    """() the slowest device flat out."""
    greatest_odds: Array
    """() the server flat out."""
    fastest: Array
    """(K + 1,) time flat out."""
    top: Array
    """(K + 1,) least log prices at which chains are flat out."""


def _case(chains: Chains, rounds: Array, deadline: Array) -> _Case:
    fastest = chains.time(chains.min_time, chains.max_exponent)
    of_devices, of_server = rounds * jnp.max(fastest[:-1]), fastest[-1]
    deadline = jnp.maximum(deadline, of_devices + of_server)
    tiny = np.finfo(fastest.dtype).tiny

    def odds(ours: Array, theirs: Array) -> Array:
        ratio = jnp.log(jnp.maximum(ours, tiny)) - jnp.log(jnp.maximum(theirs, tiny))
        return jnp.where(rounds > 0, jnp.clip(ratio, LOG_ZERO, -LOG_ZERO), LOG_ZERO)

    least = odds(of_devices, deadline - of_devices)
    greatest = jnp.maximum(odds(deadline - of_server, of_server), least)
    # At the top itself the times have no slope; the square root of the rounding has one.
    top = chains.log_price(chains.min_time, chains.max_exponent)
    top = jnp.maximum(top - jnp.sqrt(np.finfo(top.dtype).eps), LOG_ZERO)
    return _Case(chains, rounds, deadline, least, greatest, fastest, top)


def _log_shares(case: _Case, odds: Array) -> Array:
    """(K + 1,) logarithms of the times that chains may take."""
    some = jnp.where(case.rounds > 0, case.rounds, 1)
    devices = jax.nn.log_sigmoid(odds) - jnp.log(some)
    devices = jnp.full_like(case.fastest[:-1], devices)
    return jnp.append(devices, jax.nn.log_sigmoid(-odds)) + jnp.log(case.deadline)


def _start(case: _Case) -> _State:
    """Even shares, and prices from below: computing alone, or sending, in what the other leaves."""
    odds = jnp.clip(jnp.zeros_like(case.deadline), case.least_odds, case.greatest_odds)
    share = jnp.exp(_log_shares(case, odds))
    tiny = np.finfo(share.dtype).tiny
    chains = case.chains
    sending = chains.sends * chains.nats
    tau = jnp.maximum(share - sending / chains.max_exponent, tiny)
    tau = tau / jnp.maximum(chains.samples, tiny)
    x = sending / jnp.maximum(share - chains.samples * chains.min_time, tiny)
    x = jnp.maximum(x, tiny)
    log_price = jnp.minimum(chains.log_price(tau, x), case.top)
    return _State(odds, log_price, jnp.full_like(odds, jnp.inf), jnp.zeros((), int))


def _iterate(case: _Case, s: _State) -> _State:
    """One Newton step on all equations, the prices' steps written in that of the odds."""
    log_time, slope = jax.jvp(case.chains.log_time, (s.log_price,), (jnp.ones_like(s.log_price),))
    inverse = 1 / jnp.minimum(slope, _FLAT)
    error = log_time - _log_shares(case, s.odds)
    z, tiny = jax.nn.sigmoid(s.odds), np.finfo(slope.dtype).tiny
    share_step = jnp.append(jnp.full_like(error[:-1], 1 - z), -z)
    of_devices = s.log_price[:-1]
    sign = jnp.append(-jax.nn.softmax(of_devices), jnp.ones_like(z))
    balance = s.log_price[-1] - jax.nn.logsumexp(of_devices)
    # A chain whose time does not react leaves the balance to the others.
    weight = jnp.where(slope < _FLAT, sign * inverse, 0)
    balance = balance - jnp.sum(weight * error)
    rise = jnp.maximum(jnp.sum(weight * share_step), tiny)
    move = jnp.clip(-balance / rise, -_MAX_STEP, _MAX_STEP)
    odds = jnp.clip(s.odds + move, case.least_odds, case.greatest_odds)
    log_share = _log_shares(case, odds)
    log_price = s.log_price + (log_share - log_time) * inverse
    log_price = jnp.clip(log_price, LOG_ZERO, case.top)
    step = jnp.maximum(jnp.abs(odds - s.odds), jnp.max(jnp.abs(log_price - s.log_price)))
    return _State(odds, log_price, step, s.steps + 1)


def _solve(case: _Case) -> _State:
    def alive(s: _State) -> Array:
        return (s.step > _SETTLED) & (s.steps < _MAX_ITERATIONS)

    s = jax.lax.while_loop(alive, lambda s: _iterate(case, s), _start(case))
    return _bracketed(case, s)


def _bracketed(case: _Case, s: _State) -> _State:
    """Root within root, safe whatever the limits; no work where Newton's method has settled."""
    settled = s.step <= _SETTLED
    low = jnp.where(settled, s.log_price, jnp.full_like(s.log_price, LOG_ZERO))
    high = jnp.where(settled, s.log_price, case.top)

    def prices(odds: Array, start: Array) -> Array:
        log_share = _log_shares(case, odds)
        return decreasing_roots(
            lambda v: case.chains.log_time(v) - log_share, low, high, start, tolerance=1e-10
        )

    def balance(odds: Array, start: Array) -> tuple[Array, Array]:
        log_price = prices(odds, start)
        return jax.nn.logsumexp(log_price[:-1]) - log_price[-1], log_price

    lower = jnp.where(settled, s.odds, case.least_odds)
    upper = jnp.where(settled, s.odds, case.greatest_odds)
    odds, start = bracketed_root(balance, lower, upper, s.log_price, tolerance=1e-10)
    return s._replace(odds=odds, log_price=prices(odds, start))


def _energy(chains: Chains, rounds: Array, tau: Array, x: Array) -> Array:
    each = chains.energy(tau, x)
    return rounds * jnp.sum(each[:-1]) + each[-1]


def _balanced_prices(case: _Case, s: _State) -> Array:
    """(K + 1,) the chains' prices, made to balance: the devices' sum is the server's.

    Where they differ, some chain is at its limits and takes the same time over a range of prices:
    a device that can take on what is missing, or the server that can give it up.
    """
    some = case.rounds > 0
    devices = jnp.where(some, jnp.exp(s.log_price[:-1]), jnp.zeros_like(s.log_price[:-1]))
    total = jnp.sum(devices)
    rest = jnp.maximum(jnp.exp(s.log_price[-1]) - total, 0)
    trial = jnp.append(devices + rest, total)
    error = jnp.abs(case.chains.log_time(_log(trial)) - _log_shares(case, s.odds))
    error = error.at[-1].set(jnp.where(some, error[-1], jnp.inf))
    taker = jnp.argmin(error)
    devices = devices + rest * (jnp.arange(devices.shape[0]) == taker)
    return jnp.append(devices, total + rest * (taker < devices.shape[0]))


def _log(prices: Array) -> Array:
    return jnp.log(jnp.maximum(prices, np.finfo(prices.dtype).tiny))


def _price_bound(case: _Case, prices: Array) -> Array:
    """The Lagrangian's minimum, a lower bound on the energy within the deadline at any prices."""
    answer = case.chains.respond(_log(prices))
    each = case.chains.energy(*answer) + prices * case.chains.time(*answer)
    paid, earned = case.rounds * jnp.sum(each[:-1]) + each[-1], prices[-1] * case.deadline
    # Near flat out both are huge: what their difference loses to rounding is given away.
    rounding = 64 * float(np.finfo(paid.dtype).eps)
    return paid - earned - rounding * earned


class Spending(NamedTuple):
    """The least energy within a deadline, and what proves it."""

    sample_time: Array
    exponent: Array
    energy: Array
    delay: Array
    lower_bound: Array
    steps: Array


def within(chains: Chains, rounds: Array, deadline: Array) -> Spending:
    """The least energy within any deadline."""
    case = _case(chains, rounds, deadline)
    s = _solve(case)
    # The last digits are taken off the deadline, so that rounding cannot break it.
    whole = case.deadline * (1 - 16 * np.finfo(deadline.dtype).eps)
    z = jax.nn.sigmoid(s.odds)
    device = whole * z / jnp.where(rounds > 0, rounds, 1)
    shares = jnp.append(jnp.full_like(s.log_price[:-1], device), whole - rounds * device)
    tau, x = chains.fill(s.log_price, shares)
    time = chains.time(tau, x)
    delay = rounds * jnp.max(time[:-1]) + time[-1]
    meets = delay <= deadline * (1 + TOLERANCE)
    energy = jnp.where(meets, _energy(chains, rounds, tau, x), jnp.inf)
    bound = jnp.where(meets, _price_bound(case, _balanced_prices(case, s)), jnp.inf)
    return Spending(tau, x, energy, delay, bound, s.steps)
