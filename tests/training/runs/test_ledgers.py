"""The ledger is the model: what is spent is what was planned, and nothing appears or vanishes."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxedge
from jaxedge import presets
from jaxedge.scenario.sampling import sample
from jaxedge.system import accounts
from jaxedge.system.allocation import Allocation, StageAllocation
from jaxedge.system.delay import delay
from jaxedge.system.energy import energy
from jaxedge.training.runs.ledgers import ledger


def some_design(scenario, pretraining=40, finetuning=60):
    """Half of every clock and power, small batches."""
    server, devices = scenario.server, scenario.devices
    return Allocation(
        pretraining_rounds=pretraining,
        finetuning_rounds=finetuning,
        server=StageAllocation(batch=7, clock=server.max_clock / 2, power=server.max_power / 2),
        devices=StageAllocation(
            batch=1 + np.arange(len(devices.gain)) % 4,
            clock=devices.max_clock / 2,
            power=devices.max_power / 2,
        ),
    )


@pytest.fixture(scope="module", params=["default", "small", "sampled"])
def case(request):
    name = request.param
    scenario = sample(jax.random.key(4), 5) if name == "sampled" else presets.get(name)
    return scenario, some_design(scenario)


def test_spent_is_what_the_system_model_says(case):
    scenario, design = case
    book = ledger(scenario, design)
    assert len(book) == 100
    assert book.fine_tuning.sum() == 60
    modelled = float(energy(scenario, design)), float(delay(scenario, design))
    assert book.spent == pytest.approx(modelled, rel=1e-9)


def test_a_plan_is_spent_as_planned_and_no_round_is_unpaid():
    scenario = presets.get("small")
    plan = jaxedge.plan(scenario)
    book = ledger(scenario, plan.allocation)
    assert book.spent == pytest.approx((plan.energy, plan.delay), rel=1e-9)
    budgets = float(scenario.energy_budget), float(scenario.delay_budget)
    assert book.affordable(*budgets) == len(book)


def test_every_joule_has_an_owner(case):
    scenario, design = case
    book = ledger(scenario, design)
    told = accounts.breakdown(scenario, design)
    sums = [
        book.server_energy.sum(),
        book.broadcast_energy.sum(),
        book.compute_energy.sum(),
        book.upload_energy.sum(),
    ]
    np.testing.assert_allclose(sums, list(told.energy.values()), rtol=1e-9)
    by_device = (book.compute_energy + book.upload_energy).sum(axis=0)
    np.testing.assert_allclose(by_device, told.device_energy, rtol=1e-9)
    assert book.energy.sum() == pytest.approx(sum(sums), rel=1e-12)
    fine = book.fine_tuning
    np.testing.assert_allclose(book.time[fine], book.device_time[fine].max(axis=1), rtol=1e-12)
    assert not book.device_time[~fine].any()
    assert not book.server_energy[fine].any()


def test_the_guard_stops_before_the_budget_is_overdrawn(case):
    scenario, design = case
    book = ledger(scenario, design, channel="rayleigh", seed=3)
    for shares in ((0.0, 1.0), (0.3, 2.0), (2.0, 0.7), (1.0, 1.0), (10.0, 10.0)):
        budgets = tuple(share * total for share, total in zip(shares, book.spent, strict=True))
        paid = book.affordable(*budgets)
        spent = book.first(paid).spent
        assert spent[0] <= budgets[0] * (1 + 1e-9)
        assert spent[1] <= budgets[1] * (1 + 1e-9)
        if paid < len(book):
            over = book.first(paid + 1).spent
            assert over[0] > budgets[0] or over[1] > budgets[1]


def test_fading_of_a_round_depends_on_its_number_alone(case):
    scenario, design = case
    book = ledger(scenario, design, channel="rayleigh", seed=1)
    fewer = dataclasses.replace(design, finetuning_rounds=59)
    again = ledger(scenario, fewer, channel="rayleigh", seed=1)
    jax.tree.map(np.testing.assert_array_equal, again, book.first(len(again)))
    other = ledger(scenario, design, channel="rayleigh", seed=2)
    assert not np.array_equal(other.upload_energy, book.upload_energy)


def test_fading_has_mean_one():
    """Capacity inverted: the gain that a round's upload time tells, over the planned gain."""
    scenario = presets.get("small")
    many = some_design(scenario, 0, 4000)
    book = ledger(scenario, many, channel="rayleigh")
    d = scenario.devices
    upload_time = book.upload_energy / many.devices.power
    snr = 2 ** (scenario.upload_bits / upload_time / d.bandwidth) - 1
    draws = snr * scenario.noise_density * d.bandwidth / (many.devices.power * d.gain)
    assert draws.mean() == pytest.approx(1, abs=4 / np.sqrt(draws.size))
    assert draws.std() == pytest.approx(1, abs=10 / np.sqrt(draws.size))


@pytest.mark.parametrize("factor", ["devices.gain", "devices.max_clock"])
def test_better_links_and_faster_clocks_never_take_longer(factor):
    scenario = presets.get("small")
    allocation = some_design(scenario)
    before = ledger(scenario, allocation)
    if factor == "devices.gain":
        devices = dataclasses.replace(scenario.devices, gain=scenario.devices.gain * 2)
        after = ledger(dataclasses.replace(scenario, devices=devices), allocation)
        assert np.all(after.upload_energy <= before.upload_energy)
    else:
        faster = dataclasses.replace(allocation.devices, clock=allocation.devices.clock * 2)
        after = ledger(scenario, dataclasses.replace(allocation, devices=faster))
        np.testing.assert_allclose(after.compute_energy, 4 * before.compute_energy)
    assert np.all(after.time <= before.time)


def test_what_cannot_be_run_is_refused():
    scenario = presets.get("small")
    allocation = some_design(scenario)
    with pytest.raises(ValueError, match=r"finetuning_rounds = 2\.5 rounds: must be a whole"):
        ledger(scenario, dataclasses.replace(allocation, finetuning_rounds=2.5))
    with pytest.raises(ValueError, match="for 3 devices and the scenario has 10"):
        ledger(presets.get("default"), allocation)
    with pytest.raises(ValueError, match="channel: 'rice' is not known"):
        ledger(scenario, allocation, channel="rice")
