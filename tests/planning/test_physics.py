"""Plans obey physics: more never hurts, units and order do not matter, limits are closed forms."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest

from jaxedge.answers.status import Status
from jaxedge.planning.entry import plan_batch
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.stacking import unstack

GAP = 1e-6
"""Certified gap of relaxed plans."""
GROUPS = [(devices, tightness) for devices in (1, 6) for tightness in (0.0, 0.6, 1.0)]
COUNT = 16
"""Scenarios of each group."""


def _scaled(**factors):
    """A change of a scenario: fields, by dotted path with __ for the dot, times factors."""

    def change(scenario):
        for path, factor in factors.items():
            section, _, name = path.rpartition("__")
            part = getattr(scenario, section) if section else scenario
            part = dataclasses.replace(part, **{name: np.asarray(getattr(part, name)) * factor})
            scenario = dataclasses.replace(scenario, **{section: part}) if section else part
        return scenario

    return change


BETTER = {
    "more energy": _scaled(energy_budget=1.3),
    "more time": _scaled(delay_budget=1.3),
    "wider broadcast": _scaled(server__bandwidth=2.0),
    "wider uplinks": _scaled(devices__bandwidth=2.0),
    "better uplinks": _scaled(devices__gain=3.0),
    "better downlinks": _scaled(devices__downlink_gain=3.0),
    "less noise": _scaled(noise_density=0.5),
    "faster server": _scaled(server__max_clock=1.5),
    "faster devices": _scaled(devices__max_clock=1.5),
    "stronger server": _scaled(server__max_power=2.0),
    "stronger devices": _scaled(devices__max_power=2.0),
    "larger server batches": _scaled(server__max_batch=2),
    "larger device batches": _scaled(devices__max_batch=2),
    "lighter server work": _scaled(server__cycles_per_sample=0.7),
    "lighter device work": _scaled(devices__cycles_per_sample=0.7),
    "smaller server capacitance": _scaled(server__capacitance=0.5),
    "smaller device capacitance": _scaled(devices__capacitance=0.5),
    "shorter uploads": _scaled(upload_bits=0.5),
    "shorter broadcasts": _scaled(download_bits=0.5),
    "less to learn": _scaled(learning__initial_gap=0.8),
    "less discrepancy": _scaled(learning__discrepancy=0.5),
    "less server variance": _scaled(learning__server_variance=0.5),
    "less device variance": _scaled(learning__device_variance=0.5),
}


@cache
def sampled():
    """Scenarios of all groups, some with energy to spare and some with little time.

    Largest batches are cut, so that they bind.
    """
    drawn = []
    for seed, (devices, tightness) in enumerate(GROUPS):
        batch = sample_batch(jax.random.key(seed), COUNT, devices, tightness=tightness)
        energy = np.where(np.arange(COUNT) % 4 == 0, 1e3, 1.0)
        delay = np.where(np.arange(COUNT) % 4 == 1, 0.2, 1.0)
        limits = {"server__max_batch": 1 / 8, "devices__max_batch": 1 / 8}
        drawn += unstack(_scaled(energy_budget=energy, delay_budget=delay, **limits)(batch))
    return drawn


@cache
def plans(name=None):
    """Relaxed plans of the scenarios as they are, or changed for the better."""
    change = BETTER[name] if name else lambda scenario: scenario
    return plan_batch([change(scenario) for scenario in sampled()], relaxed=True)


def _bounds(answers):
    """(count,) bounds, inf where infeasible."""
    assert {answer.status for answer in answers} <= {Status.OPTIMAL, Status.INFEASIBLE}
    return np.array([np.inf if a.bound is None else a.bound for a in answers])


@pytest.mark.slow
def test_the_sample_has_feasible_and_infeasible_scenarios():
    feasible = np.isfinite(_bounds(plans()))
    assert 0.6 < feasible.mean() < 1.0


@pytest.mark.parametrize("name", BETTER)
def test_more_never_hurts(name):
    before, after = _bounds(plans()), _bounds(plans(name))
    assert np.all(after <= before * (1 + GAP))
    # Where nothing ever got better, the change has not reached the program.
    feasible = np.isfinite(before)
    better = after[feasible] < before[feasible] * (1 - 10 * GAP)
    assert better.mean() > 0.02


def test_the_order_of_devices_only_orders_the_allocation():
    orders = [
        np.random.default_rng(i).permutation(s.devices.gain.size) for i, s in enumerate(sampled())
    ]

    def turned(part, order):
        return jax.tree.map(lambda x: x[order] if np.ndim(x) else x, part)

    answers = plan_batch(
        [
            dataclasses.replace(
                s, devices=turned(s.devices, order), learning=turned(s.learning, order)
            )
            for s, order in zip(sampled(), orders, strict=True)
        ],
        relaxed=True,
    )
    np.testing.assert_allclose(_bounds(answers), _bounds(plans()), rtol=1e-9)
    for order, before, after in zip(orders, plans(), answers, strict=True):
        if before.allocation is not None:
            _assert_same(
                turned(before.allocation.devices, order), after.allocation.devices, rtol=1e-4
            )


def _assert_same(expected, found, rtol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=rtol), expected, found)


UNITS = {
    "energy": (
        _scaled(
            noise_density=4.0,
            energy_budget=4.0,
            server__capacitance=4.0,
            devices__capacitance=4.0,
            server__max_power=4.0,
            devices__max_power=4.0,
        ),
        {"power": 4.0},
    ),
    "time": (
        _scaled(
            delay_budget=4.0,
            server__max_clock=0.25,
            devices__max_clock=0.25,
            server__bandwidth=0.25,
            devices__bandwidth=0.25,
            server__capacitance=16.0,
            devices__capacitance=16.0,
            server__max_power=0.25,
            devices__max_power=0.25,
        ),
        {"clock": 0.25, "power": 0.25},
    ),
    "bits": (
        _scaled(
            upload_bits=4.0,
            download_bits=4.0,
            server__bandwidth=4.0,
            devices__bandwidth=4.0,
            noise_density=0.25,
        ),
        {},
    ),
    "cycles": (
        _scaled(
            server__cycles_per_sample=4.0,
            devices__cycles_per_sample=4.0,
            server__max_clock=4.0,
            devices__max_clock=4.0,
            server__capacitance=4.0**-3,
            devices__capacitance=4.0**-3,
        ),
        {"clock": 4.0},
    ),
    "samples": (
        _scaled(
            server__cycles_per_sample=0.25,
            devices__cycles_per_sample=0.25,
            learning__server_variance=4.0,
            learning__device_variance=4.0,
            server__min_batch=4,
            devices__min_batch=4,
            server__max_batch=4,
            devices__max_batch=4,
        ),
        {"batch": 4.0},
    ),
    "loss": (
        _scaled(
            learning__initial_gap=4.0,
            learning__smoothness=4.0,
            learning__discrepancy=16.0,
            learning__server_variance=16.0,
            learning__device_variance=16.0,
            learning__server_learning_rate=0.25,
            learning__device_learning_rate=0.25,
            learning__pl_constant=4.0,
        ),
        {"bound": 16.0},
    ),
}
"""Change of a unit by a factor, and what it does to the answer; all else stays."""


@pytest.mark.parametrize("name", UNITS)
def test_units_do_not_matter(name):
    change, effect = UNITS[name]
    answers = plan_batch([change(scenario) for scenario in sampled()], relaxed=True)
    expected = _bounds(plans()) * effect.get("bound", 1.0)
    np.testing.assert_allclose(_bounds(answers), expected, rtol=GAP)
    for before, after in zip(plans(), answers, strict=True):
        if before.allocation is None:
            continue
        a, b = before.allocation, after.allocation
        for stage in ("server", "devices"):
            part = {k: effect.get(k, 1.0) for k in ("batch", "clock", "power")}
            _assert_same(_scaled(**part)(getattr(a, stage)), getattr(b, stage), rtol=1e-4)
        _assert_same(a.pretraining_rounds, b.pretraining_rounds, rtol=1e-4)
        _assert_same(a.finetuning_rounds, b.finetuning_rounds, rtol=1e-4)


def _with(scenario, **changes):
    """Fields by dotted path with __ for the dot, set to the given values."""
    for path, value in changes.items():
        section, _, name = path.rpartition("__")
        part = getattr(scenario, section) if section else scenario
        part = dataclasses.replace(part, **{name: value})
        scenario = dataclasses.replace(scenario, **{section: part}) if section else part
    return scenario


def _shares(scenario):
    """A and B of the numerator as functions of the batches."""
    task = scenario.learning
    eta0, eta = task.server_learning_rate, task.device_learning_rate

    def first(b0):
        return eta0 * (task.discrepancy + task.smoothness * eta0 * task.server_variance / b0)

    def second(b):
        return (
            task.smoothness
            * eta**2
            * np.sum(task.device_weight**2 * task.device_variance / b, axis=-1)
        )

    return first, second


def _best_rounds(scenario, t0, t1, a, b, budget):
    """Least bound over rounds M t0 + N t1 <= budget at the vertices; shapes broadcast."""
    task = scenario.learning
    least = scenario.min_pretraining_rounds, scenario.min_finetuning_rounds
    best = np.inf
    corners = [
        (1.0 * least[0], 1.0 * least[1]),
        ((budget - least[1] * t1) / t0, 1.0 * least[1]),
        (1.0 * least[0], (budget - least[0] * t0) / t1),
    ]
    for m, n in corners:
        fits = (m >= least[0]) & (n >= least[1]) & (m * t0 + n * t1 <= budget * (1 + 1e-12))
        below = m * task.server_learning_rate + n * task.device_learning_rate
        best = np.minimum(
            best, np.where(fits, (2 * task.initial_gap + m * a + n * b) / below, np.inf)
        )
    return best


def _flat_out(scenario):
    """Times flat out: of a sample at the server, of a sample and an upload, of the broadcast."""
    server, devices, noise = scenario.server, scenario.devices, scenario.noise_density

    def seconds(bits, part, gain):
        snr = part.max_power * gain / (noise * part.bandwidth)
        return bits / (part.bandwidth * np.log2(1 + snr))

    return (
        server.cycles_per_sample / server.max_clock,
        devices.cycles_per_sample / devices.max_clock,
        seconds(scenario.upload_bits, devices, devices.gain),
        seconds(scenario.download_bits, server, np.min(devices.downlink_gain)),
    )


def _bound_flat_out(scenario):
    """Grid over b0 and the devices' round time R that closes in; rounds at the vertices."""
    server, devices = scenario.server, scenario.devices
    sample0, sample, upload, broadcast = _flat_out(scenario)
    first, second = _shares(scenario)
    shortest = np.max(devices.min_batch * sample + upload)
    longest = np.max(devices.max_batch * sample + upload)
    low = np.log([server.min_batch, shortest])
    high = np.log([server.max_batch, longest])
    box = np.stack([low, high])
    best = np.inf
    for _ in range(12):
        b0, r = np.exp(np.linspace(*box, 81)).T
        # The ends are exactly there: rounding must not make a batch too small to be legal.
        batch = np.clip((r[:, None] - upload) / sample, devices.min_batch, devices.max_batch)
        slowest = broadcast + np.maximum(r, shortest)
        bound = _best_rounds(
            scenario,
            sample0 * b0[:, None],
            slowest[None],
            first(b0)[:, None],
            second(batch)[None],
            scenario.delay_budget,
        )
        best = min(best, bound.min())
        i, j = np.unravel_index(np.argmin(bound), bound.shape)
        middle, width = np.log([b0[i], r[j]]), (box[1] - box[0]) / 4
        box = np.clip(np.stack([middle - width, middle + width]), low, high)
    return best


def test_without_limits_on_energy_all_run_flat_out():
    """E -> infinity: all clocks and powers are at their maximum, and only time is short.

    With round time R a device's batch is the largest that fits, b_k = (R - u_k) f_k/c_k within
    its limits, so that b0, R and a vertex (M, N) of M t0 + N (t_dl + R) <= T remain.
    """
    rich = [_scaled(energy_budget=1e9)(scenario) for scenario in sampled()]
    answers = plan_batch(rich, relaxed=True)
    expected = [_bound_flat_out(scenario) for scenario in rich]
    np.testing.assert_allclose(_bounds(answers), expected, rtol=3e-6)
    for scenario, answer in zip(rich, answers, strict=True):
        if answer.allocation is not None:
            assert answer.allocation.server.clock == pytest.approx(scenario.server.max_clock)


def test_without_limits_on_time_only_the_bits_cost_energy():
    """T -> infinity: samples become free, and a bit costs N0 ln 2/h, Shannon's limit.

    Then all batches are at their maximum, and either pre-training goes on for ever, or N rounds
    of E/(the energy of all bits of a round) are left after the fewest pre-training rounds.
    """
    patient = [_scaled(delay_budget=1e16)(scenario) for scenario in sampled()]
    expected = []
    for scenario in patient:
        devices, nats = scenario.devices, scenario.noise_density * np.log(2)
        joules = np.sum(nats * scenario.upload_bits / devices.gain)
        joules = joules + nats * scenario.download_bits / np.min(devices.downlink_gain)
        first, second = _shares(scenario)
        a, b = first(scenario.server.max_batch), second(devices.max_batch)
        fits = joules * scenario.min_finetuning_rounds <= scenario.energy_budget
        vertex = _best_rounds(scenario, 1e-30, joules, a, b, scenario.energy_budget)
        expected.append(min(vertex, a / scenario.learning.server_learning_rate) if fits else np.inf)
    answers = plan_batch(patient, relaxed=True)
    np.testing.assert_allclose(_bounds(answers), expected, rtol=1e-5)


def test_without_limits_only_noise_and_discrepancy_are_left():
    """E, T -> infinity: the better of d2 + L eta0 s0/b0 and L eta sum w_k^2 s_k/b_k at b_max."""
    answers = plan_batch(
        [_scaled(energy_budget=1e12, delay_budget=1e12)(scenario) for scenario in sampled()],
        relaxed=True,
    )
    expected = []
    for scenario in sampled():
        first, second = _shares(scenario)
        task = scenario.learning
        expected.append(
            min(
                first(scenario.server.max_batch) / task.server_learning_rate,
                second(scenario.devices.max_batch) / task.device_learning_rate,
            )
        )
    np.testing.assert_allclose(_bounds(answers), expected, rtol=1e-5)


def _alone(scenario):
    """Bound of pre-training alone: f^3 = E/(kappa T) up to f_max, then X = T f/c samples.

    2 Delta/(M eta0) + d2 + L eta0 s0 M/X is least at M^2 = 2 Delta X/(L eta0^2 s0).
    """
    server, task = scenario.server, scenario.learning
    clock = (scenario.energy_budget / (server.capacitance * scenario.delay_budget)) ** (1 / 3)
    clock = min(clock, server.max_clock)
    samples = scenario.delay_budget * clock / server.cycles_per_sample
    step = task.server_learning_rate
    noise = task.smoothness * step * task.server_variance
    batch = np.sqrt(samples * noise * step / (2 * task.initial_gap))
    batch = np.clip(batch, server.min_batch, server.max_batch)
    rounds = samples / batch
    return 2 * task.initial_gap / (rounds * step) + task.discrepancy + noise / batch


def test_devices_that_cannot_send_leave_pretraining_alone():
    alone = [
        _with(_scaled(upload_bits=1e12)(s), min_finetuning_rounds=0)
        for s in sampled()
        if _alone(s) < 2 * s.learning.initial_gap / s.learning.server_learning_rate
    ]
    assert len(alone) > 50
    bounds = _bounds(plan_batch(alone, relaxed=True))
    np.testing.assert_allclose(bounds, [_alone(s) for s in alone], rtol=2 * GAP)


def test_a_device_that_is_the_servers_twin_shares_the_work():
    """One device like the server, no discrepancy, no bits: every split does as pre-training."""
    twins = []
    for s in sampled():
        if s.devices.gain.size > 1:
            continue
        part, same = s.server, {}
        for name in ("cycles_per_sample", "capacitance", "max_clock", "min_batch", "max_batch"):
            same[f"devices__{name}"] = np.reshape(getattr(part, name), 1)
        s = _with(s, **same, upload_bits=1e-6, download_bits=1e-6, learning__discrepancy=0.0)
        s = _with(s, learning__device_variance=np.reshape(s.learning.server_variance, 1))
        s = _with(s, learning__device_learning_rate=s.learning.server_learning_rate)
        # Two whole rounds must fit.
        if s.learning.initial_gap / s.learning.server_learning_rate > _alone(s):
            twins.append(s)
    assert len(twins) > 15
    bounds = _bounds(plan_batch(twins, relaxed=True))
    np.testing.assert_allclose(bounds, [_alone(s) for s in twins], rtol=2 * GAP)


def test_without_variance_batches_are_the_smallest():
    quiet = [
        _with(
            s,
            learning__server_variance=0.0,
            learning__device_variance=np.zeros(s.devices.gain.size),
        )
        for s in sampled()
    ]
    answers = plan_batch(quiet, relaxed=True)
    assert np.all(_bounds(answers) <= _bounds(plans()) * (1 + GAP))
    for scenario, answer in zip(quiet, answers, strict=True):
        if answer.allocation is not None:
            assert answer.allocation.server.batch == scenario.server.min_batch
            np.testing.assert_array_equal(answer.allocation.devices.batch, 1)


@cache
def whole_plans(name=None):
    """Integer plans of a third of the scenarios."""
    change = BETTER[name] if name else lambda scenario: scenario
    return plan_batch([change(scenario) for scenario in sampled()[::3]])


def test_whole_numbers_never_beat_real_ones():
    for whole, real in zip(whole_plans(), plans()[::3], strict=True):
        assert (whole.bound is None) == (real.bound is None)
        if whole.bound is not None:
            assert whole.bound >= real.lower_bound * (1 - 1e-12)
            assert whole.lower_bound <= whole.bound


@pytest.mark.parametrize("name", ["more energy", "more time", "faster devices"])
def test_more_hurts_whole_designs_by_no_more_than_the_certified_gap(name):
    for before, after in zip(whole_plans(), whole_plans(name), strict=True):
        if before.bound is not None:
            assert after.bound is not None
            assert after.lower_bound <= before.bound * (1 + 1e-12)
            assert after.bound <= before.bound * (1 + after.gap) * (1 + 1e-12)
