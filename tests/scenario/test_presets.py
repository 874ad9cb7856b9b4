import jax
import numpy as np
import pytest

from jaxedge import presets
from jaxedge.scenario.sampling import DEVICE_POWER, NOISE_DENSITY, path_loss_gain
from jaxedge.scenario.stacking import unstack
from jaxedge.scenario.units import SUFFIXES
from jaxedge.scenario.validation import validate
from tests.relaxed_nlp import relaxed_optimum


def equal(one, other):
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


SIZES = [
    ("default", 10),
    ("pretraining-wins", 10),
    ("finetuning-wins", 10),
    ("small", 3),
    ("usual", 10),
    ("large", 100),
]


@pytest.mark.parametrize(("name", "devices"), SIZES)
def test_presets_are_valid_and_normalised(name, devices):
    scenario = presets.get(name)
    assert equal(validate(scenario), scenario)
    assert scenario.devices.gain.shape == (devices,)
    assert scenario.learning.pl_constant is not None


# How many pre-training and fine-tuning rounds the relaxed optimum of the two-stage bound has.
STAGES = [
    ("default", (500, 3000), (500, 3000)),
    ("pretraining-wins", (3000, 10**5), (1, 2)),
    ("finetuning-wins", (1, 2), (1000, 10**4)),
    ("small", (500, 3000), (500, 3000)),
]


@pytest.mark.parametrize(("name", "pretraining", "finetuning"), STAGES)
def test_stages_that_pay(name, pretraining, finetuning):
    optimum = relaxed_optimum(presets.get(name))
    assert pretraining[0] * 0.999 <= optimum.pretraining_rounds <= pretraining[1]
    assert finetuning[0] * 0.999 <= optimum.finetuning_rounds <= finetuning[1]
    np.testing.assert_allclose([optimum.energy_share, optimum.delay_share], 1.0, rtol=1e-6)


def test_names_are_those_documented():
    assert presets.names() == tuple(name for name, _ in SIZES)


def test_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'huge' is unknown.*default.*large"):
        presets.get("huge")


def test_uplink_shares_fit_the_carrier():
    for name in presets.names():
        scenario = presets.get(name)
        assert scenario.devices.bandwidth.sum() <= scenario.server.bandwidth


def test_constants_are_the_decibels_they_say():
    np.testing.assert_allclose(SUFFIXES["dbm_per_hz"].from_si(NOISE_DENSITY), -169.0, atol=0.01)
    np.testing.assert_allclose(SUFFIXES["dbm"].from_si(DEVICE_POWER), 23.0, atol=0.01)


@pytest.mark.parametrize(("distance", "loss"), [(1.0, 128.1), (0.1, 90.5)])
def test_path_loss(distance, loss):
    np.testing.assert_allclose(-10 * np.log10(path_loss_gain(distance)), loss, rtol=1e-12)


# sample(key(0), 2), recorded: a change of the sampler must be deliberate.
PINNED = [
    1455750.0,
    2.24552e-12,
    4.82991e-11,
    650431000.0,
    1991520000.0,
    0.129909,
    0.870091,
    261.595,
    1187.72,
]


def test_same_key_same_scenario():
    key = jax.random.key(7)
    assert equal(presets.sample(key, 4), presets.sample(key, 4))
    assert not equal(presets.sample(key, 4), presets.sample(jax.random.key(8), 4))


def test_a_key_gives_the_same_scenario_on_every_machine():
    scenario = presets.sample(jax.random.key(0), 2)
    found = [
        scenario.upload_bits,
        *scenario.devices.gain,
        *scenario.devices.max_clock,
        *scenario.learning.device_weight,
        scenario.energy_budget,
        scenario.delay_budget,
    ]
    assert [float(f"{number:.6g}") for number in found] == PINNED


def test_x64_does_not_change_the_draw():
    key = jax.random.key(3)
    with jax.enable_x64(False):
        narrow = presets.sample(key, 3)
    assert equal(narrow, presets.sample(key, 3))


def test_legacy_keys_work():
    assert equal(presets.sample(jax.random.PRNGKey(1), 3), presets.sample(jax.random.key(1), 3))


@pytest.mark.parametrize("devices", [1, 2, 5, 200])
def test_batch_elements_are_single_draws(devices):
    key = jax.random.key(11)
    batch = presets.sample_batch(key, 3, devices, tightness=0.2)
    assert batch.devices.gain.shape == (3, devices)
    assert batch.energy_budget.shape == (3,)
    keys = jax.random.split(key, 3)
    for index, element in enumerate(unstack(batch)):
        assert equal(element, presets.sample(keys[index], devices, tightness=0.2))
        assert equal(validate(element), element)


def test_distributions():
    batch = presets.sample_batch(jax.random.key(5), 4000, 5, shadowing_db=0.0)
    gain = batch.devices.gain
    # Median of the product of a uniform position's loss and an exponential fading, by simulation.
    rng = np.random.default_rng(0)
    loss = path_loss_gain(0.5 * np.sqrt(rng.uniform(size=10**6)))
    expected = np.median(loss * rng.exponential(size=10**6))
    np.testing.assert_allclose(np.median(gain), expected, rtol=0.05)
    assert gain.min() >= 10**-14.4 * (1 - 1e-6)
    assert gain.max() <= 10**-7.0 * (1 + 1e-6)
    assert not np.array_equal(gain, batch.devices.downlink_gain)
    weight = batch.learning.device_weight
    np.testing.assert_allclose(weight.var(), 0.2 * 0.8 / 6, rtol=0.05)  # Dirichlet(1, ..., 1)
    np.testing.assert_allclose(batch.devices.max_clock.mean(), 1.25e9, rtol=0.01)
    for rates in (batch.learning.server_learning_rate, batch.learning.device_learning_rate):
        assert np.all(np.abs(np.mean(rates == 0.005) - 1 / 3) < 0.03)


def test_tightness_shrinks_both_budgets_to_about_a_round():
    key = jax.random.key(2)
    loose, half, tight = (presets.sample(key, 5, tightness=t) for t in (0.0, 0.5, 1.0))
    for budget in ("energy_budget", "delay_budget"):
        values = [float(getattr(one, budget)) for one in (loose, half, tight)]
        rounds = values[0] / values[2]
        assert 100 <= rounds <= 3000
        np.testing.assert_allclose(values[1] / values[2], np.sqrt(rounds), rtol=1e-6)


BAD = [
    ({"num_devices": 0}, "num_devices = 0"),
    ({"num_devices": 2.0}, "num_devices = 2.0"),
    ({"num_devices": 10**6}, "num_devices = 1000000"),
    ({"radius_km": -1.0}, "radius_km = -1.0 km"),
    ({"shadowing_db": float("nan")}, "shadowing_db = nan dB"),
    ({"tightness": float("inf")}, "tightness = inf"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        presets.sample(jax.random.key(0), **arguments)


@pytest.mark.parametrize("count", [0, -1, True, 1.5])
def test_bad_counts_are_named(count):
    with pytest.raises(ValueError, match="count = "):
        presets.sample_batch(jax.random.key(0), count)
