"""Rates, energies and delays against the plain model, differences and known limits."""

from __future__ import annotations

import dataclasses
import math
from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.scenario.scenario import Devices, Learning, Scenario, Server
from jaxedge.system import channel, delay, energy
from jaxedge.system.allocation import Allocation, StageAllocation
from jaxedge.system.round_costs import round_costs
from tests import plain_model
from tests.plain_model import plain
from tests.random_cases import random_case

SEEDS = range(24)


def over_devices(function, scenario, allocation):
    return [function(scenario, allocation, k) for k in range(plain_model.device_count(scenario))]


def part_of(part, name):
    def cost(scenario, allocation):
        return getattr(getattr(round_costs(scenario, allocation), part), name)

    cost.__name__ = f"{part}_{name}"
    return cost


def device_parts(name):
    def parts(scenario, allocation):
        rounds = over_devices(plain_model.device_round, scenario, allocation)
        return [one[name] for one in rounds]

    return parts


def broadcast_time(scenario, allocation):
    return scenario["download_bits"] / plain_model.downlink_rate(scenario, allocation)


AGAINST_PLAIN = [
    (channel.uplink_rate, lambda s, a: over_devices(plain_model.uplink_rate, s, a)),
    (channel.downlink_rate, plain_model.downlink_rate),
    (part_of("uploads", "time"), device_parts("upload_time")),
    (part_of("broadcast", "time"), broadcast_time),
    (energy.pretraining_round_energy, lambda s, a: plain_model.pretraining_round(s, a)[0]),
    (part_of("devices", "energy"), device_parts("compute_energy")),
    (part_of("uploads", "energy"), device_parts("upload_energy")),
    (part_of("broadcast", "energy"), lambda s, a: a["server"]["power"] * broadcast_time(s, a)),
    (energy.finetuning_round_energy, lambda s, a: plain_model.finetuning_round(s, a)[0]),
    (energy.energy, lambda s, a: plain_model.energy_and_delay(s, a)[0]),
    (delay.pretraining_round_time, lambda s, a: plain_model.pretraining_round(s, a)[1]),
    (part_of("devices", "time"), device_parts("compute_time")),
    (
        delay.device_time,
        lambda s, a: np.add(
            device_parts("compute_time")(s, a), device_parts("upload_time")(s, a)
        ).tolist(),
    ),
    (delay.finetuning_round_time, lambda s, a: plain_model.finetuning_round(s, a)[1]),
    (delay.delay, lambda s, a: plain_model.energy_and_delay(s, a)[1]),
]


@pytest.mark.parametrize(
    ("function", "reference"), AGAINST_PLAIN, ids=[f.__name__ for f, _ in AGAINST_PLAIN]
)
def test_agrees_with_the_plain_model(function, reference):
    for seed in SEEDS:
        scenario, allocation = random_case(seed)
        expected = np.asarray(reference(plain(scenario), plain(allocation)))
        found = function(scenario, allocation)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_case_worked_out_by_hand():
    # SNR 3 on 1 MHz up (2 Mbit/s) and SNR 1 on 4 MHz down (4 Mbit/s); 1e7 cycles a sample.
    noise = 1e-20
    scenario = Scenario(
        learning=Learning(
            initial_gap=1.0,
            smoothness=1.0,
            discrepancy=0.0,
            server_learning_rate=1.0,
            device_learning_rate=1.0,
            server_variance=1.0,
            device_variance=1.0,
            device_weight=1.0,
        ),
        server=Server(
            cycles_per_sample=1e6,
            capacitance=1e-27,
            max_clock=1e9,
            max_batch=10,
            bandwidth=4e6,
            max_power=1.0,
        ),
        devices=Devices(
            cycles_per_sample=1e7,
            capacitance=1e-28,
            max_clock=1e9,
            max_batch=10,
            bandwidth=1e6,
            gain=3e-13,
            downlink_gain=4e-14,
            max_power=1.0,
        ),
        noise_density=noise,
        upload_bits=4e6,
        download_bits=2e6,
        energy_budget=1.0,
        delay_budget=1.0,
    )
    allocation = Allocation(
        pretraining_rounds=10,
        finetuning_rounds=4,
        server=StageAllocation(batch=5, clock=1e9, power=1.0),
        devices=StageAllocation(batch=2, clock=5e8, power=0.1),
    )
    # t0 = 5 ms, e0 = 5 mJ; t1 = 0.5 + 0.04 + 2 s; e1 = 0.5 + 0.0005 + 0.2 J.
    np.testing.assert_allclose(delay.delay(scenario, allocation), 10 * 5e-3 + 4 * 2.54)
    np.testing.assert_allclose(energy.energy(scenario, allocation), 10 * 5e-3 + 4 * 0.7005)


def test_power_and_rate_are_inverse_at_any_signal_to_noise_ratio():
    width, gain, noise = 1e6, 1e-10, 4e-21
    for power in np.logspace(-14, 2, 33):
        rate = channel.rate_for_power(power, width, gain, noise)
        back = channel.power_for_rate(rate, width, gain, noise)
        np.testing.assert_allclose(back, power, rtol=1e-13)
        by_time = channel.power_for_time(3e5 / rate, 3e5, width, gain, noise)
        np.testing.assert_allclose(by_time, power, rtol=1e-12)


def test_rate_at_low_signal_to_noise_ratio_agrees_with_fifty_digits():
    with localcontext() as context:
        context.prec = 50
        for snr in (1e-3, 1e-9, 1e-15):
            exact = (1 + Decimal(snr)).ln() / Decimal(2).ln()
            found = channel.rate_for_power(snr, 1.0, 1.0, 1.0)
            np.testing.assert_allclose(found, float(exact), rtol=1e-14)


def test_rate_of_infinite_bandwidth_is_power_limited():
    power, gain, noise = 0.2, 1e-11, 4e-21
    limit = power * gain / (noise * math.log(2))
    for width in (1e16, 1e20):
        np.testing.assert_allclose(
            channel.rate_for_power(power, width, gain, noise), limit, rtol=1e-6
        )


def test_the_broadcast_serves_the_weakest_device():
    scenario, allocation = random_case(3)
    gains = jnp.linspace(1e-12, 1e-11, 10)
    both = [
        dataclasses.replace(scenario.devices, downlink_gain=gains),
        dataclasses.replace(scenario.devices, gain=gains, downlink_gain=None),
        dataclasses.replace(scenario.devices, downlink_gain=1e-12),
    ]
    rates = [
        channel.downlink_rate(dataclasses.replace(scenario, devices=devices), allocation)
        for devices in both
    ]
    np.testing.assert_allclose(rates, rates[0], rtol=1e-15)
    raised = dataclasses.replace(scenario.devices, downlink_gain=gains.at[0].set(2e-12))
    better = channel.downlink_rate(dataclasses.replace(scenario, devices=raised), allocation)
    assert better > rates[0]


def test_scalar_device_fields_mean_the_same_for_every_device():
    scenario, allocation = random_case(3)
    one = jax.tree.map(lambda x: x[0] if np.ndim(x) else x, scenario.devices)
    spread = jax.tree.map(lambda x: jnp.full(10, x), one)
    for scalar in (one, jax.tree.map(float, one)):
        results = [
            [
                function(dataclasses.replace(scenario, devices=devices), allocation)
                for function in (energy.energy, delay.delay, channel.uplink_rate)
            ]
            for devices in (scalar, spread)
        ]
        for first, second in zip(*results, strict=True):
            np.testing.assert_allclose(first, second, rtol=1e-13)


@pytest.mark.parametrize("function", [energy.energy, delay.delay])
def test_gradients_agree_with_central_differences(function):
    for seed in range(6):
        scenario, allocation = random_case(seed)
        gradient = jax.grad(function, argnums=(0, 1), allow_int=True)(scenario, allocation)
        rng = np.random.default_rng(seed)
        inputs = (scenario, allocation)
        step = jax.tree.map(lambda x: 1e-5 * rng.standard_normal(np.shape(x)) * x, inputs)  # noqa: B023
        up = function(*jax.tree.map(jnp.add, inputs, step))
        down = function(*jax.tree.map(jnp.subtract, inputs, step))
        # Derivatives with respect to whole numbers (the least batches) are of type float0: zero.
        slopes = jax.tree.map(
            lambda g, s: 0.0 if g.dtype == jax.dtypes.float0 else jnp.sum(g * s), gradient, step
        )
        size = sum(abs(slope) for slope in jax.tree.leaves(slopes))
        predicted = sum(jax.tree.leaves(slopes))
        assert abs((up - down) / 2 - predicted) <= 1e-6 * size


@pytest.mark.parametrize("function", [energy.energy, delay.delay])
@pytest.mark.parametrize("idle", ["pretraining_rounds", "finetuning_rounds"])
def test_zero_rounds_have_finite_values_and_gradients(function, idle):
    scenario, allocation = random_case(2)
    allocation = dataclasses.replace(allocation, **{idle: jnp.asarray(0.0)})
    value, gradient = jax.value_and_grad(function, argnums=1)(scenario, allocation)
    index = 0 if function is energy.energy else 1
    reference = plain_model.energy_and_delay(plain(scenario), plain(allocation))[index]
    np.testing.assert_allclose(value, reference, rtol=1e-12)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    assert getattr(gradient, idle) > 0  # A first round costs something.


def test_dtype_follows_the_input_and_vmap_the_loop():
    scenario, allocation = random_case(7)
    single = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (scenario, allocation))
    for function in (energy.energy, delay.delay):
        assert function(*single).dtype == jnp.float32
        np.testing.assert_allclose(function(*single), function(scenario, allocation), rtol=1e-4)
    cases = [random_case(seed, 5) for seed in range(4)]
    # A downlink gain is given or not for a whole batch: None is structure, not a value.
    cases = [
        (dataclasses.replace(s, devices=dataclasses.replace(s.devices, downlink_gain=None)), a)
        for s, a in cases
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *cases)
    for function in (energy.energy, delay.delay):
        looped = [function(*case) for case in cases]
        np.testing.assert_allclose(jax.vmap(function)(*stacked), looped, rtol=1e-13)
