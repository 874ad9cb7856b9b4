"""Least energy within the deadline: against a plain nested search, SciPy, limits and duality."""

from __future__ import annotations

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxedge import presets
from jaxedge.bounds.two_stage import two_stage_bound, two_stage_program
from jaxedge.relaxation.chains import TOLERANCE
from jaxedge.relaxation.cheapest import cheapest, fewest, least_delay
from jaxedge.scenario.sampling import sample_batch
from jaxedge.system.allocation import Allocation, StageAllocation
from jaxedge.system.delay import delay
from jaxedge.system.energy import energy

COUNT = 500
solve = jax.jit(jax.vmap(cheapest))
shortest = jax.jit(jax.vmap(least_delay))


def _fix_clocks(program):
    def fixed(part):
        return dataclasses.replace(part, max_time=part.min_time)

    return dataclasses.replace(
        program, server=fixed(program.server), devices=fixed(program.devices)
    )


def _fix_powers(program):
    def fixed(part):
        return dataclasses.replace(part, min_exponent=part.max_exponent)

    return dataclasses.replace(
        program, uploads=fixed(program.uploads), broadcast=fixed(program.broadcast)
    )


VARIANTS = {
    "free": lambda program: program,
    "fixed clocks": _fix_clocks,
    "fixed powers": _fix_powers,
    "fixed both": lambda program: _fix_powers(_fix_clocks(program)),
}


@cache
def cases(devices, variant="free", count=COUNT):
    """Programs with a leading axis, and rounds and batches about which they are tight or loose."""
    scenarios = jax.tree.map(jnp.asarray, sample_batch(jax.random.key(devices), count, devices))
    program = VARIANTS[variant](jax.vmap(two_stage_program)(scenarios))
    rng = np.random.default_rng(devices)
    m, n = (np.exp(rng.uniform(0, 8, count)) for _ in range(2))
    m[::20], n[1::20] = 0.0, 0.0
    point = (m, n, np.exp(rng.uniform(0, 4, count)), np.exp(rng.uniform(0, 3, (count, devices))))
    return scenarios, program, tuple(map(jnp.asarray, point))


def element(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def flat_out(program, m, n, b0, b):
    """(count,) shortest delay."""
    each = b * program.devices.min_time + program.uploads.nats / program.uploads.max_exponent
    broadcast = program.broadcast.nats / program.broadcast.max_exponent
    server = m * program.server.weight * b0 * program.server.min_time
    return server + n * (broadcast + jnp.max(each, axis=1))


def plain_least_energy(program, m, n, b0, b):
    """The same in NumPy, root within root, over the exponents that prices stand for."""

    def parts(server):
        work, send = (
            (program.server, program.broadcast) if server else (program.devices, program.uploads)
        )
        return work, send, (m * float(work.weight) * b0, n) if server else (b, np.ones_like(b))

    def choose(x, server):
        work, send, (samples, sends) = parts(server)
        price = send.joules / send.nats * ((x - 1) * np.exp(x) + 1)
        tau = np.clip(np.cbrt(2 * work.work / price), work.min_time, work.max_time)
        used = np.clip(x, send.min_exponent, send.max_exponent)
        time = samples * tau + sends * send.nats / used
        joules = sends * send.joules * np.expm1(used) / used
        return price, time, samples * work.work / tau**2 + joules

    def at(share, server):
        low, high = np.full(np.shape(share), -7.0), np.full(np.shape(share), 4.0)
        for _ in range(60):
            middle = (low + high) / 2
            slow = choose(np.exp(middle), server)[1] > share
            low, high = np.where(slow, middle, low), np.where(slow, high, middle)
        return choose(np.exp(high), server)

    def total(r):
        return n * np.sum(at(np.full_like(b, r), False)[2]) + at(np.array(1 - n * r), True)[2]

    def slope(r):
        return at(np.array(1 - n * r), True)[0] - np.sum(at(np.full_like(b, r), False)[0])

    fastest = b * program.devices.min_time + program.uploads.nats / program.uploads.max_exponent
    server = m * float(program.server.weight) * b0 * program.server.min_time
    server = server + n * program.broadcast.nats / program.broadcast.max_exponent
    low, high = np.max(fastest), (1 - server) / n
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return total((low + high) / 2)


@pytest.mark.parametrize("variant", ["free", "fixed clocks", "fixed powers"])
@pytest.mark.slow
def test_equals_the_nested_search(variant):
    _, program, point = cases(2, variant)
    answer = solve(program, *point)
    rounds = (point[0] > 0) & (point[1] > 0)
    chosen = np.flatnonzero(rounds & jnp.isfinite(answer.energy) & (answer.energy < 1e6))[:4]
    for i in chosen:
        numbers = jax.tree.map(np.asarray, element((program, point), i))
        expected = plain_least_energy(numbers[0], *numbers[1])
        # Where the slowest device is flat out the plain search is left with rounding there.
        np.testing.assert_allclose(answer.energy[i], expected, rtol=1e-7)


def allocation_of(scenario, design):
    """Original units: clocks c/(tau T), powers from exponents ln(1 + SNR)."""

    def stage(part, batch, tau, x, gain):
        clock = part.cycles_per_sample / (tau * scenario.delay_budget)
        power = jnp.expm1(x) * scenario.noise_density * part.bandwidth / gain
        return StageAllocation(batch=batch, clock=clock, power=power)

    d, server, devices = design, scenario.server, scenario.devices
    weakest = jnp.min(devices.downlink_gain)
    return Allocation(
        pretraining_rounds=d.pretraining_rounds,
        finetuning_rounds=d.finetuning_rounds,
        server=stage(server, d.server_batch, d.server_sample_time, d.broadcast_exponent, weakest),
        devices=stage(
            devices, d.device_batch, d.device_sample_time, d.upload_exponent, devices.gain
        ),
    )


@pytest.mark.parametrize("devices", [1, 2, 10])
def test_agrees_with_the_system_model_in_original_units(devices):
    scenarios, program, point = cases(devices)
    answer = solve(program, *point)
    finite = jnp.isfinite(answer.energy)
    allocation = jax.vmap(allocation_of)(scenarios, answer.design)
    for used, model, budget in (
        (answer.energy, energy, scenarios.energy_budget),
        (answer.delay, delay, scenarios.delay_budget),
        (answer.design.value * program.scale, two_stage_bound, 1.0),
    ):
        expected = jax.vmap(model)(scenarios, allocation) / budget
        np.testing.assert_allclose(used[finite], expected[finite], rtol=1e-10)


def slsqp(scenario, fixed):
    """SciPy's least logarithm of the energy share over log clocks and log powers."""
    chosen = (fixed.server.clock, fixed.server.power, fixed.devices.clock, fixed.devices.power)
    parts = (scenario.server, scenario.devices)
    limits = [x for part in parts for x in (part.max_clock, part.max_power)]
    count = len(fixed.devices.clock)

    def flat(numbers):
        return np.log(np.concatenate([np.atleast_1d(x) for x in numbers]))

    def used(z, what, unit):
        v = jnp.exp(z)
        server = dataclasses.replace(fixed.server, clock=v[0], power=v[1])
        each = dataclasses.replace(fixed.devices, clock=v[2 : 2 + count], power=v[2 + count :])
        moved = dataclasses.replace(fixed, server=server, devices=each)
        return jnp.log(what(scenario, moved) / unit)

    def room(z):
        return -used(z, delay, scenario.delay_budget)

    return minimize(
        jax.jit(jax.value_and_grad(lambda z: used(z, energy, scenario.energy_budget))),
        np.minimum(flat(chosen) + 0.7, flat(limits)),
        jac=True,
        method="SLSQP",
        bounds=[(None, limit) for limit in flat(limits)],
        constraints=[{"type": "ineq", "fun": jax.jit(room), "jac": jax.jit(jax.grad(room))}],
        options={"ftol": 1e-13, "maxiter": 300},
    ).fun


@pytest.mark.parametrize("devices", [1, 2])
def test_scipy_finds_the_same_in_original_units(devices):
    scenarios, program, point = cases(devices)
    answer = solve(program, *point)
    usual = (point[0] > 0) & (point[1] > 0) & (answer.energy > 0.01) & (answer.energy < 100)
    for i in np.flatnonzero(usual)[:4]:
        scenario, one = element((scenarios, answer), i)
        found = slsqp(scenario, allocation_of(scenario, one.design))
        np.testing.assert_allclose(found, np.log(one.energy), atol=1e-6)


@pytest.mark.parametrize(
    ("devices", "variant"),
    [(k, "free") for k in (1, 2, 5, 10, 50)]
    + [(k, v) for k in (2, 10) for v in VARIANTS if v != "free"],
)
def test_sweep_keeps_the_deadline_and_closes_the_duality_gap(devices, variant):
    _, program, point = cases(devices, variant)
    answer = solve(program, *point)
    shortest_delay = flat_out(program, *point)
    finite = shortest_delay <= 1
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(answer))
    np.testing.assert_array_equal(jnp.isfinite(answer.energy), finite)
    assert np.all(answer.delay[finite] <= 1 + TOLERANCE)
    if variant == "free":
        assert np.all(answer.delay[finite] >= 1 - 1e-9)
    gap = (answer.energy - answer.lower_bound)[finite] / answer.energy[finite]
    assert np.all(gap >= -1e-14)
    assert np.all(gap <= 1e-9)
    assert np.all(answer.provably_not != answer.fits)
    assert np.all(answer.steps <= 15)
    assert answer.fits.any() and answer.provably_not.any()


def _narrow(program):
    """Choices whose slow ends are in reach, where times do not react to prices on either side."""

    def works(part):
        return dataclasses.replace(part, max_time=3 * part.min_time)

    def sends(part):
        return dataclasses.replace(part, min_exponent=0.3 * part.max_exponent)

    return dataclasses.replace(
        program,
        server=works(program.server),
        devices=works(program.devices),
        uploads=sends(program.uploads),
        broadcast=sends(program.broadcast),
    )


def test_the_bracket_answers_where_newton_does_not_settle():
    _, program, point = cases(5)
    # Budgets about the middle of what the limits allow.
    narrow = _narrow(program)
    narrow = _each(narrow, 1.7 * flat_out(narrow, *point))
    answer = solve(narrow, *point)
    assert np.all(jnp.isfinite(answer.energy) & (answer.delay <= 1 + TOLERANCE))
    gap = (answer.energy - answer.lower_bound) / jnp.maximum(answer.energy, 1e-300)
    assert np.any(answer.steps == 25)
    assert np.all(gap >= -1e-14)
    assert np.mean(gap <= 1e-9) > 0.99


def test_whole_numbers_are_numbers_like_others():
    program = two_stage_program(jax.tree.map(jnp.asarray, presets.get("small")))
    whole = jax.jit(cheapest)(program, 20, 30, 4, np.array([1, 2, 3]))
    real = jax.jit(cheapest)(program, 20.0, 30.0, 4.0, np.array([1.0, 2.0, 3.0]))
    assert whole.energy == real.energy
    assert whole.design.pretraining_rounds.dtype == jnp.float64


def test_what_is_chosen_stays_within_its_limits():
    _, program, point = cases(10)
    design = solve(program, *point).design
    assert np.all(design.device_sample_time >= program.devices.min_time)
    assert np.all(design.server_sample_time >= program.server.min_time)
    assert np.all(design.upload_exponent <= program.uploads.max_exponent)
    assert np.all(design.broadcast_exponent <= program.broadcast.max_exponent)
    for chosen in (
        design.upload_exponent,
        design.broadcast_exponent,
        1 / design.server_sample_time,
    ):
        assert np.all(chosen > 0)


@pytest.mark.parametrize("index", range(4))
def test_more_rounds_or_bigger_batches_cost_more(index):
    _, program, point = cases(2)
    more = [x * 1.01 if i == index else x for i, x in enumerate(point)]
    before, after = solve(program, *point).energy, solve(program, *more).energy
    assert np.all((after >= before * (1 - 1e-12)) | jnp.isinf(before))
    assert np.mean(after > before) > 0.5


def _tightened(program, factor):
    """The program in a delay budget of ``factor`` of its own."""

    def works(part):
        return dataclasses.replace(
            part,
            min_time=part.min_time / factor,
            max_time=part.max_time / factor,
            work=part.work / factor**2,
        )

    def sends(part):
        return dataclasses.replace(part, nats=part.nats / factor)

    return dataclasses.replace(
        program,
        server=works(program.server),
        devices=works(program.devices),
        uploads=sends(program.uploads),
        broadcast=sends(program.broadcast),
    )


def test_a_longer_deadline_is_cheaper():
    _, program, point = cases(2)
    now, later = solve(program, *point).energy, solve(_tightened(program, 1.1), *point).energy
    assert np.all((later < now) | jnp.isinf(now) | ((point[0] == 0) & (point[1] == 0)))


def test_flat_out_where_the_delay_allows_nothing_else():
    _, program, point = cases(2)
    # Loose by rounding alone, and short by a little more than that.
    exact = _each(program, flat_out(program, *point))
    answer, late = solve(exact, *point), solve(_tightened(exact, 1 - 1e-9), *point)
    some = (point[0] > 0) & (point[1] > 0)
    assert np.all(jnp.isfinite(answer.energy))
    np.testing.assert_allclose(answer.delay[some], 1.0, rtol=TOLERANCE)
    np.testing.assert_allclose(
        answer.design.server_sample_time[some], exact.server.min_time[some], rtol=1e-6
    )
    assert np.all(jnp.isinf(late.energy) & late.provably_not & ~late.fits & (late.delay > 1))


def _each(program, factors):
    return jax.vmap(_tightened)(program, jnp.where(factors > 0, factors, 1))


def test_without_finetuning_rounds_the_server_has_all_the_time():
    _, program, (m, n, b0, b) = cases(2)
    answer = solve(program, m, 0 * n, b0, b)
    fits = jnp.isfinite(answer.energy) & (m > 0)
    expected = m**3 * b0**3 * program.server.work
    np.testing.assert_allclose(answer.energy[fits], expected[fits], rtol=1e-12)


def test_without_rounds_nothing_is_used():
    _, program, (m, n, b0, b) = cases(2)
    answer = solve(program, 0 * m, 0 * n, b0, b)
    assert np.all(answer.energy == 0) and np.all(answer.delay == 0)
    assert np.all(answer.fits) and np.all(jnp.isinf(answer.design.value))


def test_the_slowest_device_flat_out_takes_the_rest_of_the_price():
    scenario = presets.get("small")
    program = two_stage_program(jax.tree.map(jnp.asarray, scenario))
    slow = program.devices.min_time.at[0].multiply(30.0)
    program = dataclasses.replace(
        program, devices=dataclasses.replace(program.devices, min_time=slow)
    )
    point = [jnp.asarray(x) for x in (50.0, 1.0, 4.0)] + [jnp.full(3, 4.0)]
    fastest = 4 * slow + program.uploads.nats / program.uploads.max_exponent
    point[1] = 0.97 / jnp.max(fastest)
    answer = jax.jit(cheapest)(program, *point)
    paces = answer.design.device_sample_time
    assert float(paces[0]) == pytest.approx(float(slow[0]), rel=1e-9)
    assert paces[1] > 1.1 * slow[1]
    assert answer.energy - answer.lower_bound <= 1e-9 * answer.energy


@pytest.mark.parametrize("variant", ["free", "fixed powers"])
def test_least_delay_spends_the_whole_energy(variant):
    _, program, point = cases(2, variant)
    shortest_delay, fastest = shortest(program, *point), flat_out(program, *point)
    finite = jnp.isfinite(shortest_delay) & (shortest_delay > 0)
    assert not np.isnan(shortest_delay).any() and 0.5 < np.mean(finite) < 1
    assert np.all(shortest_delay >= fastest * (1 - TOLERANCE))
    factor = jnp.where(finite, shortest_delay, 1)
    at, before = (solve(_each(program, factor * f), *point) for f in (1 + 1e-10, 1 - 1e-6))
    assert np.all(at.fits[finite])
    needs_all = finite & (shortest_delay > fastest * (1 + 1e-6))
    assert np.all(before.provably_not[finite])
    np.testing.assert_allclose(at.energy[needs_all], 1.0, rtol=1e-6)


def test_no_delay_would_do_where_the_radio_alone_spends_too_much():
    _, program, point = cases(2)
    at_rest = point[1] * (program.broadcast.joules + jnp.sum(program.uploads.joules, axis=1))
    found = shortest(program, *point)
    np.testing.assert_array_equal(jnp.isinf(found), at_rest >= 1)


def _needs(program):
    """What the fewest rounds with the smallest batches need."""
    point = fewest(program)
    return jax.jit(cheapest)(program, *point), jax.jit(least_delay)(program, *point)


@pytest.mark.parametrize("name", ["default", "small", "large"])
def test_presets_are_feasible_and_their_shortfall_is_a_shortfall(name):
    program = two_stage_program(jax.tree.map(jnp.asarray, presets.get(name)))
    answer, delay = _needs(program)
    assert answer.fits and answer.energy < 1 and delay < 1
    again, later = _needs(_tightened(program, float(delay) * 0.99))
    assert not again.fits
    assert again.energy > 1
    assert float(later) == pytest.approx(1 / 0.99, rel=1e-9)


def test_single_precision_stays_single_and_near():
    _, program, point = cases(2)
    narrow = jax.tree.map(
        lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, (program, point)
    )
    answer, wide = solve(narrow[0], *narrow[1]), solve(program, *point)
    assert answer.energy.dtype == jnp.float32
    usual = (wide.energy < 1) & (wide.energy > 1e-6) & jnp.isfinite(answer.energy)
    np.testing.assert_allclose(answer.energy[usual], wide.energy[usual], rtol=1e-3)
