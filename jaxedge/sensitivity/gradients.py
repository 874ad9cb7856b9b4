"""How the optimal bound changes with every parameter of a scenario: exact gradients.

They are those of the relaxed optimum (real rounds and batches; whole-number fields are taken as
real numbers, too), by the envelope theorem in one reverse pass for a whole batch. They are partial
derivatives: weights are not normalised again, and the two gains of a device are apart. At a kink,
where the optimum has no derivative, they belong to one of several optimal prices or designs.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.bounds.base import Bound
from jaxedge.bounds.batches import program_of_bound, programs_of_each
from jaxedge.bounds.registry import DEFAULT, differentiable_bound
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.precision import require_x64
from jaxedge.machine.trees import put, select, take
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices
from jaxedge.relaxation.cheapest import cheapest_of_each, fewest
from jaxedge.relaxation.driver import NEWTON_ATTEMPTS, solve_relaxed
from jaxedge.relaxation.dual_paths import solve_prices
from jaxedge.relaxation.judge import RELAXED_GAP, Relaxed, judge
from jaxedge.scenario.fields import as_arrays, field_value
from jaxedge.scenario.scenario import FIELDS, Scenario
from jaxedge.scenario.validation import validate_batch
from jaxedge.sensitivity.envelope import lagrangian, saddle_of

_GRADIENT_GAP = 3e-9
"""Asked for where an answer is solved for its gradient: prices are less exact than the bound."""
_ATTEMPTS = ((0.1, 40), (0.5, 100))
"""Shrink factor and most steps of the solves inside a traced program."""


def value_and_grad(
    scenarios: Scenario, relaxed: Relaxed | None = None, *, bound: str = DEFAULT
) -> tuple[np.ndarray, Scenario]:
    """Optimal bounds and their gradients to every field, arrays included.

    Args:
        scenarios: with a leading axis (B,) on its fields, as `validate_batch` takes it, or one.
        relaxed: its (B,) answers of `solve_relaxed`, where they are known already.
        bound: a name in `bounds.BOUNDS` whose derivatives are known.

    Returns:
        The relaxed optimal bounds (B,), and a scenario whose fields hold d bound/d field, in the
        shapes of the validated scenario. Both are nan where a scenario is infeasible or its optimum
        is not certified to 1e-6.

    Raises:
        ValueError: if a scenario, named by its position, or the bound is not valid.
    """
    chosen, valid = differentiable_bound(bound), validate_batch(scenarios)
    single = np.ndim(valid.energy_budget) == 0
    batch = jax.tree.map(lambda x: np.asarray(x)[None], valid) if single else valid
    values, gradients = gradients_of_valid(batch, chosen, relaxed)
    return (values[0], jax.tree.map(lambda g: g[0], gradients)) if single else (values, gradients)


def gradients_of_valid(
    scenarios: Scenario,
    bound: Bound,
    relaxed: Relaxed | None = None,
    prices: Prices | None = None,
) -> tuple[np.ndarray, Scenario]:
    """`value_and_grad` of a batch (B, ...) whose fields are known to be in their domains.

    ``prices`` are of less exact answers, from which its own begin: those of `Answers.prices`.
    """
    with jax.enable_x64(True):
        if relaxed is None:
            relaxed, known = solve_for_gradients(scenarios, bound, prices)
        else:
            known = relaxed.gap <= RELAXED_GAP
        values, gradients = in_chunks(partial(_gradients, bound=bound), scenarios, relaxed)
    return select(known, (values, gradients), np.nan)


def solve_for_gradients(
    scenarios: Scenario, bound: Bound, prices: Prices | None = None
) -> tuple[Relaxed, np.ndarray]:
    """Relaxed answers to a valid batch (B, ...), and which are certified; x64 must be enabled.

    They begin from ``prices``, of less exact answers, where these are known.
    """
    programs = in_chunks(programs_of_each(bound), scenarios)
    least = in_chunks(cheapest_of_each, programs, *fewest(programs))
    feasible = ~np.asarray(least.provably_not)
    # As in `pipeline.optimise`: what is infeasible would only stall the others.
    live = np.flatnonzero(feasible)
    index = np.where(feasible, np.arange(len(feasible)), live[:1].sum())
    standing, known = take((programs, prices), index)
    attempts = NEWTON_ATTEMPTS if live.size else 1
    relaxed = solve_relaxed(standing, gap=_GRADIENT_GAP, attempts=attempts, warm_start=known)
    missed = np.flatnonzero(feasible & (relaxed.gap > RELAXED_GAP))
    if missed.size:
        relaxed = put(relaxed, missed, solve_relaxed(take(standing, missed)))
    return relaxed, feasible & (relaxed.gap <= RELAXED_GAP)


def elasticities(
    scenarios: Scenario, relaxed: Relaxed | None = None, *, bound: str = DEFAULT
) -> dict[str, np.ndarray]:
    """Elasticities d log bound/d log parameter by the path of every field, such as "devices.gain".

    Args:
        scenarios: as in `value_and_grad`.
        relaxed: as in `value_and_grad`.
        bound: as in `value_and_grad`.

    Returns:
        Arrays of shape (B,): for a device field the sum over the devices, which is the elasticity
        to a common factor of all. Nan where nothing is certified; optional fields left out are
        absent.

    Raises:
        ValueError: as in `value_and_grad`.
    """
    values, gradients = value_and_grad(scenarios, relaxed, bound=bound)
    return sum_over_devices(elasticity_of_each(validate_batch(scenarios), values, gradients))


def elasticity_of_each(
    valid: Scenario, values: np.ndarray, gradients: Scenario
) -> dict[str, np.ndarray]:
    """Elasticities d log bound/d log parameter in the shape of every field, by its path."""
    found = {}
    for item in FIELDS:
        parameter, gradient = field_value(valid, item), field_value(gradients, item)
        if parameter is not None and gradient is not None:
            found[item.path] = (
                gradient * parameter / (values[..., None] if item.per_device else values)
            )
    return found


def sum_over_devices(elasticity: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Elasticities with those of device fields summed over the devices."""
    per_device = {item.path for item in FIELDS if item.per_device}
    return {p: x.sum(axis=-1) if p in per_device else x for p, x in elasticity.items()}


@partial(jax.jit, static_argnames="bound")
def _gradients(scenarios: Scenario, relaxed: Relaxed, bound: Bound) -> tuple[Array, Scenario]:
    return jax.vmap(partial(_value_and_gradient, bound))(scenarios, relaxed)


def _value_and_gradient(
    bound: Bound, scenario: Scenario, relaxed: Relaxed
) -> tuple[Array, Scenario]:
    """Of one scenario at its judged answer, by the envelope theorem."""
    program = program_of_bound(bound, scenario)
    saddle = saddle_of(program, relaxed.design, relaxed.prices, relaxed.lower_bound)
    gradient = jax.grad(lambda s: lagrangian(program_of_bound(bound, s), saddle))(scenario)
    return relaxed.lower_bound * program.scale, gradient


def optimal_bound(scenario: Scenario, *, bound: str = DEFAULT) -> Array:
    """() the relaxed optimal bound as a function that JAX transforms.

    It may stand inside ``jit``, ``vmap``, ``grad``, ``jacfwd`` and the like; its derivative is that
    of `value_and_grad`, and one derivative may be taken. Nothing is validated.

    Args:
        scenario: one scenario; numbers are broadcast over the devices.
        bound: as in `value_and_grad`.

    Returns:
        The bound; nan, with a derivative of nan, where it is not certified to 1e-6.

    Raises:
        ValueError: where 64-bit numbers are not enabled, or the bound's derivatives not known.
    """
    require_x64("optimal_bound")
    return _optimal_bound(differentiable_bound(bound), as_arrays(scenario))


def solve_in_trace(program: Program) -> Relaxed:
    """A judged answer without leaving the trace, with careful attempts while one is not enough."""
    shrink, steps = (jnp.asarray(column) for column in zip(*_ATTEMPTS, strict=True))

    def missed(carry: tuple[Array, Relaxed]) -> Array:
        return (carry[0] < len(_ATTEMPTS)) & ~is_certified(carry[1])

    def attempt(carry: tuple[Array, Relaxed]) -> tuple[Array, Relaxed]:
        i, best = carry
        again = judge(program, solve_prices(program, shrink[i], steps[i]))
        better = again.lower_bound > best.lower_bound
        kept: Relaxed = jax.tree.map(partial(jnp.where, better), again, best)
        return i + 1, kept

    nothing = jax.tree.map(
        lambda x: jnp.full(x.shape, -jnp.inf, x.dtype),
        jax.eval_shape(lambda p: judge(p, solve_prices(p, *_ATTEMPTS[0])), program),
    )
    _, best = jax.lax.while_loop(missed, attempt, (jnp.asarray(0), nothing))
    return best


def is_certified(relaxed: Relaxed) -> Array:
    """Whether an answer's gap is at most 1e-6."""
    least = relaxed.lower_bound
    return (least > 0) & (relaxed.design.value - least <= RELAXED_GAP * least)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _optimal_bound(bound: Bound, scenario: Scenario) -> Array:
    return _traced(bound, scenario)[0]


def _traced(bound: Bound, scenario: Scenario) -> tuple[Array, Scenario]:
    relaxed = solve_in_trace(program_of_bound(bound, scenario))
    value, gradient = _value_and_gradient(bound, scenario, relaxed)
    known = is_certified(relaxed)
    return select(known, (value, gradient), np.nan)


@_optimal_bound.defjvp
def _optimal_bound_jvp(
    bound: Bound, primals: tuple[Scenario], tangents: tuple[Scenario]
) -> tuple[Array, Array]:
    # One reverse pass serves both modes: the tangent is linear in what comes in.
    value, gradient = _traced(bound, primals[0])
    parts = jax.tree.map(lambda g, t: jnp.sum(g * t), gradient, tangents[0])
    return value, sum(jax.tree.leaves(parts), jnp.zeros_like(value))
