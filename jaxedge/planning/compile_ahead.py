"""What a plan will need is compiled side by side: XLA keeps about one core busy with a program.

They are run once on zeros, which fills JAX's own caches; the answers are dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import jax
import numpy as np

from jaxedge.bounds.base import Bound
from jaxedge.bounds.batches import programs_of_each
from jaxedge.integers import boxes, local_search
from jaxedge.machine.chunks import chunk_lengths, cores, with_settings
from jaxedge.planning.judging import assess, assess_naive
from jaxedge.planning.program_rows import programs_of_schemes
from jaxedge.planning.question import Asked
from jaxedge.planning.schemes import JOINT
from jaxedge.relaxation.cheapest import cheapest_of_each, fewest
from jaxedge.relaxation.driver import FAST, begin, decompose, judged_by
from jaxedge.relaxation.solvers import DUAL_DECOMPOSITION, Solver
from jaxedge.scenario.scenario import Scenario

Job = Callable[[], Any]


def compile_ahead(scenarios: Scenario, asked: Asked) -> None:
    """Compile what planning a batch of scenarios will need, unless that was done before.

    Args:
        scenarios: with a leading batch axis.
        asked: the question; its gap does not matter.
    """
    leaves, tree = jax.tree.flatten(scenarios)
    shapes = tuple((np.shape(leaf)[1:], np.asarray(leaf).dtype) for leaf in leaves)
    length = max(chunk_lengths(scenarios))
    branching, schemes = asked.max_nodes > 0, asked.designs != (JOINT,)
    _compile(shapes, tree, length, asked.bound, asked.solver, asked.relaxed, branching, schemes)


@cache
def _compile(
    shapes: tuple[tuple[tuple[int, ...], Any], ...],
    tree: Any,
    length: int,
    bound: Bound,
    solver: Solver,
    relaxed: bool,
    branching: bool,
    schemes: bool,
) -> None:
    def scenarios(*lead: int) -> Scenario:
        numbers = [np.zeros((*lead, *shape), dtype) for shape, dtype in shapes]
        unflattened: Scenario = jax.tree.unflatten(tree, numbers)
        return unflattened

    jobs = _jobs(scenarios(length), bound, solver, relaxed=relaxed, branching=branching)
    if not bound.outer:
        programs_of = programs_of_schemes if schemes else programs_of_each
        jobs.insert(0, lambda: programs_of(bound)(scenarios(length)))
    with ThreadPoolExecutor(min(len(jobs), cores())) as pool:
        with jax.enable_x64(True):
            started = [pool.submit(with_settings(job)) for job in jobs]
        for done in started:
            done.result()


def _jobs(
    scenarios: Scenario, bound: Bound, solver: Solver, *, relaxed: bool, branching: bool
) -> list[Job]:
    """Calls of the compiled functions on zeros, those that take longest to compile first."""

    def zeros_of(fn: Callable[..., Any], *arguments: Any) -> Any:
        return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(fn, *arguments))

    outer = np.zeros((np.size(scenarios.energy_budget), len(bound.outer)))
    programs = zeros_of(jax.vmap(bound.program), scenarios, outer)
    least = fewest(programs)
    paths = begin(programs, FAST, 0)
    solved, _ = zeros_of(decompose, programs, paths)
    given = (scenarios, programs, solved.design)
    jobs: list[Job] = [
        lambda: cheapest_of_each(programs, *least),
        lambda: assess(*given, bound=bound),
    ]
    if solver is not DUAL_DECOMPOSITION:
        jobs.insert(0, lambda: judged_by(solver)(programs))
    if solver is DUAL_DECOMPOSITION or not relaxed:  # whole designs are searched by it
        jobs.insert(0, lambda: decompose(programs, paths))
    if relaxed:
        return jobs
    batches = local_search.Batches(
        server=solved.design.server_batch, devices=solved.design.device_batch
    )
    candidate = local_search.Candidate(batches=batches, answer=solved)
    jobs.insert(0, lambda: local_search.integer_prices(programs, solved.prices))
    jobs += [
        lambda: local_search.promising_moves(programs, candidate),
        lambda: local_search.neighbouring_rounds(programs, candidate),
        lambda: assess_naive(*given, bound=bound),
        lambda: local_search.first_candidates(programs, solved.design, solved.prices),
        lambda: local_search.floored(programs, solved.design),
    ]
    if branching:
        box = boxes.whole_box(programs)
        numbers = solved.lower_bound, solved.lower_bound
        jobs += [
            lambda: boxes.look(programs, box, solved.design, solved.prices, *numbers),
            lambda: boxes.within(programs, box),
        ]
    return jobs
