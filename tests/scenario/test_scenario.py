import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import presets
from jaxedge.scenario.scenario import FIELDS, Learning, Scenario
from jaxedge.scenario.stacking import stack, unstack
from jaxedge.scenario.validation import MAX_DEVICES, validate, validate_batch

NAN, INF = float("nan"), float("inf")


def with_value(scenario, path, value):
    section, _, name = path.rpartition(".")
    if not section:
        return dataclasses.replace(scenario, **{name: value})
    part = dataclasses.replace(getattr(scenario, section), **{name: value})
    return dataclasses.replace(scenario, **{section: part})


def value_of(scenario, path):
    section, _, name = path.rpartition(".")
    return getattr(getattr(scenario, section) if section else scenario, name)


def one_device(scenario):
    """The first device alone, its fields given as single numbers."""
    for item in FIELDS:
        if item.per_device:
            first = float(value_of(scenario, item.path)[0])
            scenario = with_value(scenario, item.path, first)
    return with_value(scenario, "learning.device_weight", 1.0)


def equal(one, other):
    same_tree = jax.tree.structure(one) == jax.tree.structure(other)
    return same_tree and jax.tree.all(jax.tree.map(np.array_equal, one, other))


# path, value, what the message must hold: field, value, unit, what would be accepted
BAD = [
    ("energy_budget", -1.0, "energy_budget = -1.0 J must be a finite number > 0"),
    ("energy_budget", 0, "energy_budget = 0.0 J must be a finite number > 0"),
    ("energy_budget", INF, "energy_budget = inf J .*for no limit give a large finite number"),
    ("energy_budget", NAN, "energy_budget = nan J must be a finite number"),
    ("energy_budget", None, "energy_budget = None J is not numeric .*must be one number"),
    ("energy_budget", "300", "energy_budget = '300' J is not numeric .*type str.*must be one"),
    ("energy_budget", True, "energy_budget = True J is not numeric .*type bool"),
    ("energy_budget", 1 + 2j, r"energy_budget = \(1\+2j\) J is not numeric .*type complex"),
    ("energy_budget", 10**400, "energy_budget = 1000.* J is .*too large.*must be a finite"),
    ("energy_budget", {}, r"energy_budget = {} J is not numeric .*type dict"),
    ("energy_budget", [300.0], r"energy_budget has shape \(1,\): must be one number, .* in J"),
    ("energy_budget", np.array([True]), "energy_budget = .* is not numeric .*type ndarray"),
    ("energy_budget", np.complex128(1), "energy_budget = .* is not numeric .*type complex128"),
    ("energy_budget", np.array([1.0, None]), "energy_budget = .* is not numeric"),
    ("delay_budget", -5.0, "delay_budget = -5.0 s must be a finite number > 0"),
    ("delay_budget", -INF, "delay_budget = -inf s must be a finite number > 0"),
    ("noise_density", -174.0, "noise_density = -174.0 W/Hz must .*under noise_density_dbm_per_hz"),
    ("upload_bits", 0.0, "upload_bits = 0.0 bit must be a finite number > 0"),
    ("download_bits", -1, "download_bits = -1.0 bit must be"),
    ("min_pretraining_rounds", 1.5, "min_pretraining_rounds = 1.5 round must be a whole number"),
    ("min_finetuning_rounds", -1, "min_finetuning_rounds = -1.0 round must be a whole number >= 0"),
    ("learning.initial_gap", 0.0, "learning.initial_gap = 0.0 must be a finite number > 0"),
    ("learning.smoothness", -10.0, "learning.smoothness = -10.0 must be a finite number > 0"),
    ("learning.smoothness", 1e-320, "learning_rate = 0.01 must be|smoothness"),
    ("learning.discrepancy", -0.1, "learning.discrepancy = -0.1 must be a finite number >= 0"),
    ("learning.server_learning_rate", 0.2, "server_learning_rate = 0.2 must be at most .* = 0.1"),
    ("learning.device_learning_rate", 0.1001, "device_learning_rate = 0.1001 must be at most"),
    ("learning.device_learning_rate", 0, "device_learning_rate = 0.0 must be a finite number > 0"),
    ("learning.server_variance", -1.0, "learning.server_variance = -1.0 must be .* >= 0"),
    (
        "learning.device_variance",
        [1, -2, 1],
        r"device_variance\[1\] = -2.0 must be .*>= 0",
    ),
    (
        "learning.device_weight",
        0.5,
        "device_weight sums to 1.5 over 3 devices: must sum to 1",
    ),
    ("learning.device_weight", [0.5, 0.4, 0.2], "device_weight sums to 1.1.*divide every weight"),
    ("learning.device_weight", [0.5, 0.6, -0.1], r"device_weight\[2\] = -0.1 must be"),
    ("learning.pl_constant", 11.0, "pl_constant = 11.0 must be at most learning.smoothness = 10"),
    ("learning.pl_constant", 0.0, "pl_constant = 0.0 must be a finite number > 0"),
    ("server.max_clock", -1e9, r"server.max_clock = -1000000000.0 Hz must be .* \(highest clock"),
    ("server.capacitance", 0, r"server.capacitance = 0.0 J s\^2/cycle\^3 must be"),
    ("server.cycles_per_sample", NAN, "server.cycles_per_sample = nan cycle must be"),
    (
        "server.max_power",
        -10.0,
        "server.max_power = -10.0 W must .*under max_power_dbm or",
    ),
    (
        "server.min_batch",
        600,
        "server.min_batch = 600.0 sample must be at most .* = 512",
    ),
    ("server.max_batch", 7.5, "server.max_batch = 7.5 sample must be a whole number >= 1"),
    ("server.max_batch", 0, "server.max_batch = 0.0 sample must be a whole number >= 1"),
    ("server.bandwidth", "10MHz", "server.bandwidth = '10MHz' Hz is not numeric"),
    ("devices.max_clock", [1e9, -1e9, 1e9], r"devices.max_clock\[1\] = -1000000000.0 Hz must be"),
    ("devices.max_clock", [1e9, 1e9], "differ in length: .*max_clock has 2.*give each K values"),
    ("devices.max_clock", [], "devices.max_clock is an empty list: give one number, or one per"),
    (
        "devices.max_clock",
        [[1e9, 1e9, 1e9]],
        r"devices.max_clock has shape \(1, 3\): must be",
    ),
    ("devices.max_clock", [1e9, [1e9], 1e9], "devices.max_clock = .*ragged"),
    ("devices.max_clock", [1e9, "2e9", 1e9], "devices.max_clock = .* is not numeric .*list of K"),
    ("devices.max_clock", [1e9, True, 1e9], "devices.max_clock = .* is not numeric"),
    ("devices.min_batch", [1, 200, 1], r"min_batch\[1\] = 200.0 sample must be at most .* = 128"),
    ("devices.min_batch", [1, 2.5, 1], r"min_batch\[1\] = 2.5 sample must be a whole number >= 1"),
    ("devices.gain", -110.0, "devices.gain = -110.0 W/W must .*under gain_db"),
    ("devices.gain", [1e-11, 0.0, 1e-11], r"devices.gain\[1\] = 0.0 W/W must be .* > 0"),
    ("devices.downlink_gain", [1e-11, NAN, 1], r"devices.downlink_gain\[1\] = nan W/W must be"),
    ("devices.capacitance", INF, "devices.capacitance = inf J .*large finite number"),
    ("devices.bandwidth", np.full(4, 1e6), "differ in length: .*devices.bandwidth has 4"),
    ("learning", None, "learning must be a Learning, got NoneType"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_bad_input_is_named(path, value, message):
    with pytest.raises(ValueError, match=message):
        validate(with_value(presets.get("small"), path, value))


@pytest.mark.parametrize("path", [item.path for item in FIELDS])
@pytest.mark.parametrize("value", [NAN, INF, -1.0, "x", [[1.0], [1.0]], 1j, True])
def test_no_field_accepts_nonsense(path, value):
    with pytest.raises(ValueError, match=path.replace(".", r"\.")):
        validate(with_value(presets.get("small"), path, value))


def test_rounds_must_not_both_be_zero():
    scenario = with_value(presets.get("small"), "min_pretraining_rounds", 0)
    assert validate(scenario).min_pretraining_rounds == 0
    with pytest.raises(ValueError, match=r"min_pretraining_rounds = 0 .*min_finetuning_rounds = 0"):
        validate(with_value(scenario, "min_finetuning_rounds", 0))


def test_too_many_devices_are_refused():
    count = MAX_DEVICES + 1
    scenario = one_device(presets.get("small"))
    scenario = with_value(scenario, "devices.gain", np.full(count, 1e-11))
    with pytest.raises(ValueError, match=r"devices.gain has 100001 values: at most 100000 devices"):
        validate(scenario)


def test_something_else_than_a_scenario_is_refused():
    with pytest.raises(ValueError, match="expected a Scenario, got dict"):
        validate({})


def test_tracers_are_refused_in_words():
    with pytest.raises(ValueError, match="validate scenarios before jit"):
        jax.jit(validate)(presets.get("small"))


def test_normalised_form():
    scenario = presets.get("small")
    scenario = with_value(scenario, "devices.max_clock", 10**9)
    scenario = with_value(scenario, "devices.downlink_gain", None)
    scenario = with_value(scenario, "learning.device_weight", (0.2, 0.3, 0.5000004))
    valid = validate(scenario)
    for item in FIELDS:
        value = value_of(valid, item.path)
        assert value.dtype == np.float64
        assert value.shape == ((3,) if item.per_device else ())
    np.testing.assert_array_equal(valid.devices.max_clock, [1e9] * 3)
    np.testing.assert_array_equal(valid.devices.downlink_gain, valid.devices.gain)
    assert abs(math.fsum(valid.learning.device_weight) - 1) < 1e-15
    assert equal(validate(valid), valid)


@pytest.mark.parametrize("convert", [jnp.asarray, np.float32, np.asarray, list])
def test_array_types(convert):
    scenario = presets.get("small")
    clocks = convert(np.array([1e9, 2e9, 1.5e9]))
    assert validate(with_value(scenario, "devices.max_clock", clocks)).devices.max_clock[1] == 2e9


def test_scalars_alone_are_one_device():
    assert validate(one_device(presets.get("small"))).devices.gain.shape == (1,)


def test_a_list_of_one_is_broadcast():
    scenario = with_value(presets.get("small"), "devices.max_power", [0.1])
    np.testing.assert_array_equal(validate(scenario).devices.max_power, [0.1] * 3)


def test_learning_rate_may_be_one_over_smoothness():
    scenario = with_value(presets.get("small"), "learning.smoothness", 3.0)
    assert validate(with_value(scenario, "learning.server_learning_rate", 1 / 3 * (1 + 1e-12)))


def test_pl_constant_may_be_absent():
    scenario = with_value(presets.get("small"), "learning.pl_constant", None)
    assert validate(scenario).learning.pl_constant is None


def test_fields_are_described_completely():
    names = {item.path for item in FIELDS}
    assert len(names) == len(FIELDS) == 32
    assert all(item.unit and item.meaning for item in FIELDS)
    assert {item.path for item in FIELDS if not item.required} == {
        "min_pretraining_rounds",
        "min_finetuning_rounds",
        "learning.pl_constant",
        "server.min_batch",
        "devices.min_batch",
        "devices.downlink_gain",
    }
    shaped = {item.path for item in FIELDS if item.shape == "(K,)"}
    assert shaped >= {"learning.device_weight", "devices.gain"}
    assert "learning.server_variance" not in shaped


def test_scenarios_are_pytrees():
    scenario = presets.get("small")
    leaves, tree = jax.tree.flatten(scenario)
    assert len(leaves) == len(FIELDS)
    assert isinstance(jax.tree.unflatten(tree, leaves), Scenario)
    assert isinstance(jax.tree.map(lambda leaf: 2 * leaf, scenario).learning, Learning)


def test_stack_and_unstack_undo_each_other():
    scenarios = [presets.get("default"), presets.get("pretraining-wins")]
    stacked = stack(scenarios)
    assert stacked.energy_budget.shape == (2,)
    assert stacked.devices.gain.shape == (2, 10)
    assert all(map(equal, unstack(stacked), scenarios))
    assert equal(validate_batch(stacked), stacked)


def test_stack_refuses_what_does_not_fit():
    small = presets.get("small")
    with pytest.raises(ValueError, match="scenario 0 has 3 devices and scenario 1 has 10"):
        stack([small, presets.get("default")])
    without = with_value(small, "learning.pl_constant", None)
    with pytest.raises(ValueError, match=r"scenario 1 has no learning\.pl_constant and scenario 0"):
        stack([small, without])
    with pytest.raises(ValueError, match=r"scenario 1: energy_budget = -1.0 J"):
        stack([small, with_value(small, "energy_budget", -1.0)])
    with pytest.raises(ValueError, match="no scenarios to stack"):
        stack([])


def test_batches_are_broadcast_and_named():
    small = presets.get("small")
    batch = validate_batch(with_value(small, "energy_budget", [100.0, 200.0]))
    assert batch.devices.gain.shape == (2, 3)
    assert unstack(batch)[1].energy_budget == 200.0
    with pytest.raises(ValueError, match=r"scenario 1: energy_budget = -1.0 J"):
        validate_batch(with_value(small, "energy_budget", [100.0, -1.0]))
    clocks = np.full((2, 3), 1e9)
    clocks[1, 2] = -1
    with pytest.raises(ValueError, match=r"scenario 1: devices.max_clock\[2\] = -1.0 Hz"):
        validate_batch(with_value(small, "devices.max_clock", clocks))
    weights = np.full((2, 3), 1 / 3)
    weights[1] = 0.5
    with pytest.raises(ValueError, match=r"scenario 1: learning.device_weight sums to 1.5"):
        validate_batch(with_value(small, "learning.device_weight", weights))
    two = with_value(small, "energy_budget", [1.0, 2.0])
    with pytest.raises(ValueError, match=r"leading batch shapes do not agree.*energy_budget"):
        validate_batch(with_value(two, "delay_budget", [1.0, 2.0, 3.0]))
