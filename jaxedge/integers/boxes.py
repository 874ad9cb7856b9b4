"""Boxes of integer designs: what a box restricts, its certified bound, and what prices exclude.

A box holds the limits of (M, N, b0, b_1, ..., b_K). Fewer rounds with smaller batches never need
more of either budget, so a box holds a feasible design only if its lower corner is one.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.integers.local_search import integer_prices
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import take
from jaxedge.program.certificates import ray_values
from jaxedge.program.design import Design
from jaxedge.program.program import Computing, Program, with_rounds
from jaxedge.program.responses import Prices, Work, respond
from jaxedge.relaxation.cheapest import Cheapest, cheapest_of_each, fewest
from jaxedge.relaxation.driver import NEWTON_ATTEMPTS, solve_relaxed
from jaxedge.relaxation.judge import Relaxed

_SNAP = 1e-7
"""Relative distance from a whole number that is taken for rounding."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Box:
    """Limits of pre-training rounds, fine-tuning rounds, server batch and device batches."""

    lower: Array
    """(K + 3,) whole."""
    upper: Array
    """(K + 3,) whole or infinite."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Outlook:
    """Where in a box its relaxed optimum lies, and what is left of the box."""

    point: Array
    """(K + 3,) real."""
    loss: Array
    """(K + 3,) about what making each coordinate whole costs."""
    box: Box
    """The box without what prices prove to be no better than the cutoff."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedBoxes:
    """A batch of boxes with what is known of each."""

    boxes: Box
    programs: Program
    """Restricted to the boxes."""
    corner: Cheapest
    """At the lower corners."""
    bound: np.ndarray
    """(batch,) no design in the box has a lower value; inf for a box without any."""
    relaxed: Relaxed
    prices: Prices
    outlook: Outlook
    cutoffs: np.ndarray
    """(batch,) no design that the outlook leaves out of a box has a lower value."""

    @cached_property
    def shrunk(self) -> np.ndarray:
        """(batch,) bool: whether the outlook leaves anything out."""
        old, new = self.boxes, self.outlook.box
        return np.any((new.lower > old.lower) | (new.upper < old.upper), axis=-1)


def whole_box(programs: Program) -> Box:
    """All whole rounds and batches of each of a batch of programs, on the host."""
    rounds, server, devices = programs.rounds, programs.server, programs.devices
    # Tied rounds are counted once, as M.
    low_n = np.where(rounds.tied, rounds.min_pretraining, rounds.min_finetuning)
    high_n = np.where(rounds.tied, low_n, rounds.max_finetuning)
    lower = np.stack([rounds.min_pretraining, low_n, server.min_batch], axis=-1)
    upper = np.stack([rounds.max_pretraining, high_n, server.max_batch], axis=-1)
    return Box(
        lower=np.ceil(np.concatenate([lower, devices.min_batch], axis=-1)),
        upper=np.floor(np.concatenate([upper, devices.max_batch], axis=-1)),
    )


@jax.jit
@jax.vmap
def within(program: Program, box: Box) -> Program:
    """The program restricted to a box."""

    def limited(part: Computing, lower: Array, upper: Array) -> Computing:
        return dataclasses.replace(part, min_batch=lower, max_batch=upper)

    rounds = dataclasses.replace(
        program.rounds,
        min_pretraining=box.lower[0],
        max_pretraining=box.upper[0],
        min_finetuning=box.lower[1],
        max_finetuning=box.upper[1],
    )
    inside = dataclasses.replace(
        program,
        server=limited(program.server, box.lower[2], box.upper[2]),
        devices=limited(program.devices, box.lower[3:], box.upper[3:]),
    )
    return with_rounds(inside, rounds)


def _distance(x: Array) -> Array:
    """Distance from the nearest whole number, without rounding errors."""
    distance = jnp.abs(x - jnp.round(x))
    return jnp.where(distance <= _SNAP * jnp.maximum(x, 1), 0, distance)


def _chord(variance: Array, batch: Array) -> Array:
    """How far variance/b lies below its chord between whole batches."""
    below = jnp.maximum(jnp.floor(batch), 1)
    share = _distance(batch)
    return variance * share * (1 - share) / (below * (below + 1) * batch)


def _loss(program: Program, design: Design, point: Array, bound: Array) -> Array:
    m, n = point[0], point[1]
    rounds = program.rounds
    rates = jnp.stack([rounds.server_rate, rounds.device_rate])
    of_rounds = bound * rates * _distance(point[:2])
    of_server = m * _chord(program.server.variance, point[2])
    of_devices = n * _chord(program.devices.variance, point[3:])
    below = m * rounds.server_rate + n * rounds.device_rate
    return jnp.concatenate([of_rounds, of_server[None], of_devices]) / below


def _batches_within(part: Computing, work: Work, rays: Array, room: Array) -> tuple[Array, Array]:
    """Limits of the batches whose cost leaves ``room`` (4,) on one of the ``rays`` (4,)."""
    bare = jnp.where(room > 0, jnp.inf, -jnp.inf)
    rise = jnp.max(jnp.where(rays > 0, room / jnp.where(rays > 0, rays, 1), bare))
    price = (work.cost - part.variance / work.batch) / work.batch
    most = work.cost + jnp.maximum(rise, 0)
    # variance/b + price b <= most, a quadratic inequality in b.
    middle = most + jnp.sqrt(jnp.maximum(most**2 - 4 * part.variance * price, 0))
    lower = jnp.ceil(2 * part.variance / middle * (1 - _SNAP))
    upper = jnp.floor(middle / (2 * price) * (1 + _SNAP))
    known = jnp.isfinite(most) & (price > 0)
    lower = jnp.where(known, jnp.maximum(lower, part.min_batch), part.min_batch)
    return lower, jnp.where(known, jnp.minimum(upper, part.max_batch), part.max_batch)


def _rounds_within(slope: Array, rest: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Limits of the whole x with slope x + rest <= 0."""
    end = -rest / jnp.where(slope == 0, 1, slope)
    slack = _SNAP * (1 + jnp.abs(end))
    known = jnp.isfinite(rest)
    low = jnp.where(known & (slope < 0), jnp.maximum(lower, jnp.ceil(end - slack)), lower)
    return low, jnp.where(known & (slope > 0), jnp.minimum(upper, jnp.floor(end + slack)), upper)


def _least_product(slope: Array, lower: Array, upper: Array) -> Array:
    least = slope * jnp.where(slope > 0, lower, upper)
    return jnp.where(slope == 0, 0, least)


def _shrunk(program: Program, box: Box, prices: Prices, cutoff: Array) -> Box:
    """The box without rounds and batches at which the Lagrangian exceeds the cutoff."""
    r = respond(program, prices, integer=True)
    idle = program.gap - prices.energy - prices.time
    room = cutoff - ray_values(program, r.pretraining_cost, r.finetuning_cost, idle)
    server = _batches_within(program.server, r.server, program.rays[:, 0], room)
    devices = _batches_within(program.devices, r.devices, program.rays[:, 1], room)
    rounds = program.rounds
    slope_m = r.pretraining_cost - cutoff * rounds.server_rate
    slope_n = r.finetuning_cost - cutoff * rounds.device_rate
    low_m, low_n, high_m, high_n = box.lower[0], box.lower[1], box.upper[0], box.upper[1]
    of_n = jnp.where(rounds.tied, 0, _least_product(slope_n, low_n, high_n))
    of_m = _least_product(slope_m, low_m, high_m)
    slope_m = jnp.where(rounds.tied, slope_m + slope_n, slope_m)
    slope_n = jnp.where(rounds.tied, 0, slope_n)
    m = _rounds_within(slope_m, idle + of_n, low_m, high_m)
    n = _rounds_within(slope_n, idle + of_m, low_n, high_n)
    lower, upper = (
        jnp.concatenate([jnp.stack([m[end], n[end], server[end]]), devices[end]]) for end in (0, 1)
    )
    return Box(lower=lower, upper=upper)


@jax.jit
@jax.vmap
def look(
    program: Program, box: Box, design: Design, prices: Prices, bound: Array, cutoff: Array
) -> Outlook:
    """What the relaxed optimum of a box says about it."""
    parts = [design.pretraining_rounds, design.finetuning_rounds, design.server_batch]
    point = jnp.concatenate([jnp.stack(parts), design.device_batch])
    point = jnp.clip(jnp.where(jnp.isfinite(point), point, box.lower), box.lower, box.upper)
    shrunk = _shrunk(program, box, prices, cutoff)
    valid = jnp.isfinite(bound) & jnp.isfinite(cutoff)
    kept: Box = jax.tree.map(lambda new, old: jnp.where(valid, new, old), shrunk, box)
    return Outlook(point=point, loss=_loss(program, design, point, bound), box=kept)


def judge_boxes(
    programs: Program, boxes: Box, floors: np.ndarray, cutoffs: np.ndarray, gap: float
) -> JudgedBoxes:
    """Bound every box of a batch from below.

    Args:
        programs: the program of each box.
        boxes: not empty.
        floors: (batch,) lower bounds known before.
        cutoffs: (batch,) values of no interest.
        gap: relative gap to which relaxations are solved.
    """
    inside = in_chunks(within, programs, boxes)
    corner = in_chunks(cheapest_of_each, programs, *fewest(inside))
    live = ~np.asarray(corner.provably_not)
    # A hopeless relaxation would be tried again and again: another takes its place.
    stand_in = np.where(live, np.arange(len(live)), np.argmax(live))
    relaxed = solve_relaxed(take(inside, stand_in), gap=gap, attempts=NEWTON_ATTEMPTS)
    prices, bound = in_chunks(integer_prices, take(inside, stand_in), relaxed.prices)
    bound = np.where(np.isnan(bound), -np.inf, bound)
    outlook = in_chunks(look, inside, boxes, relaxed.design, prices, bound, cutoffs)
    return JudgedBoxes(
        boxes=boxes,
        programs=inside,
        corner=corner,
        bound=np.where(live, np.maximum(bound, floors), np.inf),
        relaxed=relaxed,
        prices=prices,
        outlook=outlook,
        cutoffs=cutoffs,
    )
