"""Gradients of the optimal bound: differences, identities of units, both modes, batches."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxedge import presets
from jaxedge.bounds.batches import programs_of_each
from jaxedge.bounds.two_stage import TwoStage
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import take
from jaxedge.planning.pipeline import shadow_prices
from jaxedge.scenario.fields import as_arrays, field_value
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.scenario import FIELDS
from jaxedge.scenario.validation import validate
from jaxedge.sensitivity.gradients import (
    elasticities,
    elasticity_of_each,
    optimal_bound,
    solve_for_gradients,
    value_and_grad,
)
from tests.refined_optima import moved, refined_bounds

COUNT, DEVICES = 32, 3


@pytest.fixture(scope="module")
def batch():
    """Scenarios, their relaxed answers, bounds and gradients."""
    scenarios = sample_batch(jax.random.key(5), COUNT, DEVICES, tightness=0.3)
    relaxed, known = solve_for_gradients(scenarios, TwoStage())
    assert known.all()
    return scenarios, relaxed, *value_and_grad(scenarios, relaxed)


@pytest.mark.parametrize("item", FIELDS, ids=lambda item: item.path)
def test_gradients_are_those_of_differences(batch, item):
    scenarios, _, values, gradients = batch
    rng, step = np.random.default_rng(len(item.path)), 1e-4
    parameter = field_value(scenarios, item)
    direction = rng.choice([-1.0, 1.0], parameter.shape)  # each device by itself counts
    exact = field_value(gradients, item) * parameter * direction
    exact = (exact.sum(axis=-1) if item.per_device else exact) / values
    (up, gap), (down, other) = (
        refined_bounds(moved(scenarios, item, 1 + s * direction)) for s in (step, -step)
    )
    differences = (up - down) / (2 * step * values)
    error = np.abs(differences - exact)
    smooth = np.maximum(gap, other) <= 1e-10
    # Two of the scenarios may stand near a kink for a field.
    assert smooth.sum() >= COUNT - 2
    close = error <= 1e-5 * np.abs(exact) + 2e-8
    assert close.sum() >= COUNT - 2, np.sort(error / np.abs(exact))


@pytest.mark.parametrize(
    "exponents",
    [
        # Units of the loss, of energy, of time, and of samples.
        {"learning.initial_gap": 1, "learning.discrepancy": 1, "learning.server_variance": 1}
        | {"learning.device_variance": 1},
        {"energy_budget": 1, "server.capacitance": 1, "devices.capacitance": 1}
        | {"noise_density": 1, "server.max_power": 1, "devices.max_power": 1},
        {"delay_budget": 1, "server.max_clock": -1, "devices.max_clock": -1}
        | {"server.capacitance": 2, "devices.capacitance": 2}
        | {"server.bandwidth": -1, "devices.bandwidth": -1}
        | {"server.max_power": -1, "devices.max_power": -1},
        {"upload_bits": 1, "download_bits": 1, "server.bandwidth": 1, "devices.bandwidth": 1}
        | {"noise_density": -1},
    ],
    ids=["loss", "energy", "time", "bits"],
)
def test_elasticities_obey_the_change_of_units(batch, exponents):
    scenarios, relaxed, _, _ = batch
    found = elasticities(scenarios, relaxed)
    total = sum(power * found[path] for path, power in exponents.items())
    scales_the_bound = 1.0 if "learning.initial_gap" in exponents else 0.0
    np.testing.assert_allclose(total, scales_the_bound, atol=1e-7)


@pytest.mark.every_python
def test_budgets_have_their_shadow_prices_and_slack_limits_none(batch):
    scenarios, relaxed, _, gradients = batch
    prices = shadow_prices(in_chunks(programs_of_each(TwoStage()), scenarios), relaxed)
    for name, price in prices.items():
        np.testing.assert_allclose(getattr(gradients, name), price, rtol=1e-6)
    design, server = relaxed.design, scenarios.server
    slack = design.server_batch < 0.99 * server.max_batch
    assert slack.any() and not gradients.server.max_batch[slack].any()
    programs = in_chunks(programs_of_each(TwoStage()), scenarios)
    slow = design.server_sample_time > 1.01 * programs.server.min_time
    assert slow.any() and not gradients.server.max_clock[slow].any()
    more = design.finetuning_rounds > 1.01 * scenarios.min_finetuning_rounds
    assert more.any() and not gradients.min_finetuning_rounds[more].any()
    assert (gradients.min_finetuning_rounds[~more] > 0).all()


def test_rounds_left_above_their_least_by_a_path_change_no_gradient(batch):
    scenarios, relaxed, values, gradients = batch
    design, rounds = relaxed.design, relaxed.design.finetuning_rounds
    at_least = rounds < 1.001 * np.asarray(scenarios.min_finetuning_rounds)
    assert at_least.sum() > 3 and not at_least.all()
    above = dataclasses.replace(design, finetuning_rounds=rounds * np.where(at_least, 1.001, 1.0))
    found, slopes = value_and_grad(scenarios, dataclasses.replace(relaxed, design=above))
    np.testing.assert_array_equal(found, values)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9), slopes, gradients)


@jax.jit
@jax.vmap
def _both_modes(scenario, direction):
    """The bound with its gradient by reverse mode, and its slope along a direction by forward."""
    slope = jax.jvp(optimal_bound, (scenario,), (direction,))[1]
    return *jax.value_and_grad(optimal_bound)(scenario), slope


@pytest.mark.slow
def test_forward_is_reverse_under_jit_and_vmap(batch):
    scenarios, _, values, gradients = take((batch[0], *batch[1:]), np.arange(4))
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda x: x * rng.normal(size=x.shape), scenarios)
    found, reverse, forward = _both_modes(scenarios, direction)
    np.testing.assert_allclose(found, values, rtol=1e-9)
    along = jax.tree.map(lambda g, d: (g * d).reshape(4, -1).sum(axis=1), reverse, direction)
    np.testing.assert_allclose(forward, sum(jax.tree.leaves(along)), rtol=1e-9)
    # As elasticities: some are zero in theory, and their gradients rounding.
    expected = elasticity_of_each(scenarios, values, gradients)
    for path, elasticity in elasticity_of_each(scenarios, values, reverse).items():
        np.testing.assert_allclose(elasticity, expected[path], 1e-6, 1e-9, err_msg=path)


def test_plain_numbers_are_broadcast_over_the_devices():
    scenario = presets.get("small")
    devices = dataclasses.replace(scenario.devices, max_power=0.2, min_batch=1)
    plain = dataclasses.replace(scenario, devices=devices, min_finetuning_rounds=1)
    full, expected = as_arrays(plain), validate(plain)
    jax.tree.map(np.testing.assert_array_equal, full, expected)
    assert jax.tree.structure(full) == jax.tree.structure(expected)
    bare = dataclasses.replace(devices, downlink_gain=None)
    assert as_arrays(dataclasses.replace(plain, devices=bare)).devices.downlink_gain is None


def test_what_is_infeasible_has_no_gradient_and_disturbs_no_other(batch):
    scenarios, _, values, gradients = batch
    budget = np.array(scenarios.energy_budget)
    budget[1] *= 1e-6
    starved = dataclasses.replace(scenarios, energy_budget=budget)
    others = np.arange(COUNT) != 1
    found, slopes = value_and_grad(starved)
    assert np.isnan(found[1]) and all(np.isnan(x[1]).all() for x in jax.tree.leaves(slopes))
    np.testing.assert_allclose(found[others], values[others], rtol=1e-12)
    np.testing.assert_allclose(
        slopes.devices.gain[others], gradients.devices.gain[others], rtol=1e-6
    )
    some = take(starved, np.arange(4))
    _, reverse, _ = _both_modes(some, some)
    missing = [np.isnan(x).reshape(4, -1).all(axis=1) for x in jax.tree.leaves(reverse)]
    np.testing.assert_array_equal(np.all(missing, axis=0), [False, True, False, False])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="energy_budget = -1"):
        value_and_grad(dataclasses.replace(presets.get("small"), energy_budget=-1.0))
    with jax.enable_x64(False), pytest.raises(ValueError, match="64-bit"):
        optimal_bound(validate(presets.get("small")))
