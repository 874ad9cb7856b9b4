"""A joule is added in one place, `CIRCUITS`: all that plans, judges or writes down contains it.

The toy is the power of devices that are switched on: while they compute and send, and while they
wait for pre-training and for the broadcast.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jaxedge.answers.table import plan_table
from jaxedge.bounds.two_stage import two_stage_program
from jaxedge.custom.totals import totals_of
from jaxedge.methods.arrow import Variables, evaluate
from jaxedge.planning.entry import plan
from jaxedge.relaxation import arrow_form, by_augmented_lagrangian, by_convex_approximation
from jaxedge.relaxation.chains import chains_of
from jaxedge.scenario import costs, presets
from jaxedge.scenario.validation import validate
from jaxedge.system.accounts import breakdown
from jaxedge.system.constraints import constraints, energy_in_totals
from jaxedge.system.energy import energy
from jaxedge.system.totals import to_totals
from jaxedge.training.runs.ledgers import ledger
from tests import plain_model
from tests.plain_model import plain
from tests.random_cases import random_case

WATTS = 0.02


def switched_on(scenario):
    """W of all waiting devices in the server's parts, and of each in its own."""
    waiting = WATTS * jnp.size(scenario.devices.gain)
    return costs.CircuitPower(server=waiting, broadcast=waiting, devices=WATTS, uploads=WATTS)


@pytest.fixture
def joule(monkeypatch):
    """The toy is registered; what was compiled without it is forgotten, and with it afterwards."""
    monkeypatch.setitem(costs.CIRCUITS, "switched on", switched_on)
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.fixture(params=["none", "toy"])
def watts(request):
    """W of the toy, or none."""
    if request.param == "none":
        return 0.0
    request.getfixturevalue("joule")
    return WATTS


def by_hand(scenario, allocation, watts):
    """J in plain floats: the model's, and the devices' power times the time that they work or wait.

    Waiting for slower devices is left out: at the optimum no device is early.
    """
    scenario, allocation = plain(scenario), plain(allocation)
    first, second = allocation["pretraining_rounds"], allocation["finetuning_rounds"]
    count = plain_model.device_count(scenario)
    broadcast = scenario["download_bits"] / plain_model.downlink_rate(scenario, allocation)
    on = first * count * plain_model.pretraining_round(scenario, allocation)[1]
    for k in range(count):
        part = plain_model.device_round(scenario, allocation, k)
        on += second * (broadcast + part["compute_time"] + part["upload_time"])
    return plain_model.energy_and_delay(scenario, allocation)[0] + watts * on


def whole(allocation):
    """The allocation with whole rounds, as ledgers need them."""
    return dataclasses.replace(
        allocation,
        pretraining_rounds=jnp.floor(allocation.pretraining_rounds),
        finetuning_rounds=jnp.floor(allocation.finetuning_rounds),
    )


def log_point(scenario, allocation, unit):
    """The allocation in the program's variables; the round's time is the slowest device's."""
    server, devices, noise = scenario.server, scenario.devices, scenario.noise_density
    downlink = devices.gain if devices.downlink_gain is None else devices.downlink_gain

    def exponent(choice, part, gain):
        return jnp.log1p(choice.power * gain / (noise * part.bandwidth))

    own, theirs = allocation.server, allocation.devices
    point = by_augmented_lagrangian.LogPoint(
        pretraining_rounds=allocation.pretraining_rounds,
        finetuning_rounds=allocation.finetuning_rounds,
        round_time=jnp.ones(()),
        server_batch=own.batch,
        server_sample_time=server.cycles_per_sample / own.clock / unit,
        broadcast_exponent=exponent(own, server, jnp.min(downlink)),
        device_batch=theirs.batch,
        device_sample_time=devices.cycles_per_sample / theirs.clock / unit,
        upload_exponent=exponent(theirs, devices, devices.gain),
    )
    return point, jax.tree.map(jnp.log, point)


def in_arrow_form(program, at):
    """Energy of the block-arrow form's row, where the weights of the rays are exact."""
    m, n = at.pretraining_rounds, at.finetuning_rounds
    scaling = 1 / (m * program.rounds.server_rate + n * program.rounds.device_rate)
    rows = jnp.stack([program.rays[:3, i] - program.rays[3, i] for i in (0, 1, 2)])
    aims = jnp.stack([m, n, jnp.ones(())]) * scaling - program.rays[3]
    # Two rays are directions of one stage each, so three weights have one freedom too many.
    weights = jnp.linalg.lstsq(rows, aims)[0]
    send = program.broadcast.nats / at.broadcast_exponent
    uploads = program.uploads.nats / at.upload_exponent
    shared = arrow_form.Shared(
        weights,
        m * scaling * at.server_batch,
        m * scaling * at.server_batch * at.server_sample_time,
        n * scaling * send,
        jnp.ones(()),
    )
    samples = n * scaling * at.device_batch
    blocks = arrow_form.Device(samples, samples * at.device_sample_time, n * scaling * uploads)
    point = Variables(shared.vector, jnp.stack(blocks, axis=1))
    parts = (program.devices, program.uploads)
    _, found = evaluate(arrow_form.PROGRAM, program, parts, point)
    return (found.coupling[0] + shared.mix(program).scaling) / scaling


def in_program(scenario, allocation):
    """Energy of a design by name of who counts it in the program, in J."""
    program = two_stage_program(validate(scenario))
    at, logs = log_point(scenario, allocation, scenario.delay_budget)
    chains = chains_of(
        program,
        at.pretraining_rounds,
        at.finetuning_rounds,
        at.server_batch,
        at.device_batch,
    )
    chosen = (
        jnp.append(at.device_sample_time, at.server_sample_time),
        jnp.append(at.upload_exponent, at.broadcast_exponent),
    )
    spent, _ = chains.use(*chosen)
    rounds = jnp.stack([logs.pretraining_rounds, logs.finetuning_rounds])
    given = by_convex_approximation.AtRounds(program, rounds), logs
    touching = by_convex_approximation.SURROGATE.residuals(given, logs)
    found = {
        "chains": at.finetuning_rounds * jnp.sum(spent[:-1]) + spent[-1],
        "logarithms": jnp.exp(by_augmented_lagrangian.residuals(program, logs)[0]),
        "convex approximation": jnp.exp(touching[0]),
        "arrow form": in_arrow_form(program, at),
    }
    return {name: float(value * scenario.energy_budget) for name, value in found.items()}


def in_original_units(scenario, allocation):
    """Energy of a design by name of who counts it in SI units, in J."""
    totals = energy_in_totals(scenario, to_totals(scenario, allocation))
    of_plan, of_devices = totals_of(scenario, allocation)
    residual = constraints(scenario, allocation).energy
    return {
        "energy": float(energy(scenario, allocation)),
        "accounts": sum(breakdown(scenario, allocation).energy.values()),
        "accounts by device": float(
            breakdown(scenario, allocation).device_energy.sum()
            + breakdown(scenario, allocation).energy["pre-training computing"]
            + breakdown(scenario, allocation).energy["broadcasts"]
        ),
        "ledger": ledger(scenario, allocation).spent[0],
        "totals": float(sum(jnp.sum(part) for part in jax.tree.leaves(totals))),
        "totals of own limits": float(of_plan.energy + jnp.sum(of_devices.energy)),
        "judge": float((residual + 1) * scenario.energy_budget),
    }


def test_all_who_count_joules_count_the_same(watts):
    for seed in range(4):
        scenario, allocation = random_case(seed, 4)
        allocation = whole(allocation)
        expected = by_hand(scenario, allocation, watts)
        found = in_original_units(scenario, allocation) | in_program(scenario, allocation)
        for name, joules in found.items():
            assert joules == pytest.approx(expected, rel=1e-9), name


def spent_in_table(table):
    """J of the design in the table of budgets."""
    line = next(line for line in table.splitlines() if line.split()[:1] == ["energy"])
    return float(line.split()[1])


@pytest.mark.parametrize("relaxed", [True, False], ids=["relaxed", "whole"])
def test_plans_their_judge_and_their_tables_contain_it(joule, relaxed):
    scenario = presets.get("small")
    found = plan(scenario, relaxed=relaxed)
    assert found.status in ("optimal", "feasible")
    # A bound from prices, whose pieces with circuits are searched in test_responses.
    assert found.lower_bound <= found.bound * (1 + 1e-12)
    assert found.gap <= (1e-6 if relaxed else 2e-2)
    expected = by_hand(scenario, found.allocation, WATTS)
    assert expected > 1.01 * by_hand(scenario, found.allocation, 0.0)
    assert found.energy == pytest.approx(expected, rel=1e-9)
    assert expected <= float(scenario.energy_budget) * (1 + 1e-9)
    assert spent_in_table(plan_table(found, scenario)) == pytest.approx(expected, rel=1e-5)
