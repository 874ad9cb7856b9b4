"""Planning the rest of a plan again gives the rest of the plan."""

import numpy as np

from jaxedge import plan, presets
from jaxedge.bounds.two_stage import two_stage_bound
from jaxedge.planning.replanning import plan_finetuning
from jaxedge.training.runs.courses import Leg, rest_of
from jaxedge.training.runs.ledgers import ledger


def test_the_rest_of_an_optimal_plan_is_planned_as_it_was():
    """Half of fine-tuning done, nothing has departed: Bellman's principle."""
    scenario = presets.get("small")
    design = plan(scenario).allocation
    first, fine = int(design.pretraining_rounds), int(design.finetuning_rounds)
    done = (
        Leg(fine_tuning=False, start=0, rounds=first, design=design),
        Leg(fine_tuning=True, start=0, rounds=fine // 2, design=design),
    )
    spent = np.add(*(ledger(scenario, leg.alone).spent for leg in done))
    promised = float(two_stage_bound(scenario, design))
    rest = plan_finetuning(rest_of(scenario, done, promised, tuple(spent.tolist())))
    assert int(rest.pretraining_rounds) == 0
    assert abs(int(rest.finetuning_rounds) - (fine - fine // 2)) <= 1
    np.testing.assert_array_equal(rest.devices.batch, design.devices.batch)
