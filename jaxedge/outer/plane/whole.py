"""Whole rounds and batches near a relaxed optimum of the plane, and a lower bound on all of them.

Designs begin at the batches that answer multiples of the relaxed prices, and move by a few rounds
of either stage and a sample or two at a time. With prices the Lagrangian of a move is explicit, and
no design that keeps both budgets is below it: only moves whose loss and Lagrangian are less than
the best loss so far are judged, by the least energy within the delay.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.bounds.modes import Coefficients, Modes, coefficients
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import put, take
from jaxedge.outer.plane.cover import Boxes, cover, refined
from jaxedge.outer.plane.rounds import plane_of
from jaxedge.outer.plane.search import PlaneSearched
from jaxedge.outer.plane.values import Costs, best_batch, costs_at
from jaxedge.program.design import Design
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices
from jaxedge.relaxation.cheapest import cheapest_of_each, fewest

_MULTIPLES = (0.25, 0.5, 0.8, 1.0, 1.25, 1.6, 2.5, 5.0, 20.0)
"""Of the relaxed prices, whose answers are tried."""
_STEPS = (0.0, 1e-3, 0.01, 0.05, 0.2)
"""Moves of the rounds, relative, and by one and two besides."""
_SCAN = np.concatenate([np.linspace(0.3, 0.9, 7), np.linspace(0.92, 1.1, 10)])
"""Rounds tried with the relaxed batches made whole, relative to the relaxed rounds."""
_CLOSER = np.linspace(0.94, 1.06, 25)
"""Rounds tried with a design's own batches, relative to its rounds."""
_SWAPS = 4
"""Batches that grow while as many others shrink."""
_OFFERED, _JUDGED = 192, 32
"""Most promising moves, and how many of them are judged at a time."""
_MOST_MOVES = 60
_GAIN = 1e-12
"""Relative gain below which a move is not worth taking."""
_REFINEMENTS = 10
"""How often boxes are split at most."""


class WholeFound(NamedTuple):
    """The best whole designs found."""

    design: Design
    """Value in units of the loss, inf where nothing fits."""
    lower_bound: np.ndarray
    """() no whole design has a smaller loss."""


class Offers(NamedTuple):
    """Whole designs without clocks and powers, which may not keep the budgets."""

    rounds: Array
    """(n, 2) M and N."""
    batches: Array
    """(n, 1 + K) of the server and the devices."""
    loss: Array
    """(n,) inf where there is no more."""


def search_whole(
    programs: Program, modes: Modes, found: PlaneSearched, *, gap: float
) -> WholeFound:
    """Whole designs of a batch of feasible programs.

    Args:
        programs: `plane_program` of each, with a leading batch axis.
        modes: of each loss.
        found: their relaxed optima.
        gap: certified relative gap at which boxes are no longer split.
    """
    least = in_chunks(cheapest_of_each, programs, *fewest(programs)).design
    design = dataclasses.replace(least, value=np.full_like(found.lower_bound, np.inf))
    design = _best_of(programs, in_chunks(_first, programs, modes, found), design)
    design = _best_of(programs, in_chunks(_scan, programs, modes, found), design)
    design = _best_of(programs, in_chunks(_look_closer, programs, modes, design), design)
    active = np.flatnonzero(np.isfinite(design.value))
    for _ in range(_MOST_MOVES):
        if not active.size:
            break
        some = take((programs, modes, found.prices, design), active)
        moved = _moved(some[0], in_chunks(_moves, *some), some[3])
        gained = np.flatnonzero(moved.value < some[3].value * (1 - _GAIN))
        active = active[gained]
        design = put(design, active, take(moved, gained))
    return WholeFound(design, _bounded(programs, modes, found, np.asarray(design.value), gap))


@jax.jit
@jax.vmap
def _scan(program: Program, modes: Modes, found: PlaneSearched) -> Offers:
    """The relaxed batches made whole, with fewer and more rounds than the relaxed ones."""
    batch = jnp.concatenate([found.design.server_batch[None], found.design.device_batch])
    whole = jnp.stack([jnp.floor(batch), jnp.round(batch), jnp.ceil(batch)])
    return _with_rounds(program, modes, found.design, whole, _SCAN)


@jax.jit
@jax.vmap
def _look_closer(program: Program, modes: Modes, now: Design) -> Offers:
    """The design's own batches with rounds around its own."""
    batch = jnp.concatenate([now.server_batch[None], now.device_batch])
    return _with_rounds(program, modes, now, batch[None], _CLOSER)


def _with_rounds(
    program: Program, modes: Modes, design: Design, whole: Array, shares: np.ndarray
) -> Offers:
    """Each of the batches (n, 1 + K) with all crossings of these shares of a design's rounds."""
    plane = plane_of(program)
    low = jnp.concatenate([program.server.min_batch[None], program.devices.min_batch])
    high = jnp.concatenate([program.server.max_batch[None], program.devices.max_batch])
    best = jnp.stack([design.pretraining_rounds, design.finetuning_rounds])
    scan = best[:, None] * jnp.asarray(shares, best.dtype)[None]
    rounds = jnp.stack(jnp.meshgrid(*scan, indexing="ij"), axis=-1).reshape(-1, 2)
    rounds = jnp.maximum(jnp.floor(jnp.minimum(rounds, plane.high[None])), plane.low[None])
    batches = jnp.repeat(jnp.clip(whole, low[None], high[None]), len(rounds), axis=0)
    rounds = jnp.concatenate([rounds] * len(whole))
    at = jax.vmap(lambda x: coefficients(modes, x[0], x[1]))(rounds)
    return Offers(rounds, batches, at.value(1 / batches[:, 0], 1 / batches[:, 1:]))


def _moved(programs: Program, offers: Offers, now: Design) -> Design:
    """The designs after the best of the first moves that help."""
    moved, stuck = now, np.arange(len(now.value))
    for start in range(0, _OFFERED, _JUDGED):
        block: Offers = jax.tree.map(lambda x, i=start: x[:, i : i + _JUDGED], offers)
        moved = put(moved, stuck, _best_of(*take((programs, block, now), stuck)))
        stuck = stuck[moved.value[stuck] >= now.value[stuck]]
        if not stuck.size:
            break
    return moved


def _best_of(programs: Program, offers: Offers, now: Design) -> Design:
    """The best offers that keep both budgets, or the designs themselves."""
    which, place = np.nonzero(offers.loss < np.asarray(now.value)[:, None])
    if not which.size:
        return now
    rounds, batches = offers.rounds[which, place], offers.batches[which, place]
    each = rounds[:, 0], rounds[:, 1], batches[:, 0], batches[:, 1:]
    found = in_chunks(cheapest_of_each, take(programs, which), *each)
    value = np.where(found.fits, offers.loss[which, place], np.inf)
    # The least of each comes first.
    order = np.lexsort((value, which))
    first = order[np.unique(which[order], return_index=True)[1]]
    first = first[np.isfinite(value[first])]
    design = dataclasses.replace(take(found.design, first), value=value[first])
    return put(now, which[first], design)


def _bounded(
    programs: Program, modes: Modes, found: PlaneSearched, value: np.ndarray, gap: float
) -> np.ndarray:
    """(B,) lower bounds of whole designs at the relaxed prices, split until they reach the gap."""
    rounds = np.stack([found.design.pretraining_rounds, found.design.finetuning_rounds], axis=-1)
    given = (programs, modes, found.prices)
    boxes = in_chunks(_cover, *given, rounds)
    for _ in range(_REFINEMENTS):
        open_ = np.flatnonzero(_least(boxes) * (1 + gap) < value)
        if not open_.size:
            break
        boxes = put(boxes, open_, in_chunks(_refine, *take((*given, boxes), open_)))
    least = _least(boxes)
    return np.maximum(found.lower_bound, np.where(np.isfinite(least), least, -np.inf))


@jax.jit
@jax.vmap
def _cover(program: Program, modes: Modes, prices: Prices, rounds: Array) -> Boxes:
    return cover(program, modes, prices, rounds, integer=True)


@jax.jit
@jax.vmap
def _refine(program: Program, modes: Modes, prices: Prices, boxes: Boxes) -> Boxes:
    return refined(program, modes, prices, boxes, integer=True)


def _least(boxes: Boxes) -> np.ndarray:
    return np.minimum(np.min(boxes.bound, axis=-1), boxes.rest)


@jax.jit
@jax.vmap
def _first(program: Program, modes: Modes, found: PlaneSearched) -> Offers:
    """Answers to multiples of the prices around the relaxed rounds, and the least of all."""
    plane, costs = plane_of(program), costs_at(program, found.prices)
    least = jnp.concatenate([program.server.min_batch[None], program.devices.min_batch])
    best = jnp.stack([found.design.pretraining_rounds, found.design.finetuning_rounds])
    up = jnp.asarray([[0, 0], [1, 0], [0, 1], [1, 1]], best.dtype)
    around = jnp.floor(jnp.minimum(jnp.floor(best)[None] + up, plane.high[None]))
    around = jnp.maximum(around, plane.low[None])
    multiples = jnp.asarray(_MULTIPLES, best.dtype)

    def answers(rounds: Array) -> Array:
        at = coefficients(modes, rounds[0], rounds[1])
        return jax.vmap(lambda t: _answer(program, costs, rounds, at, t))(multiples)

    rounds = jnp.concatenate([jnp.repeat(around, len(multiples), axis=0), plane.low[None]])
    batches = jnp.concatenate([*jax.vmap(answers)(around), least[None]])
    at = jax.vmap(lambda x: coefficients(modes, x[0], x[1]))(rounds)
    return Offers(rounds, batches, at.value(1 / batches[:, 0], 1 / batches[:, 1:]))


def _answer(program: Program, costs: Costs, rounds: Array, at: Coefficients, t: Array) -> Array:
    """(1 + K,) best whole batches where samples cost ``t`` times as much."""
    server = best_batch(program.server, at.server, t * rounds[0] * costs.server, integer=True)
    devices = best_batch(program.devices, at.devices, t * rounds[1] * costs.devices, integer=True)
    return jnp.concatenate([server[None], devices])


@jax.jit
@jax.vmap
def _moves(program: Program, modes: Modes, prices: Prices, now: Design) -> Offers:
    """The most promising moves, those with the least loss or Lagrangian first."""
    costs = costs_at(program, prices)
    rounds = _rounds_around(program, now)
    at = jax.vmap(lambda x: coefficients(modes, x[0], x[1]))(rounds)
    noise = jnp.concatenate([at.server[:, None], at.devices], axis=1)
    each = jnp.concatenate([costs.server[None], costs.devices])
    count = jnp.concatenate([rounds[:, :1], jnp.broadcast_to(rounds[:, 1:], at.devices.shape)], 1)
    price = count * each[None]
    batches = _batches_around(program, now, noise[0], price[0])
    loss = at.constant[:, None] + noise @ (1 / batches).T
    sent = rounds[:, 1] * costs.sending - costs.budgets
    lagrangian = loss + price @ batches.T + sent[:, None]
    reach = jnp.where(loss < now.value, jnp.maximum(loss, lagrangian), jnp.inf)
    least, chosen = jax.lax.top_k(-reach.ravel(), _OFFERED)
    places = chosen // len(batches), chosen % len(batches)
    gain = jnp.where(-least < now.value, loss[places], jnp.inf)
    return Offers(rounds[places[0]], batches[places[1]], gain)


def _rounds_around(program: Program, now: Design) -> Array:
    """(n, 2) whole rounds near those of a design, its own first."""
    plane = plane_of(program)
    steps = jnp.asarray(_STEPS, now.value.dtype)

    def along(here: Array, low: Array, high: Array) -> Array:
        away = jnp.concatenate([jnp.arange(3.0), jnp.ceil(here * steps[1:]) + 2])
        both = jnp.concatenate([here + away, here - away[1:]])
        return jnp.clip(both, low, jnp.maximum(jnp.floor(high), low))

    first = along(now.pretraining_rounds, plane.low[0], plane.high[0])
    second = along(now.finetuning_rounds, plane.low[1], plane.high[1])
    grid = jnp.stack(jnp.meshgrid(first, second, indexing="ij"), axis=-1)
    return grid.reshape(-1, 2)


def _batches_around(program: Program, now: Design, noise: Array, price: Array) -> Array:
    """(n, 1 + K) batches with one, or two against each other, changed by a sample."""
    here = jnp.concatenate([now.server_batch[None], now.device_batch])
    low = jnp.concatenate([program.server.min_batch[None], program.devices.min_batch])
    high = jnp.concatenate([program.server.max_batch[None], program.devices.max_batch])
    unit = jnp.eye(len(here), dtype=here.dtype)

    def best(by: float) -> Array:
        """(swaps, 1 + K) the changes that the Lagrangian likes best."""
        there = jnp.maximum(here + by, 1)
        gain = noise * (1 / there - 1 / here) + by * price
        inside = (here + by >= low) & (here + by <= high)
        _, order = jax.lax.top_k(-jnp.where(inside, gain, jnp.inf), min(_SWAPS, len(here)))
        return by * unit[order]

    swaps = (best(1.0)[:, None] + best(-1.0)[None]).reshape(-1, len(here))
    changes = jnp.concatenate([0 * unit[:1], unit, -unit, swaps])
    return jnp.clip(here[None] + changes, low[None], high[None])
