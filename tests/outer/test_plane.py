"""The plane of rounds: bounds no design is below, optima of an independent program."""

import dataclasses
import json
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.bounds.end_loss import end_loss_modes
from jaxedge.bounds.modes import Modes, coefficients
from jaxedge.outer.plane.bounds import box_bounds, sag
from jaxedge.outer.plane.rounds import plane_program
from jaxedge.outer.plane.search import search_plane
from jaxedge.outer.plane.values import dual_values
from jaxedge.program.responses import Prices
from jaxedge.scenario import files, presets
from jaxedge.scenario.stacking import stack

CASES = json.loads((Path(__file__).parents[1] / "data" / "end_loss.json").read_text("utf-8"))[
    "cases"
]
MODES = 30


def padded(modes):
    """Modes that hold nothing besides, so that all cases have equally many."""

    def full(x):
        if x.ndim == 0:
            return x
        return np.concatenate([x, np.zeros((*x.shape[:-1], MODES - x.shape[-1]))], axis=-1)

    modes = jax.tree.map(lambda x: full(np.asarray(x)), modes)
    # Of a mode without anything in it no rate matters.
    rates = ("pretraining_rate", "finetuning_rate", "forgetting_rate")
    return modes._replace(
        **{name: np.where(getattr(modes, name) > 0, getattr(modes, name), 1.0) for name in rates}
    )


def stacked(trees):
    return jax.tree.map(lambda *xs: np.stack([np.asarray(x) for x in xs]), *trees)


@cache
def cases_of(devices):
    """The cases with so many devices, their programs and modes."""
    cases = [c for c in CASES if len(c["scenario"]["learning"]["device_weight"]) == devices]
    scenarios = [files.from_tree(case["scenario"]) for case in cases]
    programs = stacked([plane_program(s) for s in scenarios])
    modes = stacked([padded(end_loss_modes(s.learning)) for s in scenarios])
    return cases, programs, modes


@pytest.mark.parametrize("devices", [5, 10])
def test_prices_are_the_derivatives_to_the_budgets(devices):
    cases, programs, modes = cases_of(devices)
    prices = search_plane(programs, modes).prices
    for i, case in enumerate(cases):
        known = case["relaxation"]["shadow_prices"]
        size = 1e-3 * case["relaxation"]["end_loss"]
        for name, price in (("energy", prices.energy[i]), ("delay", prices.device_time[i].sum())):
            budget = case["scenario"][f"{name}_budget"]
            exact = -known[f"{name}_budget"] * budget
            np.testing.assert_allclose(price, exact, rtol=1e-3, atol=1e-3 * size)


@pytest.mark.parametrize("devices", [5, 10])
def test_optima_are_those_of_an_independent_program(devices):
    cases, programs, modes = cases_of(devices)
    found = search_plane(programs, modes)
    exact = np.array([case["relaxation"]["end_loss"] for case in cases])
    believed = [case["relaxation"]["believed_relative_accuracy"] for case in cases]
    assert np.all(found.design.value <= exact * (1 + 1e-4))
    assert np.all(found.design.value >= exact * (1 - 1e-8 - np.array(believed)))
    assert np.all(found.lower_bound <= exact * (1 + np.array(believed)))
    # Where the Lagrangian itself has a gap, nothing here closes it.
    closed = [case["relaxation"]["lagrangian_dual"]["relative_gap"] < 1e-4 for case in cases]
    assert np.all(found.gap[closed] <= 1e-3) and np.mean(closed) > 0.7


def test_an_exponential_sags_no_more():
    x = np.geomspace(1e-6, 1e6, 4001)
    k = -np.expm1(-x) / x
    # Below 1e-3 the formula cancels; its series is x²/8 - x³/16 + ...
    exact = np.where(x < 1e-3, x**2 / 8 * (1 - x / 2), 1 - k + k * np.log(k))
    assert np.all(np.asarray(sag(jnp.asarray(x))) >= exact * (1 - 1e-9))
    assert np.all(np.asarray(sag(jnp.asarray(x))) <= 1.3 * exact + 1e-12)


def random_modes(rng, devices):
    """Modes of all kinds: with and without shift, noise, and a warm-up."""
    shape = (8,)
    h = np.sort(np.exp(rng.uniform(np.log(5e-4), np.log(9.5), shape)))
    start, shift = rng.exponential(size=(2, *shape)) * rng.choice([0.0, 0.1, 1.0], (2, 1))
    eta0, eta = rng.choice([0.01, 0.05, 0.1], 2)
    return Modes(
        start=start,
        cross=rng.uniform(-1, 1, shape) * np.sqrt(start * shift),
        shift=shift,
        pretraining_rate=-np.log1p(-eta0 * h),
        finetuning_rate=-2 * np.log1p(-eta * h),
        forgetting_rate=-2 * np.log1p(-eta0 * h),
        server_noise=rng.exponential(size=shape) * rng.choice([0.0, 0.01, 0.3]),
        device_noise=rng.exponential(size=(devices, *shape)) * rng.choice([0.0, 0.01, 0.3]),
        floor=rng.exponential(),
        warmup=rng.choice([0.0, 5.0, 100.0, 1e4]),
        clock_ratio=eta0 / eta,
    )


@jax.jit
def _violations(program, modes, prices, first, second, integer, shares):
    """How far random rounds of every box lie below its bound."""
    _, bounds = box_bounds(program, modes, prices, first, second, integer=False)
    _, whole = box_bounds(program, modes, prices, first, second, integer=True)

    def values(share, integer):
        m = first[:-1] + share[0] * (first[1:] - first[:-1])
        n = second[:-1] + share[1] * (second[1:] - second[:-1])
        return dual_values(program, modes, prices, m, n, integer=integer)

    below = jax.vmap(lambda s: jnp.max(bounds - values(s, False)))(shares)
    below_whole = jax.vmap(lambda s: jnp.max(whole - values(s, True)))(shares)
    return jnp.max(below), jnp.max(below_whole), jnp.min(whole - bounds)


def test_no_design_of_a_box_is_below_its_bound():
    """A million rounds in boxes of all sizes, real and whole batches, at random prices."""
    program = plane_program(presets.get("small"))
    rng, tried = np.random.default_rng(0), 0
    for _ in range(120):
        modes = random_modes(rng, 3)
        widths = np.exp(rng.uniform(-4, 6, (2, 16)))
        first, second = (np.concatenate([[0.0], np.cumsum(w)]) for w in widths)
        scale = np.exp(rng.uniform(-12, 3, 4))
        prices = Prices(energy=scale[0] * rng.choice([0.0, 1.0]), device_time=scale[1:])
        shares = rng.uniform(size=(40, 2, 16))
        given = jax.tree.map(jnp.asarray, (program, modes, prices, first, second))
        real, whole, _ = _violations(*given, True, jnp.asarray(shares))
        size = 1e-12 * (1 + float(modes.floor) + scale.sum() + np.sum(modes.start + modes.shift))
        assert real <= size and whole <= size
        tried += shares.shape[0] * 256
    assert tried > 1e6


def test_the_bound_is_of_second_order():
    """Halving the boxes quarters what they lose."""
    program = plane_program(presets.get("small"))
    modes = jax.tree.map(jnp.asarray, random_modes(np.random.default_rng(4), 3))
    modes = modes._replace(warmup=jnp.asarray(40.0))
    prices = Prices(energy=jnp.asarray(0.02), device_time=jnp.full(3, 0.03))
    lost = []
    for count in (65, 129):
        first, second = jnp.linspace(50, 300, count), jnp.linspace(20, 200, count)
        value, bound = box_bounds(program, modes, prices, first, second)
        corners = jnp.minimum(value[:-1], value[1:])
        lost.append(float(jnp.max(jnp.minimum(corners[:, :-1], corners[:, 1:]) - bound)))
    assert 3.5 < lost[0] / lost[1] < 4.5


def test_the_dual_value_is_below_every_feasible_design():
    """At any prices phi <= the loss of a design within both budgets."""
    _, programs, modes = cases_of(5)
    found = search_plane(programs, modes, descents=1)
    rng = np.random.default_rng(2)
    for i in range(len(programs.gap)):
        program, of, best = jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), (programs, modes, found))
        m, n = best.design.pretraining_rounds, best.design.finetuning_rounds
        for _ in range(20):
            prices = Prices(
                energy=best.prices.energy * rng.exponential(),
                device_time=best.prices.device_time * rng.exponential(size=5),
            )
            phi = dual_values(program, of, prices, m[None], n[None])[0, 0]
            assert phi <= best.design.value * (1 + 1e-12)


def test_designs_keep_both_budgets():
    _, programs, modes = cases_of(5)
    found = search_plane(programs, modes, descents=1)
    d = found.design
    part, up, cast = programs.devices, programs.uploads, programs.broadcast
    x, x0 = d.upload_exponent, d.broadcast_exponent
    time = part.min_time * 0 + d.device_batch * d.device_sample_time + up.nats / x
    energy = part.work * d.device_batch / d.device_sample_time**2 + up.joules * np.expm1(x) / x
    e0 = programs.server.work * d.server_batch / d.server_sample_time**2
    t0 = d.server_batch * d.server_sample_time
    m, n = d.pretraining_rounds, d.finetuning_rounds
    delay = m * t0 + n * (time.max(axis=1) + cast.nats / x0)
    spent = m * e0 + n * (energy.sum(axis=1) + cast.joules * np.expm1(x0) / x0)
    assert np.all(delay <= 1 + 1e-10) and np.all(spent <= 1 + 1e-10)
    fewest = programs.rounds.min_pretraining, programs.rounds.min_finetuning
    assert np.all(m >= fewest[0]) and np.all(n >= fewest[1])
    for i in range(len(programs.gap)):
        at = coefficients(jax.tree.map(lambda y, i=i: jnp.asarray(y[i]), modes), m[i], n[i])
        loss = at.value(1 / d.server_batch[i], 1 / d.device_batch[i])
        np.testing.assert_allclose(loss, d.value[i], rtol=1e-12)


def test_scenarios_stack_into_programs():
    base = presets.get("small")
    one = plane_program(base)
    both = jax.vmap(plane_program)(stack([base, dataclasses.replace(base, energy_budget=10.0)]))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(both), strict=True):
        np.testing.assert_array_equal(a, b[0])
