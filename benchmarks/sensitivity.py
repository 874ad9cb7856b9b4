"""What do gradients cost beside the solve, and how exact are they?

The gradients of 1,000 sampled scenarios to every field are held against central differences of
fourth order, along one random direction within the field. The optima that are differenced come from
another solver, the interior point, and are refined by Newton's method on the optimality conditions;
how well they are certified is told. A case is left out as near a kink where, by these optima alone,
what is active is not the same at all four points of the difference. Forward mode is held against
reverse mode.

Usage: python benchmarks/sensitivity.py [--smallest] [--record]
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import jax
import numpy as np
import records

from jaxedge.bounds.batches import programs_of_each
from jaxedge.bounds.two_stage import TwoStage
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import take
from jaxedge.program.program import Program
from jaxedge.relaxation.driver import solve_relaxed
from jaxedge.relaxation.judge import Relaxed, judge
from jaxedge.scenario.fields import field_value, with_field
from jaxedge.scenario.sampling import sample_batch
from jaxedge.scenario.scenario import FIELDS, Field, Scenario
from jaxedge.sensitivity.active_limits import active_limits
from jaxedge.sensitivity.gradients import gradients_of_valid, optimal_bound, solve_for_gradients
from jaxedge.sensitivity.optimality import refine, starting_point

STEP, NOTICED = 1e-4, 1e-3
"""Relative step of the differences; elasticities above it have relative errors, others absolute
ones in units of it."""
STENCIL = {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}
"""Steps -> weights of the central difference of fourth order."""


@jax.jit
@jax.vmap
def refine_each(program: Program, relaxed: Relaxed) -> Relaxed:
    start = starting_point(program, relaxed.design, relaxed.prices, relaxed.lower_bound)
    return judge(program, refine(program, start)[0].prices)


def optimum(scenarios: Scenario) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Bounds, certified gaps and what is active, by other means than the gradients' optima."""
    programs = in_chunks(programs_of_each(TwoStage()), scenarios)
    answer = in_chunks(refine_each, programs, solve_relaxed(programs, solver="interior-point"))
    active = active_limits(scenarios, programs, answer)
    return answer.lower_bound * programs.scale, answer.gap, active


def errors(
    scenarios: Scenario, values: np.ndarray, gradients: Scenario, item: Field
) -> tuple[np.ndarray, np.ndarray, float]:
    """Error of each scenario's elasticity, which are near a kink, and the optima's largest gap."""
    rng = np.random.default_rng(len(item.path))
    parameter = np.asarray(field_value(scenarios, item))
    direction = rng.choice([-1.0, 1.0], parameter.shape)
    exact = np.asarray(field_value(gradients, item)) * parameter * direction
    exact = (exact.sum(axis=-1) if item.per_device else exact) / values
    points = [
        optimum(with_field(scenarios, item, parameter * (1 + steps * STEP * direction)))
        for steps in STENCIL
    ]
    near = np.zeros(len(values), dtype=bool)
    for words, first in points[0][2].items():
        for _, _, active in points[1:]:
            near |= np.any((first != active[words]).reshape(len(values), -1), axis=1)
    differences = sum(w * bound for w, (bound, _, _) in zip(STENCIL.values(), points, strict=True))
    slopes = differences / (STEP * values)
    error = np.abs(slopes - exact) / np.maximum(np.abs(exact), NOTICED)
    return error, near, float(max(gap.max() for _, gap, _ in points))


def modes(scenarios: Scenario) -> float:
    """Largest relative difference of forward and reverse mode along random directions."""
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda x: x * rng.normal(size=x.shape), scenarios)

    @jax.jit
    @jax.vmap
    def both(scenario: Scenario, along: Scenario) -> tuple[jax.Array, Scenario]:
        slope = jax.jvp(optimal_bound, (scenario,), (along,))[1]
        return slope, jax.grad(optimal_bound)(scenario)

    forward, reverse = both(scenarios, direction)
    parts = jax.tree.map(
        lambda g, d: (g * d).reshape(len(forward), -1).sum(axis=1), reverse, direction
    )
    total = sum(jax.tree.leaves(parts))
    return float(np.max(np.abs(forward - total) / np.abs(total)))


def cost(scenarios: Scenario, trials: int) -> tuple[float, float]:
    """CPU seconds of the solve and of the gradients, best trials, all compiled."""
    relaxed, _ = solve_for_gradients(scenarios, TwoStage())
    programs = in_chunks(programs_of_each(TwoStage()), scenarios)

    def least(call: partial[object]) -> float:
        call()
        times = []
        for _ in range(trials):
            start = time.process_time()
            jax.block_until_ready(call())
            times.append(time.process_time() - start)
        return min(times)

    return (
        least(partial(solve_relaxed, programs)),
        least(partial(gradients_of_valid, scenarios, TwoStage(), relaxed)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="32 scenarios with K = 3")
    records.add_option(parser)
    arguments = parser.parse_args()
    count, devices = (32, 3) if arguments.smallest else (1000, 10)
    print(
        f"JAX {jax.__version__}, {jax.devices()[0].device_kind}, {count} scenarios, K = {devices}"
    )
    with jax.enable_x64(True):
        scenarios = sample_batch(jax.random.key(7), count, devices, tightness=0.3)
        solving, differentiating = cost(scenarios, 5)
        ratio = differentiating / solving
        print(f"gradients take {ratio:.2f} of the CPU time of their solve")
        values, gradients = gradients_of_valid(scenarios, TwoStage())
        table, worst, near_kinks, uncertain = {}, 0.0, 0, 0.0
        for item in FIELDS:
            error, near, gap = errors(scenarios, values, gradients, item)
            table[item.path] = largest = float(np.max(error[~near], initial=0.0))
            worst, near_kinks = max(worst, largest), near_kinks + int(near.sum())
            uncertain = max(uncertain, gap)
            print(f"  {item.path:32} {largest:8.1e} largest error, {near.sum():4d} near a kink")
        apart = modes(take(scenarios, np.arange(min(count, 32))))
    cases = count * len(FIELDS)
    print(f"largest relative error {worst:.1e} away from kinks, {cases - near_kinks} cases")
    print(f"{near_kinks} left out: what is active changes within {2 * STEP:.0e} to either side")
    print(f"the optima that are differenced are certified to {uncertain:.1e}")
    print(f"forward and reverse mode differ by {apart:.1e} at most")
    if arguments.record:
        results = {"scenarios": count, "devices": devices, "cost_ratio": ratio, "error": worst}
        results |= {"reference_gap": uncertain, "near_kinks": near_kinks}
        results |= {"modes_apart": apart, "error_by_field": table}
        print(f"recorded in {records.write('sensitivity', results)}")


if __name__ == "__main__":
    main()
