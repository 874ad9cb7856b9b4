"""Designs are read as they are printed, and held against the scenario before anything runs."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxedge.answers.files import check_runnable, design_of, design_tree, load_design
from tests.hand_made_plans import hand_made, infeasible
from tests.short_runs import design, scenario


def test_a_printed_plan_is_read_back(tmp_path):
    plan = hand_made("small")[1]
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan.to_dict()), encoding="utf-8")
    jax.tree.map(np.testing.assert_array_equal, load_design(path), plan.allocation)
    again = design_of(json.loads(json.dumps(design_tree(plan.allocation))))
    jax.tree.map(np.testing.assert_array_equal, again, plan.allocation)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no plan in JSON"),
        ("[]", "pretraining_rounds is missing"),
        (json.dumps(infeasible().to_dict()), "holds no design: its status is 'infeasible'"),
        ('{"pretraining_rounds": "many"}', "pretraining_rounds = 'many': must be numbers"),
        ('{"pretraining_rounds": [1]}', "must be a finite number"),
        ('{"pretraining_rounds": 1, "finetuning_rounds": 1}', r"server\.batch is missing"),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path, content, said):
    path = tmp_path / "plan.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        load_design(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json: does not exist"):
        load_design(tmp_path / "none.json")


def with_part(part, **changes):
    whole = design()
    return dataclasses.replace(
        whole, **{part: dataclasses.replace(getattr(whole, part), **changes)}
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (design(2.5), r"pretraining_rounds = 2\.5 rounds: must be a whole number from 0 on"),
        (design(batch=(1, 2)), "for 2 devices and the scenario has 3"),
        (design(batch=(1, 2.5, 3)), r"devices\.batch\[1\] = 2\.5 samples: must be a whole number"),
        (design(batch=(1, 0, 3)), r"devices\.batch\[1\] = 0 samples: must be .* from 1 to 128"),
        (with_part("server", clock=1e12), r"server\.clock = 1e\+12 Hz: must be a number > 0 to"),
        (with_part("devices", power=np.array([0.1, 0.1, 5])), r"devices\.power\[2\] = 5 W"),
        (with_part("server", power=0.0), r"server\.power = 0 W: must be a number > 0 to 1 W"),
    ],
)
def test_a_design_outside_the_scenarios_limits_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        check_runnable(wrong, scenario())


def test_the_choices_of_a_stage_without_rounds_do_not_matter():
    server = dataclasses.replace(design().server, batch=0.0, clock=0.0)
    check_runnable(dataclasses.replace(design(0), server=server), scenario())
