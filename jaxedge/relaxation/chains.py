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

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.methods.roots import bracketed_root, decreasing_roots
from jaxedge.program import costs
from jaxedge.program.program import Computing, Program, Transmission

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

    computing: Computing
    """With all samples as the weight of one in the batch."""
    sends: Array
    """How often each sends."""
    sending: Transmission

    def respond(self, log_price: Array) -> tuple[Array, Array]:
        """Times per sample and exponents that are best at a price of time in energy."""
        a, b, price = self.computing, self.sending, jnp.exp(log_price)
        tau = jnp.clip(costs.best_sample_time(a, 1.0, price), a.min_time, a.max_time)
        x = costs.best_exponent(b, 1.0, price)
        return tau, jnp.clip(x, b.min_exponent, b.max_exponent)

    def fastest(self) -> tuple[Array, Array]:
        """The choices flat out."""
        return self.computing.min_time, self.sending.max_exponent

    def use(self, tau: Array, x: Array) -> tuple[Array, Array]:
        """Energy and time of computing and sending."""
        energy, time = costs.computing(self.computing, tau)
        sent_energy, sent_time = costs.sending(self.sending, x)
        return energy + self.sends * sent_energy, time + self.sends * sent_time

    def log_time(self, log_price: Array) -> Array:
        """Logarithm of the time under the best response."""
        _, time = self.use(*self.respond(log_price))
        return jnp.log(jnp.maximum(time, np.finfo(time.dtype).tiny))

    def log_price(self, tau: Array, x: Array) -> Array:
        """Highest price at which either choice is best; choices without freedom count as zero."""
        a, b = self.computing, self.sending
        moves = (a.weight > 0) & (a.min_time < a.max_time) & (tau <= a.max_time)
        computing = jnp.where(moves, costs.computing_pace(a, tau), 0)
        moves = (self.sends > 0) & (b.min_exponent < b.max_exponent) & (x >= b.min_exponent)
        sending = jnp.where(moves, costs.sending_pace(b, x), 0)
        return jnp.maximum(_log(jnp.maximum(computing, sending)), LOG_ZERO)

    def fill(self, log_price: Array, time: Array) -> tuple[Array, Array]:
        """Choices near the best response that take exactly ``time``, or as near as limits allow."""
        (tau, x), a, b = self.respond(log_price), self.computing, self.sending
        full = (time - self.sends * costs.sending_time(b, x)) / a.weight
        tau = jnp.where(a.weight > 0, jnp.clip(full, a.min_time, a.max_time), tau)
        left = time - a.weight * tau
        # Nothing left means the highest exponent; the division must not see a zero.
        full = self.sends * b.nats / jnp.maximum(left, np.finfo(left.dtype).tiny)
        full = jnp.clip(full, b.min_exponent, b.max_exponent)
        return tau, jnp.where(self.sends > 0, full, x)


def chains_of(program: Program, m: Array, n: Array, server: Array, device: Array) -> Chains:
    """The chains of a program at the given rounds and batches."""

    def join(of_devices: Array, of_server: Array) -> Array:
        return jnp.concatenate([jnp.broadcast_to(of_devices, device.shape), of_server[None]])

    computing: Computing = jax.tree.map(join, program.devices, program.server)
    sending: Transmission = jax.tree.map(join, program.uploads, program.broadcast)
    samples = join(program.devices.weight * device, m * program.server.weight * server)
    return Chains(
        computing=dataclasses.replace(computing, weight=samples),
        sends=join(jnp.ones_like(n), n),
        sending=sending,
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
    _, fastest = chains.use(*chains.fastest())
    of_devices, of_server = rounds * jnp.max(fastest[:-1]), fastest[-1]
    deadline = jnp.maximum(deadline, of_devices + of_server)
    tiny = np.finfo(fastest.dtype).tiny

    def odds(ours: Array, theirs: Array) -> Array:
        ratio = jnp.log(jnp.maximum(ours, tiny)) - jnp.log(jnp.maximum(theirs, tiny))
        return jnp.where(rounds > 0, jnp.clip(ratio, LOG_ZERO, -LOG_ZERO), LOG_ZERO)

    least = odds(of_devices, deadline - of_devices)
    greatest = jnp.maximum(odds(deadline - of_server, of_server), least)
    # At the top itself the times have no slope; the square root of the rounding has one.
    top = chains.log_price(*chains.fastest())
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
    samples, nats = case.chains.computing.weight, case.chains.sends * case.chains.sending.nats
    least_time, most = case.chains.fastest()
    tau = jnp.maximum(share - nats / most, tiny) / jnp.maximum(samples, tiny)
    x = jnp.maximum(nats / jnp.maximum(share - samples * least_time, tiny), tiny)
    log_price = jnp.minimum(case.chains.log_price(tau, x), case.top)
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
    energy, time = case.chains.use(*case.chains.respond(_log(prices)))
    each = energy + prices * time
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
    spent, time = chains.use(tau, x)
    delay = rounds * jnp.max(time[:-1]) + time[-1]
    meets = delay <= deadline * (1 + TOLERANCE)
    energy = jnp.where(meets, rounds * jnp.sum(spent[:-1]) + spent[-1], jnp.inf)
    bound = jnp.where(meets, _price_bound(case, _balanced_prices(case, s)), jnp.inf)
    return Spending(tau, x, energy, delay, bound, s.steps)
