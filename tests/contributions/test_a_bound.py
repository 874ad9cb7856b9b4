"""A bound of one class and one registry line, whose rounds of both stages are searched."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxedge
from jaxedge.bounds.base import FINETUNING, PRETRAINING, Bound
from jaxedge.bounds.formulation import program_at_rounds
from jaxedge.bounds.registry import BOUNDS
from jaxedge.commands.cli import main
from jaxedge.planning.entry import plan
from jaxedge.planning.schemes import SCHEMES
from jaxedge.relaxation.cheapest import cheapest
from jaxedge.scenario.sampling import sample
from jaxedge.scenario.stacking import stack
from jaxedge.scenario.text import to_tree
from jaxedge.scenario.validation import validate
from jaxedge.sensitivity import (
    analyse,
    both_sides,
    elasticities,
    optimal_bound,
    value_and_grad,
)
from jaxedge.sweeps.axes import values
from jaxedge.sweeps.checks import check_sweep
from jaxedge.sweeps.running import run
from jaxedge.sweeps.sweep import Sweep

MOST, LARGEST_BATCH = 6.5, 3
"""Rounds of either stage in all the time at the highest clock; samples."""


@dataclasses.dataclass(frozen=True)
class Toy(Bound):
    """Delta e^(-aM-cN) + s0/b0 (1 - e^(-2aM)) e^(-2cN) + sum w_k² s_k/b_k (1 - e^(-2cN))."""

    name = "toy"
    unit = "loss"
    outer = (PRETRAINING, FINETUNING)
    relaxed_gap = 1e-3
    a, c = 0.1, 0.2

    def _coefficients(self, scenario, low, high):
        """The least over a box of rounds, of 1, 1/b0 and 1/b."""
        task, a, c = scenario.learning, self.a, self.c
        server = -jnp.expm1(-2 * a * low[0]) * jnp.exp(-2 * c * high[1]) * task.server_variance
        devices = -jnp.expm1(-2 * c * low[1]) * task.device_weight**2 * task.device_variance
        return task.initial_gap * jnp.exp(-a * high[0] - c * high[1]), server, devices

    def value(self, scenario, allocation):
        rounds = allocation.pretraining_rounds, allocation.finetuning_rounds
        constant, server, devices = self._coefficients(scenario, rounds, rounds)
        noise = jnp.sum(devices / allocation.devices.batch)
        return constant + server / allocation.server.batch + noise

    def program_over(self, scenario, low, high):
        parts = zip(
            ("constant", "server_variance", "device_variance"),
            self._coefficients(scenario, low, high),
            strict=True,
        )
        return program_at_rounds(scenario, low[0], low[1], **dict(parts))

    def program(self, scenario, outer):
        return self.program_over(scenario, outer, outer)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(BOUNDS, Toy.name, Toy())


def _slow(scenario, part):
    """A part that can compute few samples: the whole delay at the top clock is a third of E."""
    cycles = scenario.delay_budget * part.max_clock / MOST
    joules = scenario.energy_budget / (3 * cycles * MOST * part.max_clock**2)
    return dataclasses.replace(
        part, cycles_per_sample=cycles, capacitance=joules, max_batch=0 * cycles + LARGEST_BATCH
    )


@pytest.fixture(scope="module")
def tiny():
    scenario = validate(sample(jax.random.key(3), 1))
    parts = {"server": _slow(scenario, scenario.server)}
    parts["devices"] = _slow(scenario, scenario.devices)
    return validate(dataclasses.replace(scenario, **parts))


@pytest.fixture(scope="module")
def least(tiny):
    """Brute force: every (M, N, b0, b) with the least energy within the delay."""
    most = int(MOST) + 1
    ranges = [range(1, most), range(1, most), range(1, LARGEST_BATCH + 1)]
    designs = np.array(list(itertools.product(*ranges, range(1, LARGEST_BATCH + 1))), float)

    def value(design):
        m, n, server, device = design
        program = Toy().program(tiny, jnp.stack([m, n]))
        found = cheapest(program, 1.0, 1.0, server, device[None])
        return jnp.where(found.fits, found.design.value * program.scale, jnp.inf)

    with jax.enable_x64(True):
        return float(jax.jit(jax.vmap(value))(designs).min())


def test_a_whole_plan_is_the_best_of_all_designs(tiny, least):
    found = plan(tiny, bound="toy", gap=1e-6)
    assert found.status == "optimal"
    assert found.bound == pytest.approx(least, rel=1e-6)
    assert found.lower_bound <= least * (1 + 1e-9)


def test_a_relaxed_plan_is_certified_below_it(tiny, least):
    found = plan(tiny, bound="toy", relaxed=True)
    assert found.status == "optimal"
    assert found.gap <= Toy.relaxed_gap
    assert found.lower_bound <= least
    with jax.enable_x64(True):
        again = float(Toy().value(tiny, found.allocation))
    assert found.bound == pytest.approx(again, rel=1e-12)


def test_schemes_restrict_it(tiny, least):
    found = plan(tiny, bound="toy", schemes=True)
    assert set(found.schemes) >= {"pre-training only", "fine-tuning only", "equal rounds"}
    for name, scheme in found.schemes.items():
        assert scheme.status != "failed", name
        if scheme.bound is not None and "only" not in name:
            assert scheme.bound >= least * (1 - 1e-9), name
    equal = found.schemes["equal rounds"].allocation
    assert equal.pretraining_rounds == equal.finetuning_rounds


def test_the_command_line_plans_it(tiny, least, tmp_path, capsys):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(to_tree(tiny)))
    assert main(["plan", str(path), "--bound", "toy", "--json", "--gap", "1e-6"]) == 0
    assert json.loads(capsys.readouterr().out)["bound"] == pytest.approx(least, rel=1e-6)


def test_a_batch_is_its_plans(tiny, least):
    found = jaxedge.plan_batch([tiny, tiny], bound="toy", gap=1e-6)
    assert [item.bound for item in found] == [pytest.approx(least, rel=1e-6)] * 2


def test_a_sweep_holds_its_plans(tiny, least):
    budget = float(tiny.energy_budget)
    sweep = Sweep(
        scenario=tiny,
        axes=[values("energy_budget", [budget, 0.1 * budget])],
        bound="toy",
        gap=1e-6,
        outputs=("bound", "lower_bound"),
    )
    data = run(sweep)
    assert float(data.bound[0]) == pytest.approx(least, rel=1e-6)
    less = plan(dataclasses.replace(tiny, energy_budget=0.1 * budget), bound="toy", gap=1e-6)
    assert float(data.bound[1]) == pytest.approx(less.bound, rel=1e-9)
    assert float(data.bound[1]) > 1.001 * float(data.bound[0])
    assert (data.lower_bound <= data.bound).all()


def test_stacked_scenarios_have_its_schemes(tiny, least):
    found = jaxedge.plan_batch(stack([tiny, tiny]), bound="toy", gap=1e-6, schemes=True)
    assert tuple(found) == ("joint design", *SCHEMES)
    np.testing.assert_allclose(found["joint design"].bound, least, rtol=1e-6)
    assert found["equal rounds"].bound[0] >= least * (1 - 1e-9)
    assert (found["maximum clocks"].bound[0] == found["maximum clocks"].bound[1]).all()


@pytest.mark.parametrize("function", [analyse, value_and_grad, elasticities, both_sides])
def test_sensitivities_say_that_they_do_not_know_its_derivatives(tiny, function):
    with pytest.raises(ValueError, match="known for 'two-stage', but not for 'toy'"):
        function(tiny, bound="toy")
    with jax.enable_x64(True), pytest.raises(ValueError, match="but not for 'toy'"):
        optimal_bound(tiny, bound="toy")


def test_what_has_no_derivative_is_refused_by_name(tiny):
    sweep = Sweep(
        scenario=tiny,
        axes=[values("energy_budget", [1.0, 2.0])],
        bound="toy",
        outputs=("elasticity_energy_budget",),
    )
    with pytest.raises(ValueError, match="two-stage"):
        check_sweep(sweep)
