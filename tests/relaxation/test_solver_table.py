"""{solver} x {problem} x {plain, jit, vmap}: a new solver's row is its line of the registry."""

from functools import cache, partial

import jax
import numpy as np
import pytest

from jaxedge import presets
from jaxedge.bounds.two_stage import two_stage_program
from jaxedge.relaxation.judge import judge
from jaxedge.relaxation.solvers import SOLVERS
from jaxedge.scenario.sampling import sample
from jaxedge.scenario.validation import validate
from tests.relaxed_nlp import relaxed_optimum

PROBLEMS = {
    "preset": presets.get("small"),
    "loose": sample(jax.random.key(11), 3, tightness=0.0),
    "tight": sample(jax.random.key(12), 3, tightness=0.7),
}
"""Of three devices each, so that every way compiles a solver once."""

ROWS = sorted(SOLVERS.keys() - {"convex-approximation"})
"""All but the slow baseline, which its own test compiles with optimisation."""


def program_of(problem):
    return jax.tree.map(np.asarray, two_stage_program(validate(PROBLEMS[problem])))


def answer(solver, program):
    """What the solver finds, judged."""
    return judge(program, *SOLVERS[solver].find(program))


@cache
def compiled(solver):
    return jax.jit(partial(answer, solver))


@cache
def side_by_side(solver):
    """Judged answers to all problems at once."""
    programs = [program_of(problem) for problem in PROBLEMS]
    together = jax.tree.map(lambda *leaves: np.stack(leaves), *programs)
    return jax.jit(jax.vmap(partial(answer, solver)))(together)


def found(solver, problem, way):
    if way == "vmap":
        index = list(PROBLEMS).index(problem)
        return jax.tree.map(lambda x: x[index], side_by_side(solver))
    return (compiled(solver) if way == "jit" else partial(answer, solver))(program_of(problem))


@cache
def optimum(problem):
    """SciPy's, of the formulas in original units."""
    return relaxed_optimum(validate(PROBLEMS[problem])).bound


@pytest.mark.parametrize("way", [pytest.param("plain", marks=pytest.mark.slow), "jit", "vmap"])
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("solver", ROWS)
def test_a_solver_is_certified_at_scipys_optimum(solver, problem, way):
    judged = found(solver, problem, way)
    scale = float(program_of(problem).scale)
    assert judged.gap <= SOLVERS[solver].gap
    assert judged.lower_bound * scale <= optimum(problem) * (1 + 1e-9)
    assert judged.design.value * scale >= optimum(problem) * (1 - 1e-6)
