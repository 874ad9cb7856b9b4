"""A user's own bound and limits on the built-in relaxation, and the certificate by convexity.

The built-in problem is solved in Charnes-Cooper coordinates y = G totals with G the inverse of the
bound's denominator (docs/theory.md, section 4). A user's function h of the totals enters there
as its perspective G h(y/G), which is convex where h is, and positive exactly where h is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.custom.totals import Case, DeviceTotals, PlanTotals, device_cases
from jaxedge.methods.arrow import ArrowProblem, Rows, Terms, Variables, evaluate
from jaxedge.methods.interior_point import InteriorPoint, KktPoint, solve
from jaxedge.program.design import Design
from jaxedge.program.program import Computing, Program, Transmission
from jaxedge.relaxation.by_interior_point import PROGRAM, start

PlanFunction = Callable[[Case, PlanTotals], Array]
DeviceFunction = Callable[[Case, DeviceTotals], Array]

_BUILT_IN = 7
"""Shared variables of the built-in problem; Z, the longest computing, comes after them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Functions:
    """The user's functions, in the order of their rows."""

    sums: tuple[tuple[PlanFunction, DeviceFunction | None], ...] = ()
    """Limits on a plan's part plus the sum of the devices' parts."""
    each: tuple[DeviceFunction, ...] = ()
    """Limits on every device."""
    bound: tuple[PlanFunction, DeviceFunction | None] | None = None
    """Numerator of an own bound, in place of the built-in one."""


Params = tuple[Program, Case]
DeviceParams = tuple[tuple[Computing, Transmission], Case]


def _rounds(program: Program, s: Array) -> Array:
    """(3,) P, Q and G."""
    weights = jnp.concatenate([s[:3], 1 - jnp.sum(s[:3], keepdims=True)])
    return jnp.sum(weights[:, None] * program.rays, axis=0)


def _plan(program: Program, s: Array) -> tuple[Array, PlanTotals]:
    """G and the plan's totals."""
    p, q, g = _rounds(program, s)
    second, joule = program.delay_unit / g, program.energy_unit / g
    samples, time, broadcast = s[3], s[4], s[5]
    sent = program.broadcast.joules * _transmission_energy(program.broadcast, q, broadcast)
    return g, PlanTotals(
        pretraining_rounds=p / g,
        finetuning_rounds=q / g,
        server_samples=samples / g,
        server_time=time * second,
        broadcast_time=broadcast * second,
        device_time=s[6] * second,
        computing_time=s[_BUILT_IN] * second,
        server_energy=program.server.work * samples * (samples / time) ** 2 * joule,
        broadcast_energy=sent * joule,
    )


def _transmission_energy(part: Transmission, rounds: Array, time: Array) -> Array:
    """Energy over ``joules``, rounds (e^x - 1)/x with x = nats rounds/time."""
    return time / part.nats * jnp.expm1(part.nats * rounds / time)


def _device(
    program: Program, parts: tuple[Computing, Transmission], view: Array, x: Array
) -> DeviceTotals:
    computing, upload = parts
    q, g = view[0], view[2]
    second, joule = program.delay_unit / g, program.energy_unit / g
    samples, time, sending = x[0], x[1], x[2]
    return DeviceTotals(
        rounds=q / g,
        samples=samples / g,
        computing_time=time * second,
        upload_time=sending * second,
        computing_energy=computing.work * samples * (samples / time) ** 2 * joule,
        upload_energy=upload.joules * _transmission_energy(upload, q, sending) * joule,
    )


def arrow_problem(functions: Functions) -> ArrowProblem:
    """The built-in relaxation with the user's functions added."""

    def shared(params: Params, s: Array) -> Terms:
        program, case = params
        base = PROGRAM.shared(program, s[:_BUILT_IN])
        g, plan = _plan(program, s)
        rows = [g * own(case, plan) for own, summed in functions.sums if summed is None]
        coupled = [g * own(case, plan) for own, summed in functions.sums if summed is not None]
        objective = base.objective
        if functions.bound is not None:
            objective = g * functions.bound[0](case, plan)
        return Terms(
            objective=objective,
            coupling=jnp.concatenate([base.coupling, *(row[None] for row in coupled)]),
            residuals=jnp.concatenate(
                [base.residuals, (s[_BUILT_IN] - s[6])[None], *(row[None] for row in rows)]
            ),
        )

    def view(params: Params, s: Array) -> Array:
        base = PROGRAM.view(params[0], s[:_BUILT_IN])
        return jnp.concatenate([base, _rounds(params[0], s)[2:], s[_BUILT_IN:]])

    def block(params: Params, own: DeviceParams, v: Array, x: Array) -> Terms:
        parts, case = own
        base = PROGRAM.block(params[0], parts, v[:2], x)
        g, device = v[2], _device(params[0], parts, v, x)
        uses = [g * summed(case, device) for _, summed in functions.sums if summed is not None]
        rows = [g * each(case, device) for each in functions.each]
        objective = base.objective
        if functions.bound is not None:
            summed = functions.bound[1]
            objective = jnp.zeros_like(g) if summed is None else g * summed(case, device)
        return Terms(
            objective=objective,
            coupling=jnp.concatenate([base.coupling, *(row[None] for row in uses)]),
            residuals=jnp.concatenate(
                [base.residuals, (x[1] - v[3])[None], *(row[None] for row in rows)]
            ),
        )

    return ArrowProblem(shared=shared, block=block, view=view)


def initial_point(program: Program) -> Variables:
    """The built-in start, with Z a little above the longest computing."""
    first = start(program)
    longest = 1.05 * jnp.max(first.blocks[:, 1], keepdims=True)
    return Variables(jnp.concatenate([first.shared, longest]), first.blocks)


def solve_own_program(
    functions: Functions, program: Program, case: Case, settings: InteriorPoint
) -> tuple[KktPoint, Array]:
    """The interior point's answer, and () the lower bound on the objective that it proves.

    The bound holds where all functions are convex in the totals.
    """
    problem = arrow_problem(functions)
    devices = ((program.devices, program.uploads), device_cases(case))
    answer = solve(problem, (program, case), devices, initial_point(program), settings)
    beyond = jnp.full_like(answer.objective, jnp.inf)
    if functions.bound is None:
        # The built-in bound is at least gap G, hence at least this beyond the G cut off.
        beyond = 2 * jnp.abs(answer.objective)
    at, most = answer.variables, beyond / program.gap
    lower = certify(functions, program, case, at, answer.multipliers, objective=1.0, most=most)
    return answer, jnp.minimum(lower, beyond)


def certify(
    functions: Functions,
    program: Program,
    case: Case,
    at: Variables,
    multipliers: Rows,
    *,
    objective: float,
    most: Array,
) -> Array:
    """() lower bound on the Lagrangian over all designs, from its tangent at one point.

    Args:
        functions: the user's, convex in the totals.
        program: the built-in part.
        case: scenario and own numbers.
        at: any point of the domain.
        multipliers: of all rows; negative ones count as 0.
        objective: factor of the objective: 1, or 0 for the limits alone.
        most: () see `_least_change`.
    """
    problem = arrow_problem(functions)
    devices = ((program.devices, program.uploads), device_cases(case))
    z: Rows = jax.tree.map(lambda x: jnp.maximum(x, 0), multipliers)

    def lagrangian(point: Variables) -> Array:
        value, rows = evaluate(problem, (program, case), devices, point)
        penalty = sum((jnp.sum(a * b) for a, b in zip(z, rows, strict=True)), jnp.zeros_like(value))
        return objective * value + penalty

    value, slope = jax.value_and_grad(lagrangian)(at)
    return value + _least_change(program, slope, at, most)


def _least_change(program: Program, slope: Variables, at: Variables, most: Array) -> Array:
    """() least value of slope · (x - at) over all x that keep the linear limits below.

    Every design has its rounds in the cone of the rays, batches in their limits, hence
    X_0 in P [b_min, b_max] and X_k in Q [b_min, b_max]; and every time is at most the delay, hence
    in [0, G]. Each quantity is best at one end, where the form is linear in the rays' weights.
    With L convex, L(x) >= L(at) + slope · (x - at), so this bounds the Lagrangian from below.

    Args:
        program: of which rays and batches matter.
        slope: derivative of the Lagrangian.
        at: where it was taken.
        most: () only designs with G <= most are considered; infinite for all.
    """

    def batches(part: Computing, factor: Array) -> Array:
        return jnp.sum(jnp.minimum(factor * part.min_batch, factor * part.max_batch))

    times = jnp.sum(jnp.minimum(slope.shared[4:], 0)) + jnp.sum(jnp.minimum(slope.blocks[:, 1:], 0))
    of_p = batches(program.server, slope.shared[3])
    of_q = batches(program.devices, slope.blocks[:, 0])
    rays = program.rays
    weights = jnp.concatenate([slope.shared[:3], jnp.zeros_like(slope.shared[:1])])
    ends = weights + rays[:, 0] * of_p + rays[:, 1] * of_q + rays[:, 2] * times
    here = jnp.sum(slope.shared * at.shared) + jnp.sum(slope.blocks * at.blocks)
    return _least_mix(ends, rays[:, 2], most) - here


def _least_mix(values: Array, inverses: Array, most: Array) -> Array:
    """() least mean of ``values`` (4,) over weights whose mean of ``inverses`` is <= ``most``."""
    # A vertex is one ray, or a mix of two on either side of the cut.
    high, low = inverses[:, None] > most, inverses[None, :] <= most
    apart = jnp.where(high & low, inverses[:, None] - inverses[None, :], 1.0)
    cut = jnp.where(jnp.isfinite(most), most, 0.0)
    share = (cut - inverses[None, :]) / apart
    mixes = share * values[:, None] + (1 - share) * values[None, :]
    alone = jnp.where(inverses <= most, values, jnp.inf)
    return jnp.minimum(jnp.min(alone), jnp.min(jnp.where(high & low, mixes, jnp.inf)))


def design_of(program: Program, answer: KktPoint) -> Design:
    """The point as rounds and choices per round; ``value`` is the objective."""
    s, x = answer.variables.shared, answer.variables.blocks
    p, q, g = _rounds(program, s)
    server, devices = program.server, program.devices
    return Design(
        pretraining_rounds=p / g,
        finetuning_rounds=q / g,
        server_batch=jnp.clip(s[3] / p, server.min_batch, server.max_batch),
        server_sample_time=s[4] / s[3],
        broadcast_exponent=program.broadcast.nats * q / s[5],
        device_batch=jnp.clip(x[:, 0] / q, devices.min_batch, devices.max_batch),
        device_sample_time=x[:, 1] / x[:, 0],
        upload_exponent=program.uploads.nats * q / x[:, 2],
        value=answer.objective,
    )


def inverse_denominator(program: Program, answer: KktPoint) -> Array:
    """() G of an answer."""
    return _rounds(program, answer.variables.shared)[2]


def own_multipliers(functions: Functions, multipliers: Rows) -> dict[str, Any]:
    """Multipliers of the energy, the delay, the sums in order, and those of every device (K, .)."""
    coupling = iter(multipliers.coupling[1:])
    own = len([1 for _, summed in functions.sums if summed is None])
    rows = iter(multipliers.shared[multipliers.shared.shape[0] - own :])
    each = len(functions.each)
    return {
        "energy": multipliers.coupling[0],
        "delay": multipliers.shared[0],
        "sums": [next(rows) if summed is None else next(coupling) for _, summed in functions.sums],
        "each": multipliers.blocks[:, multipliers.blocks.shape[1] - each :],
    }
