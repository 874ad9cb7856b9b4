"""The ways to optimal prices agree, repair each other, and do not disturb their neighbours."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.bounds.batches import programs_of_each
from jaxedge.bounds.two_stage import TwoStage
from jaxedge.integers.local_search import integer_prices, solve_integer
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import put, take
from jaxedge.methods.roots import bracketed_root, decreasing_roots
from jaxedge.program.design import Design
from jaxedge.relaxation import driver, dual_bisection
from jaxedge.relaxation.driver import decompose, solve_relaxed
from jaxedge.relaxation.judge import RELAXED_GAP
from jaxedge.scenario.sampling import sample_batch

COUNT = 32
DEVICES = 4
FAST, CAREFUL = (0.1, 30), (0.5, 100)


@cache
def programs(tightness=0.0):
    """Sampled programs, feasible with few exceptions."""
    drawn = sample_batch(jax.random.key(21), COUNT, DEVICES, tightness=tightness)
    return in_chunks(programs_of_each(TwoStage()), jax.tree.map(jnp.asarray, drawn))


def decomposed(batch, shrink, steps):
    """Judged answers after so many steps."""
    return in_chunks(decompose, batch, driver.begin(batch, shrink, steps))[0]


@jax.jit
@jax.vmap
def _bisected(program):
    return driver.judge(program, dual_bisection.solve_prices(program))


def _assert_agrees(newton, bisected):
    """Newton's value is the dual's maximum; bisection is as good, but where its tilt tells."""
    short = 1 - np.asarray(bisected) / np.asarray(newton)
    assert np.all(short >= -1e-7)
    assert np.mean(np.abs(short) <= 1e-7) >= 0.5
    assert np.all(short <= 1e-4)


@pytest.mark.parametrize("tightness", [0.0, 0.7])
def test_newton_and_bisection_reach_the_same_dual_value(tightness):
    newton = decomposed(programs(tightness), *CAREFUL)
    slow = _bisected(programs(tightness))
    _assert_agrees(newton.lower_bound, slow.lower_bound)
    # Both find the price of each budget, not only the value.
    for pair in (
        [answer.prices.energy for answer in (newton, slow)],
        [np.sum(answer.prices.device_time, axis=1) for answer in (newton, slow)],
    ):
        np.testing.assert_allclose(*pair, rtol=0.02, atol=1e-6)


@pytest.mark.every_python
def test_fast_and_careful_steps_reach_the_same_dual_value():
    fast, careful = (decomposed(programs(), *how) for how in (FAST, CAREFUL))
    np.testing.assert_allclose(fast.lower_bound, careful.lower_bound, rtol=1e-7)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_first_attempt_cut_short_is_retried(monkeypatch, steps):
    usual = solve_relaxed(programs())
    monkeypatch.setattr(driver, "FIRST_STEPS", (steps,))
    assert np.mean(decomposed(programs(), 0.1, steps).gap > RELAXED_GAP) > 0.9
    retried = solve_relaxed(programs())
    assert np.all(retried.gap <= RELAXED_GAP)
    np.testing.assert_allclose(retried.lower_bound, usual.lower_bound, rtol=RELAXED_GAP)


def test_bisection_stands_in_where_newton_gives_nothing(monkeypatch):
    def nothing(batch, paths):
        answer, paths = decompose(batch, paths)
        nowhere = np.full_like(answer.lower_bound, -np.inf)
        return dataclasses.replace(answer, lower_bound=nowhere), paths

    monkeypatch.setattr(driver, "decompose", nothing)
    assert np.all(np.isinf(solve_relaxed(programs(), attempts=driver.NEWTON_ATTEMPTS).gap))
    repaired = solve_relaxed(programs())
    assert np.all(np.isfinite(repaired.gap))
    _assert_agrees(decomposed(programs(), *CAREFUL).lower_bound, repaired.lower_bound)


def test_every_dual_value_certifies_every_other_design():
    """Weak duality across solvers: no bound of one is above the design of another."""
    answers = [decomposed(programs(), *FAST), decomposed(programs(), 0.1, 5), _bisected(programs())]
    least = np.min([answer.design.value for answer in answers], axis=0)
    assert np.max([answer.lower_bound - least for answer in answers]) <= 1e-12


def _spoilt(name):
    """The programs with element 5 spoilt."""
    given = programs()
    one = take(given, np.array([5]))
    if name == "nan":
        one = jax.tree.map(lambda x: np.full_like(x, np.nan) if x.dtype != bool else x, one)
    elif name == "infinite work":
        work = np.full_like(one.devices.work, np.inf)
        one = dataclasses.replace(one, devices=dataclasses.replace(one.devices, work=work))
    else:  # a thousand times what the budgets allow
        nats = 1e3 / np.min(one.rays[:, 1] + (one.rays[:, 1] == 0)) * np.ones_like(one.uploads.nats)
        one = dataclasses.replace(one, uploads=dataclasses.replace(one.uploads, nats=nats))
    return put(given, np.array([5]), one)


def _assert_rest_equal(found, alone, rtol):
    rest = np.arange(COUNT) != 5
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[rest], b[rest], rtol=rtol), found, alone)


@pytest.mark.parametrize("name", ["nan", "infinite work", "infeasible"])
def test_a_spoilt_element_disturbs_no_other(name):
    spoilt, alone = _spoilt(name), solve_relaxed(programs())
    found = solve_relaxed(spoilt)
    _assert_rest_equal(found, alone, rtol=0)
    assert not found.gap[5] <= RELAXED_GAP
    assert not np.isfinite(found.design.value[5])
    whole, whole_alone = solve_integer(spoilt, found), solve_integer(programs(), alone)
    _assert_rest_equal(whole, whole_alone, rtol=0)
    assert not np.isfinite(whole.design.value[5])


def test_prices_for_whole_batches_only_raise_the_bound():
    relaxed = solve_relaxed(programs())
    prices, bound = integer_prices(programs(), relaxed.prices)
    assert np.all(np.asarray(bound) >= relaxed.lower_bound)
    assert np.mean(np.asarray(bound) > relaxed.lower_bound * (1 + 1e-6)) > 0.5
    assert np.all(prices.energy >= 0)
    assert np.all(prices.device_time >= 0)


def test_order_of_a_batch_does_not_matter():
    turned = solve_relaxed(take(programs(), np.arange(COUNT)[::-1]))
    back: Design = take(turned.design, np.arange(COUNT)[::-1])
    jax.tree.map(np.testing.assert_array_equal, back, solve_relaxed(programs()).design)


ROOTS = {
    "line": (lambda x: 0.3 - x, 0.3),
    "steep": (lambda x: -jnp.expm1(40 * (x - 0.7)), 0.7),
    "flat": (lambda x: -((x - 0.2) ** 3), 0.2),
    "jump": (lambda x: jnp.where(x < 1 / 3, 1e300, -1e-300), 1 / 3),
    "infinite": (lambda x: -jnp.log(x + 0.5), 0.5),
    "nan at the left": (lambda x: jnp.where(x < -1, jnp.nan, 0.1 - x), 0.1),
    "beyond the left": (lambda x: -2.0 - x, -2.0),
    "beyond the right": (lambda x: 5.0 - x, 1.0),
}


@pytest.mark.parametrize("name", ROOTS)
def test_a_bracketed_root_is_found_or_the_nearest_end(name):
    fn, root = ROOTS[name]
    low, high = jnp.asarray(-2.0), jnp.asarray(1.0)
    found, count = bracketed_root(
        lambda x, n: (fn(x), n + 1), low, high, jnp.zeros(()), tolerance=1e-12
    )
    assert float(found) == pytest.approx(root, abs=1e-4 if name == "flat" else 1e-11)
    assert 1 <= count <= 120


def test_roots_side_by_side_are_each_their_own():
    target = jnp.asarray([-5.0, -1.0, 0.0, 0.5, 3.0, 1e6])
    ends = jnp.full(6, -2.0), jnp.full(6, 1.0)

    def fn(x):
        return target - x - 0.1 * jnp.sin(3 * x)

    found = decreasing_roots(fn, *ends, jnp.zeros(6), tolerance=1e-13)
    np.testing.assert_allclose(np.asarray(found)[[0, 4, 5]], [-2, 1, 1], atol=1e-12)
    np.testing.assert_allclose(fn(found)[1:4], 0, atol=1e-12)
