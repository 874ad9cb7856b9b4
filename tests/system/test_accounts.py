import dataclasses

import numpy as np
import pytest

from jaxedge.system.accounts import COMPONENTS, binding_limits, breakdown
from tests import plain_model
from tests.hand_made_plans import hand_made
from tests.plain_model import plain
from tests.random_cases import random_case


@pytest.mark.parametrize("seed", range(8))
def test_components_sum_to_the_plan(seed):
    scenario, allocation = random_case(seed)
    spent = breakdown(scenario, allocation)
    energy, delay = plain_model.energy_and_delay(plain(scenario), plain(allocation))
    assert tuple(spent.energy) == tuple(spent.delay) == COMPONENTS
    assert sum(spent.energy.values()) == pytest.approx(energy, rel=1e-12)
    assert sum(spent.delay.values()) == pytest.approx(delay, rel=1e-12)


def test_each_component_is_what_it_is_called():
    scenario, plan = hand_made()
    numbers, choice = plain(scenario), plain(plan.allocation)
    spent = breakdown(scenario, plan.allocation)
    energy, time = plain_model.pretraining_round(numbers, choice)
    assert spent.delay["pre-training computing"] == pytest.approx(400 * time)
    assert spent.energy["pre-training computing"] == pytest.approx(400 * energy)
    seconds = 1 / plain_model.downlink_rate(numbers, choice) * scenario.download_bits * 150
    assert spent.delay["broadcasts"] == pytest.approx(seconds)
    assert spent.energy["broadcasts"] == pytest.approx(0.4 * seconds)
    k = spent.slowest_device
    assert k == int(np.argmax(spent.device_round_time))
    upload = scenario.upload_bits / plain_model.uplink_rate(numbers, choice, k)
    assert spent.delay["uploads"] == pytest.approx(150 * upload)
    assert spent.device_round_time[k] * 150 == pytest.approx(
        spent.delay["uploads"] + spent.delay["device computing"]
    )
    devices = spent.energy["uploads"] + spent.energy["device computing"]
    assert spent.device_energy.sum() == pytest.approx(devices)


def test_breakdown_is_exact_whatever_the_precision_around_it():
    import jax

    scenario, plan = hand_made()
    with jax.enable_x64(False):
        spent = breakdown(scenario, plan.allocation)
    assert sum(spent.energy.values()) == pytest.approx(plan.energy, rel=1e-12)


def _named(limits):
    return {(item.owner, item.limit): item.devices for item in limits}


def test_binding_limits_of_a_known_design():
    scenario, plan = hand_made()
    assert _named(binding_limits(scenario, plan.allocation)) == {
        ("plan", "energy budget"): (),
        ("devices", "clock at its maximum"): (0, 3, 6, 9),
        ("devices", "power at its maximum"): (0, 1),
        ("devices", "batch at its minimum"): (0,),
    }


def test_limits_of_the_server_and_of_rounds():
    scenario, plan = hand_made(pretraining=1, finetuning=1)
    server = scenario.server
    design = dataclasses.replace(
        plan.allocation,
        server=dataclasses.replace(
            plan.allocation.server,
            batch=server.max_batch,
            clock=server.max_clock,
            power=server.max_power,
        ),
    )
    found = _named(binding_limits(scenario, design))
    for limit in ("clock", "power", "batch"):
        assert ("server", f"{limit} at its maximum") in found
    assert ("plan", "pre-training rounds at their minimum") in found
    assert ("plan", "fine-tuning rounds at their minimum") in found


def test_a_stage_that_does_not_run_touches_no_limit():
    scenario, plan = hand_made(pretraining=0)
    assert not any(item.owner == "server" for item in binding_limits(scenario, plan.allocation))
    scenario, plan = hand_made(finetuning=0)
    assert not any(item.owner == "devices" for item in binding_limits(scenario, plan.allocation))
