"""Planning the rest of a plan again gives the rest of the plan."""

from dataclasses import replace

import numpy as np

from jaxedge import plan, presets
from jaxedge.bounds.two_stage import two_stage_bound
from jaxedge.planning.replanning import plan_finetuning
from jaxedge.relaxation.driver import solve_relaxed
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


def test_the_rest_is_planned_alone(monkeypatch):
    """Seven other designs were planned and dropped."""
    scenario = replace(presets.get("small"), min_pretraining_rounds=0)
    solved = []
    monkeypatch.setattr(
        "jaxedge.planning.pipeline.solve_relaxed",
        lambda programs, **options: (
            solved.append(len(programs.gap)) or solve_relaxed(programs, **options)
        ),
    )
    found = plan_finetuning(scenario)
    assert solved == [1]
    best = plan(scenario, schemes=["fine-tuning only"]).schemes["fine-tuning only"]
    assert float(two_stage_bound(scenario, found)) <= best.bound * (1 + 1e-9)
