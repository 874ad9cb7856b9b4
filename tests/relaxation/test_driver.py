"""The relaxed driver against independent optima, and its honesty on sampled scenarios."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxedge.bounds.fine_tuning import fine_tuning_program
from jaxedge.bounds.two_stage import two_stage_program
from jaxedge.relaxation.driver import NEWTON_ATTEMPTS, solve_relaxed
from jaxedge.scenario.files import from_tree
from jaxedge.scenario.presets import get
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.validation import validate, validate_batch

_programs = jax.jit(jax.vmap(two_stage_program))


def _cases(data_dir, name):
    return json.loads((data_dir / name).read_text())["cases"]


def _one(scenario):
    return jax.tree.map(lambda x: np.asarray(x)[None], validate(scenario))


def test_two_stage_reference_optima(data_dir):
    for case in _cases(data_dir, "relaxation.json"):
        programs = _programs(_one(from_tree(case["scenario"])))
        answer = solve_relaxed(programs)
        bound = (answer.design.value * programs.scale)[0]
        lower = (answer.lower_bound * programs.scale)[0]
        # The file's `bound` lies up to 2.2e-8 below its `dual_bound`: Ipopt relaxes constraints.
        assert bound == pytest.approx(case["relaxation"]["bound"], rel=1e-6)
        assert lower <= case["relaxation"]["dual_bound"] * (1 + 1e-8)
        assert 0 <= answer.gap[0] <= 1e-6


def test_a_misspelt_solver_is_refused_before_anything_is_solved():
    with pytest.raises(ValueError, match="did you mean interior-point"):
        solve_relaxed(_programs(_one(get("small"))), solver="interior-piont")


def test_fine_tuning_reference_optima(data_dir):
    for case in _cases(data_dir, "fine_tuning.json"):
        scenario = validate(from_tree(case["scenario"]))
        for given in case["at_fixed_pretraining_rounds"]:
            program = fine_tuning_program(scenario, np.asarray(float(given["pretraining_rounds"])))
            answer = solve_relaxed(jax.tree.map(lambda x: np.asarray(x)[None], program))
            bound = (answer.design.value * program.scale)[0]
            lower = (answer.lower_bound * program.scale)[0]
            assert bound == pytest.approx(given["bound"], rel=1e-6)
            assert lower <= given["dual_bound"] * (1 + 1e-8)


@pytest.mark.parametrize("tightness", [0.0, 0.9])
@pytest.mark.parametrize("count", [1, 10, 50])
def test_sampled_scenarios_are_certified(count, tightness):
    scenarios = validate_batch(sample_batch(jax.random.key(3), 128, count, tightness=tightness))
    answer = solve_relaxed(jax.tree.map(np.asarray, _programs(scenarios)))
    assert np.mean(answer.gap <= 1e-6) >= 0.99
    assert np.all(answer.design.value >= answer.lower_bound * (1 - 1e-12))


def test_devices_at_a_kink_of_their_time_do_not_jump_for_ever():
    """One of 1,000 devices is slowest, so that the others have tiny prices."""
    chosen = jax.tree.map(lambda x: x[44:45], sample_batch(jax.random.key(0), 64, 1000))
    answer = solve_relaxed(_programs(validate_batch(chosen)), attempts=NEWTON_ATTEMPTS)
    assert answer.prices.energy[0] < 1e-8  # energy is not short
    assert 0 <= answer.gap[0] <= 1e-6


def test_an_unlucky_element_disturbs_no_other():
    scenarios = validate_batch(sample_batch(jax.random.key(4), 8, 3))
    programs = jax.tree.map(np.asarray, _programs(scenarios))
    alone = solve_relaxed(programs)
    gap = np.array(programs.gap)
    gap[2] = np.nan
    answer = solve_relaxed(dataclasses.replace(programs, gap=gap))
    rest = np.arange(8) != 2
    np.testing.assert_array_equal(answer.lower_bound[rest], alone.lower_bound[rest])
    assert not answer.gap[2] <= 1e-6
