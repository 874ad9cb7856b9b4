"""The fine-tuning bound's integer designs against enumeration over every number of rounds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import presets
from jaxedge.bounds.fine_tuning import fine_tuning_program
from jaxedge.planning import entry
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.stacking import unstack
from jaxedge.scenario.validation import validate
from tests.enumeration import designs, exact_optimum

LARGEST_BATCH = 3
MOST_ROUNDS = 25.5
"""Of pre-training, in all the time at the highest clock with batches of one."""
GAP = 1e-7
_program = jax.jit(fine_tuning_program)


def tiny_scenarios(devices):
    """Scenarios that afford few rounds, so that every design can be listed."""
    drawn = sample_batch(jax.random.key(11), 30, devices, tightness=0.9)
    for scenario in unstack(drawn):
        server = scenario.server
        cycles = scenario.delay_budget * server.max_clock / MOST_ROUNDS
        yield validate(
            dataclasses.replace(
                scenario,
                server=dataclasses.replace(
                    server,
                    max_batch=LARGEST_BATCH,
                    cycles_per_sample=cycles,
                    # The whole delay at the highest clock would take a third of the energy.
                    capacitance=scenario.energy_budget
                    / (3 * cycles * MOST_ROUNDS * server.max_clock**2),
                ),
                devices=dataclasses.replace(
                    scenario.devices, max_batch=np.full(devices, LARGEST_BATCH)
                ),
            )
        )


def enumerated(scenario):
    """The best bound of all designs, or None where there are too many to list."""
    best = np.inf
    for m in np.arange(float(scenario.min_pretraining_rounds), MOST_ROUNDS + 1):
        program = jax.tree.map(np.asarray, _program(scenario, jnp.asarray(m)))
        points = designs(program, "fine-tuning", LARGEST_BATCH)
        if len(points) > 20_000:
            return None
        best = min(best, exact_optimum(program, points) * float(program.scale))
    return best


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_tiny_scenarios_are_closed_at_the_best_of_all_designs(devices):
    compared = 0
    for scenario in tiny_scenarios(devices):
        best = enumerated(scenario)
        if best is None:
            continue
        plan = entry.plan(scenario, bound="fine-tuning", gap=GAP)
        if np.isinf(best):
            assert plan.status == "infeasible"
            continue
        compared += 1
        assert plan.status == "optimal"
        assert plan.bound == pytest.approx(best, rel=2 * GAP)
        assert plan.lower_bound <= best * (1 + 1e-12)
        if compared == 5:
            break
    assert compared == 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small", "finetuning-wins"])
def test_presets_are_closed_to_a_tight_gap(name):
    quick = entry.plan(presets.get(name), bound="fine-tuning")
    tight = entry.plan(presets.get(name), bound="fine-tuning", gap=1e-4)
    assert quick.status == tight.status == "optimal"
    assert tight.gap <= 1e-4
    assert quick.lower_bound <= tight.bound <= quick.bound * (1 + 1e-4)
