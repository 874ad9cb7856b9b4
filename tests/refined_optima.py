"""Optima to eleven digits: what differences are taken of."""

import jax

from jaxedge.bounds.batches import programs_of_each
from jaxedge.bounds.two_stage import TwoStage
from jaxedge.machine.chunks import in_chunks
from jaxedge.relaxation.driver import solve_relaxed
from jaxedge.relaxation.judge import judge
from jaxedge.scenario.fields import field_value, with_field
from jaxedge.sensitivity.optimality import refine, starting_point


def moved(scenarios, item, factor):
    """The scenarios with a field multiplied by a factor of its shape."""
    return with_field(scenarios, item, field_value(scenarios, item) * factor)


@jax.jit
@jax.vmap
def _judged_again(program, relaxed):
    start = starting_point(program, relaxed.design, relaxed.prices, relaxed.lower_bound)
    return judge(program, refine(program, start)[0].prices)


def refined_bounds(scenarios):
    """(B,) optimal bounds, and their certified gaps."""
    programs = in_chunks(programs_of_each(TwoStage()), scenarios)
    answer = in_chunks(_judged_again, programs, solve_relaxed(programs))
    return answer.lower_bound * programs.scale, answer.gap
