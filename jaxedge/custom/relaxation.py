"""A user's own bound and limits on the built-in relaxation, and the certificate by convexity.

The built-in problem is solved in Charnes-Cooper coordinates y = G totals with G the inverse of the
bound's denominator (docs/theory.md, section 4). A user's function h of the totals enters there
as its perspective G h(y/G), which is convex where h is, and positive exactly where h is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxedge.custom.totals import Case, DeviceTotals, PlanTotals, device_cases
from jaxedge.methods.arrow import ArrowProblem, Rows, Terms, Variables, evaluate
from jaxedge.methods.interior_point import InteriorPoint, KktPoint, solve
from jaxedge.program import costs
from jaxedge.program.certificates import ray_values
from jaxedge.program.design import Design
from jaxedge.program.program import Computing, Program, Transmission
from jaxedge.relaxation.arrow_form import (
    PROGRAM,
    Device,
    Shared,
    View,
    computing_energy,
)
from jaxedge.relaxation.by_interior_point import start

PlanFunction = Callable[[Case, PlanTotals], Array]
DeviceFunction = Callable[[Case, DeviceTotals], Array]


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


class _View(NamedTuple):
    """What a device sees of the shared variables."""

    built_in: View
    scaling: Array
    """() G."""
    longest: Array
    """() Z."""

    @classmethod
    def named(cls, vector: Array) -> _View:
        return cls(View(*vector[:2]), *vector[2:])


def _named(vector: Array) -> tuple[Shared, Array]:
    """The built-in shared variables, and Z, the longest computing, which comes after them."""
    return Shared.named(vector[:-1]), vector[-1]


def _plan(program: Program, s: Shared, longest: Array) -> PlanTotals:
    """The plan's totals."""
    p, q, g = s.mix(program)
    second, joule = program.delay_unit / g, program.energy_unit / g
    return PlanTotals(
        pretraining_rounds=p / g,
        finetuning_rounds=q / g,
        server_samples=s.samples / g,
        server_time=s.computing * second,
        broadcast_time=s.broadcast * second,
        device_time=s.round_time * second,
        computing_time=longest * second,
        server_energy=computing_energy(program.server, s.samples, s.computing) * joule,
        broadcast_energy=costs.sending_total(program.broadcast, q, s.broadcast) * joule,
    )


def _device(
    program: Program, parts: tuple[Computing, Transmission], view: _View, device: Device
) -> DeviceTotals:
    (part, upload), rounds, g = parts, view.built_in.rounds, view.scaling
    second, joule = program.delay_unit / g, program.energy_unit / g
    return DeviceTotals(
        rounds=rounds / g,
        samples=device.samples / g,
        computing_time=device.computing * second,
        upload_time=device.sending * second,
        computing_energy=computing_energy(part, device.samples, device.computing) * joule,
        upload_energy=costs.sending_total(upload, rounds, device.sending) * joule,
    )


def arrow_problem(functions: Functions) -> ArrowProblem:
    """The built-in relaxation with the user's functions added."""

    def shared(params: Params, vector: Array) -> Terms:
        (program, case), (s, longest) = params, _named(vector)
        base, g = PROGRAM.shared(program, s.vector), s.mix(program).scaling
        plan = _plan(program, s, longest)
        rows = [g * own(case, plan) for own, summed in functions.sums if summed is None]
        coupled = [g * own(case, plan) for own, summed in functions.sums if summed is not None]
        objective = base.objective
        if functions.bound is not None:
            objective = g * functions.bound[0](case, plan)
        return Terms(
            objective=objective,
            coupling=_appended(base.coupling, *coupled),
            residuals=_appended(base.residuals, longest - s.round_time, *rows),
        )

    def view(params: Params, vector: Array) -> Array:
        (program, _), (s, longest) = params, _named(vector)
        built_in = PROGRAM.view(program, s.vector)
        return _appended(built_in, s.mix(program).scaling, longest)

    def block(params: Params, own: DeviceParams, v: Array, x: Array) -> Terms:
        (program, _), (parts, case) = params, own
        seen, variables = _View.named(v), Device(*x)
        base = PROGRAM.block(program, parts, jnp.stack(seen.built_in), x)
        g, device = seen.scaling, _device(program, parts, seen, variables)
        uses = [g * summed(case, device) for _, summed in functions.sums if summed is not None]
        rows = [g * each(case, device) for each in functions.each]
        objective = base.objective
        if functions.bound is not None:
            summed = functions.bound[1]
            objective = jnp.zeros_like(g) if summed is None else g * summed(case, device)
        return Terms(
            objective=objective,
            coupling=_appended(base.coupling, *uses),
            residuals=_appended(base.residuals, variables.computing - seen.longest, *rows),
        )

    return ArrowProblem(shared=shared, block=block, view=view)


def _appended(rows: Array, *more: Array) -> Array:
    return jnp.concatenate([rows, *(row[None] for row in more)])


def initial_point(program: Program) -> Variables:
    """The built-in start, with Z a little above the longest computing."""
    first = start(program)
    longest = 1.05 * jnp.max(Device(*first.blocks.T).computing)
    return Variables(_appended(first.shared, longest), first.blocks)


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

    (s, longest), devices = _named(slope.shared), Device(*slope.blocks.T)
    of_times = [s.computing, s.broadcast, s.round_time, longest, devices.computing, devices.sending]
    times = sum((jnp.sum(jnp.minimum(factor, 0)) for factor in of_times), jnp.zeros_like(longest))
    of_p = batches(program.server, s.samples)
    of_q = batches(program.devices, devices.samples)
    ends = ray_values(program, of_p, of_q, times)
    ends = ends + _appended(s.ray_weights, jnp.zeros_like(longest))
    here = jnp.sum(slope.shared * at.shared) + jnp.sum(slope.blocks * at.blocks)
    return _least_mix(ends, program.rays[:, 2], most) - here


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
    (s, _), x = _named(answer.variables.shared), Device(*answer.variables.blocks.T)
    p, q, g = s.mix(program)
    server, devices = program.server, program.devices
    return Design(
        pretraining_rounds=p / g,
        finetuning_rounds=q / g,
        server_batch=jnp.clip(s.samples / p, server.min_batch, server.max_batch),
        server_sample_time=s.computing / s.samples,
        broadcast_exponent=program.broadcast.nats * q / s.broadcast,
        device_batch=jnp.clip(x.samples / q, devices.min_batch, devices.max_batch),
        device_sample_time=x.computing / x.samples,
        upload_exponent=program.uploads.nats * q / x.sending,
        value=answer.objective,
    )


def inverse_denominator(program: Program, answer: KktPoint) -> Array:
    """() G of an answer."""
    return _named(answer.variables.shared)[0].mix(program).scaling


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
