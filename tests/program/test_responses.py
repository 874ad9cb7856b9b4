"""Best responses against search, at every limit, and their derivatives against differences."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from jaxedge.bounds.two_stage import two_stage_program
from jaxedge.program.elementary import transmission_exponent
from jaxedge.program.program import Computing, Transmission
from jaxedge.program.responses import (
    Prices,
    respond,
    respond_computing,
    respond_transmission,
)
from jaxedge.scenario.sampling import sample_batch

COUNT = 400


def _log_uniform(rng, low, high):
    return jnp.asarray(np.exp(rng.uniform(np.log(low), np.log(high), COUNT)))


CIRCUITS = pytest.mark.parametrize("circuits", [False, True], ids=["plain", "circuits"])


def _computing(seed=0, *, circuits=False):
    """Parts that stand at their limits about as often as inside, and prices."""
    rng = np.random.default_rng(seed)
    work = _log_uniform(rng, 1e-12, 1e-2)
    tau = jnp.cbrt(work) * _log_uniform(rng, 0.1, 10)
    part = Computing(
        variance=_log_uniform(rng, 1e-4, 1e4),
        work=work,
        weight=_log_uniform(rng, 0.1, 100),
        min_batch=jnp.asarray(rng.integers(1, 4, COUNT) * 1.0),
        max_batch=jnp.asarray(rng.integers(4, 65, COUNT) * 1.0),
        min_time=tau,
        max_time=jnp.where(rng.random(COUNT) < 0.5, jnp.inf, 3 * tau),
        circuit=_log_uniform(rng, 1e-2, 1e1) if circuits else None,
    )
    return part, _log_uniform(rng, 1e-2, 1e2), _log_uniform(rng, 1e-2, 1e2)


def _transmission(seed=0, *, circuits=False):
    rng = np.random.default_rng(seed)
    least = jnp.asarray(np.where(rng.random(COUNT) < 0.5, 0.0, rng.uniform(0.01, 1, COUNT)))
    part = Transmission(
        nats=_log_uniform(rng, 1e-5, 1e-1),
        joules=_log_uniform(rng, 1e-5, 1e-1),
        min_exponent=least,
        max_exponent=least + _log_uniform(rng, 0.1, 10),
        circuit=_log_uniform(rng, 1e-2, 1e1) if circuits else None,
    )
    return part, _log_uniform(rng, 1e-3, 1e3), _log_uniform(rng, 1e-3, 1e3)


def _rest(x):
    """X - 1 + e^-x in Python, by its series where it cancels."""
    if x > 1:
        return x - 1 + np.exp(-x)
    term, total = x * x / 2, 0.0
    for n in range(3, 40):
        total, term = total + term, -term * x / n
    return total


def test_exponent_solves_its_equation_over_four_hundred_decades():
    y = np.logspace(-200, 200, 2001)
    x = np.asarray(jax.jit(transmission_exponent)(jnp.asarray(y)))
    error = np.array([xi + np.log(_rest(xi)) - np.log(yi) for xi, yi in zip(x, y, strict=True)])
    # d log y/d log x = x^2/rest: between 2 and x + 1.
    slope = x * x / np.array([_rest(xi) for xi in x])
    rounding = 4 * np.finfo(float).eps * np.maximum(np.abs(np.log(y)), 1)
    assert np.all(np.abs(error) <= 1e-13 * slope + rounding)
    assert np.all(np.diff(x) > 0)


def test_exponent_keeps_its_asymptotes():
    small, large = jnp.asarray([1e-200, 1e-30, 1e-16]), jnp.asarray([1e100, 1e200])
    np.testing.assert_allclose(transmission_exponent(small), jnp.sqrt(2 * small), rtol=1e-8)
    x = transmission_exponent(large)
    np.testing.assert_allclose(jnp.exp(x) * (x - 1) / large, 1.0, rtol=1e-11)


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_slope_of_the_exponent_is_that_of_differences(mode):
    y = jnp.logspace(-12, 12, 49)
    slope = jnp.diagonal(mode(transmission_exponent)(y))
    step = 1e-5
    change = transmission_exponent(y * (1 + step)) - transmission_exponent(y * (1 - step))
    np.testing.assert_allclose(slope, change / (2 * step * y), rtol=1e-7)


def _plain(part, i):
    """Element i in floats; no circuits are circuits that draw nothing."""
    fields = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    return {name: 0.0 if value is None else float(value[i]) for name, value in fields.items()}


def _plain_cost(part, lam, nu, i, b, tau):
    p = _plain(part, i)
    use = float(lam[i]) * (p["work"] / tau**2 + p["circuit"] * tau) + float(nu[i]) * tau
    return p["variance"] / b + p["weight"] * b * use


def _searched(fn, low, high):
    """Least of a quasiconvex function of the logarithm, or its ends."""
    low, high = np.log(low), np.log(high)
    found = minimize_scalar(
        lambda z: fn(np.exp(z)), bounds=(low, high), method="bounded", options={"xatol": 1e-10}
    )
    return min(found.fun, fn(np.exp(low)), fn(np.exp(high)))


def _least_sample_price(part, lam, nu, i):
    high = min(float(part.max_time[i]), 1e6)
    zero = dataclasses.replace(part, variance=jnp.zeros(COUNT))
    return _searched(lambda t: _plain_cost(zero, lam, nu, i, 1.0, t), float(part.min_time[i]), high)


@pytest.mark.slow
@CIRCUITS
def test_computing_is_the_least_of_a_search(circuits):
    part, lam, nu = _computing(circuits=circuits)
    work = respond_computing(part, lam, nu)
    for i in range(0, COUNT, 2):
        price = _least_sample_price(part, lam, nu, i)
        least, most = float(part.min_batch[i]), float(part.max_batch[i])
        best = _searched(lambda b, i=i, p=price: float(part.variance[i]) / b + p * b, least, most)
        assert float(work.cost[i]) == pytest.approx(best, rel=1e-9)
        spent = part.variance[i] / work.batch[i] + lam[i] * work.energy[i] + nu[i] * work.time[i]
        assert float(work.cost[i]) == pytest.approx(float(spent), rel=1e-12)
        assert float(work.price[i]) == pytest.approx(price, rel=1e-9)


def test_computing_meets_every_limit_and_the_inside():
    part, lam, nu = _computing()
    work = respond_computing(part, lam, nu)
    for x, low, high in [
        (work.batch, part.min_batch, part.max_batch),
        (work.sample_time, part.min_time, part.max_time),
    ]:
        assert np.all((x >= low) & (x <= high))
        for share in ((x == low).mean(), (x == high).mean(), ((x > low) & (x < high)).mean()):
            assert share > 0.05


def test_integer_computing_is_the_best_of_all_integers():
    part, lam, nu = _computing()
    real, whole = (respond_computing(part, lam, nu, integer=i) for i in (False, True))
    for i in range(COUNT):
        batches = np.arange(float(part.min_batch[i]), float(part.max_batch[i]) + 1)
        costs = _plain_cost(part, lam, nu, i, batches, float(real.sample_time[i]))
        assert float(whole.cost[i]) == pytest.approx(costs.min(), rel=1e-12)
        assert float(whole.batch[i]) == batches[np.argmin(costs)]
    assert np.all(whole.cost >= real.cost * (1 - 1e-15))
    assert np.mean(whole.cost > real.cost * (1 + 1e-9)) > 0.2


def test_blurred_computing_is_below_the_integer_cost_and_tends_to_it():
    part, lam, nu = _computing()
    whole = respond_computing(part, lam, nu, integer=True)
    before = None
    for heat in (1.0, 1e-2, 1e-4, 1e-8):
        blur = heat * whole.cost
        work = respond_computing(part, lam, nu, blur=blur)
        error = np.asarray((whole.cost - work.cost) / whole.cost)
        assert np.all(error >= -1e-14)
        assert np.all(error <= heat * np.log(2) + 1e-14)
        if before is not None:
            assert np.all(error <= before + 1e-14)
        before = error
    distinct = np.abs(work.batch - np.round(work.batch)) < 1e-3
    assert distinct.mean() > 0.95
    np.testing.assert_allclose(np.round(work.batch)[distinct], whole.batch[distinct])


def _central(fn, x, step=1e-6):
    return jax.tree.map(lambda a, b: (a - b) / (2 * step), fn(x + step), fn(x - step))


def _settled(choice, x, steps=(-1e-5, 1e-5)):
    """Elements whose choice of side does not change nearby, so that derivatives exist."""
    return np.logical_and.reduce([np.asarray(choice(x + s) == choice(x)) for s in steps])


@pytest.mark.parametrize("blurred", [False, True])
def test_slope_of_the_batch_is_that_of_differences(blurred):
    part, lam, nu = _computing()
    blur = 0.1 * part.variance / part.max_batch if blurred else None

    def at(scale):
        # Both prices times the same leave the time of a sample, and scale the price of a sample.
        return respond_computing(part, lam * scale, nu * scale, blur=blur)

    def side(scale):
        batch = at(scale).batch
        real = respond_computing(part, lam * scale, nu * scale).batch
        limit = jnp.sign(batch - part.min_batch) + 2 * jnp.sign(part.max_batch - batch)
        return limit + 10 * (jnp.floor(real) if blurred else 0)

    one = jnp.ones(COUNT)
    expected = _central(lambda s: at(s).batch, one) / at(one).price
    here = _settled(side, one)
    assert here.mean() > 0.9
    size = np.asarray(at(one).batch / at(one).price)
    error = np.abs(np.asarray(at(one).batch_slope) - expected)
    assert np.all(error[here] <= 1e-6 * size[here])
    assert np.mean(np.abs(expected) > 1e-3 * size) > 0.2


@CIRCUITS
@pytest.mark.parametrize("price", ["energy", "time"])
def test_elasticities_of_a_sample_are_those_of_differences(circuits, price):
    part, lam, nu = _computing(circuits=circuits)

    def at(log_ratio):
        factor = jnp.exp(log_ratio)
        given = (lam * factor, nu) if price == "energy" else (lam, nu / factor)
        return respond_computing(part, *given)

    def logs(log_ratio):
        work = at(log_ratio)
        return jnp.log(work.sample_time), jnp.log(work.energy / work.batch)

    zero = jnp.zeros(COUNT)
    found, (time, energy) = at(zero), _central(logs, zero)
    here = _settled(lambda r: at(r).time_elasticity > 0, zero)
    assert here.mean() > 0.9
    np.testing.assert_allclose(found.time_elasticity[here], time[here], atol=1e-8)
    np.testing.assert_allclose(found.energy_elasticity[here], energy[here], atol=1e-8)
    if not circuits:
        assert {0.0, 1 / 3} == set(np.asarray(found.time_elasticity))
        assert {0.0, -2 / 3} == set(np.asarray(found.energy_elasticity))


@CIRCUITS
def test_transmission_is_the_least_of_a_search(circuits):
    part, lam, nu = _transmission(circuits=circuits)
    sent = respond_transmission(part, lam, nu)
    costs = lam * sent.energy + nu * sent.time
    for i in range(0, COUNT, 2):
        p = _plain(part, i)
        pay = float(lam[i]) * p["joules"]
        wait = (float(nu[i]) + float(lam[i]) * p["circuit"]) * p["nats"]
        best = _searched(
            lambda x, pay=pay, wait=wait: (pay * np.expm1(x) + wait) / x,
            max(p["min_exponent"], 1e-6),
            p["max_exponent"],
        )
        assert float(costs[i]) == pytest.approx(best, rel=1e-9)


def test_transmission_meets_every_limit_and_the_inside():
    part, lam, nu = _transmission()
    x = respond_transmission(part, lam, nu).exponent
    low, high = part.min_exponent, part.max_exponent
    assert np.all((x >= low) & (x <= high))
    for share in ((x == low).mean(), (x == high).mean(), ((x > low) & (x < high)).mean()):
        assert share > 0.05


def test_free_energy_and_free_time_are_the_limits():
    part, _, nu = _transmission()
    zero = jnp.zeros(COUNT)
    np.testing.assert_array_equal(respond_transmission(part, zero, nu).exponent, part.max_exponent)
    slow = respond_transmission(part, nu, zero)
    np.testing.assert_allclose(slow.exponent, part.min_exponent, atol=1e-100)
    # An endless transmission costs what Shannon's limit says, and no more.
    endless = np.asarray(part.min_exponent) == 0
    np.testing.assert_allclose(slow.energy[endless], part.joules[endless], rtol=1e-12)
    computing, _, nu = _computing()
    np.testing.assert_array_equal(
        respond_computing(computing, zero, nu).sample_time, computing.min_time
    )
    idle = respond_computing(computing, nu, zero)
    limited = np.isfinite(np.asarray(computing.max_time))
    np.testing.assert_array_equal(idle.sample_time[limited], computing.max_time[limited])
    # An endless sample costs nothing.
    assert np.all(nu[~limited] * idle.energy[~limited] <= 1e-40)
    np.testing.assert_array_equal(idle.batch[~limited], computing.max_batch[~limited])


@CIRCUITS
def test_slopes_of_a_transmission_are_those_of_differences(circuits):
    part, lam, nu = _transmission(circuits=circuits)

    def at(log_ratio):
        return respond_transmission(part, lam, nu * jnp.exp(log_ratio))

    def free(log_ratio):
        x = at(log_ratio).exponent
        return (x > part.min_exponent) & (x < part.max_exponent)

    zero = jnp.zeros(COUNT)
    found, slopes = at(zero), _central(at, zero)
    here = _settled(free, zero)
    assert here.mean() > 0.9
    for name, slope in (("energy", found.energy_slope), ("time", found.time_slope)):
        error = np.abs(np.asarray(slope) - getattr(slopes, name))
        size = np.asarray(getattr(found, name))
        assert np.all(error[here] <= 1e-7 * size[here])
    assert np.mean(np.asarray(found.time_slope) < 0) > 0.2


def test_whole_response_has_the_slopes_that_the_envelope_theorem_gives():
    """Derivatives of A and B to the prices are the energy and time of their rounds."""
    scenarios = jax.tree.map(jnp.asarray, sample_batch(jax.random.key(5), 8, 4))
    programs = jax.vmap(two_stage_program)(scenarios)
    rng = np.random.default_rng(5)
    prices = Prices(
        energy=jnp.asarray(rng.uniform(0.1, 1, 8)),
        device_time=jnp.asarray(rng.uniform(0.1, 1, (8, 4))),
    )

    @jax.jit
    @jax.vmap
    def slopes(program, at):
        def costs(p):
            answer = respond(program, p)
            return answer.pretraining_cost, answer.finetuning_cost

        return jax.jacfwd(costs)(at), respond(program, at)

    (pre, fine), answer = slopes(programs, prices)
    close = partial(np.testing.assert_allclose, rtol=1e-9)
    close(pre.energy, answer.server.energy)
    close(pre.device_time, jnp.broadcast_to(answer.server.time[:, None], (8, 4)))
    close(fine.energy, answer.finetuning_use[:, 0])
    times = answer.devices.time + answer.uploads.time + answer.broadcast.time[:, None]
    close(fine.device_time, times)
    share = prices.device_time / jnp.sum(prices.device_time, axis=1, keepdims=True)
    close(answer.finetuning_use[:, 1], jnp.sum(share * times, axis=1))
