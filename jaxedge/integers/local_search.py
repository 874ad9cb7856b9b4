"""Integer rounds and batches: a certified lower bound, candidates, local moves, whole rounds.

With all batches fixed the rest of the program is as easy as the relaxation, so integer designs are
found by solving programs with fixed batches: candidates near the relaxed optimum and the integer
dual's own choice, then moves of one batch by one while they help. A move is solved only where the
Lagrangian at the current prices, a lower bound on what it can reach, promises a gain. Rounds are
made whole by fixing one stage's rounds at a neighbouring integer and flooring what the other stage
can still afford, which keeps every limit.
"""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.integers import dual as integer_dual
from jaxedge.machine.chunks import BatchLast, in_chunks
from jaxedge.machine.trees import put, take
from jaxedge.program.certificates import ray_values
from jaxedge.program.design import Design
from jaxedge.program.objective import objective
from jaxedge.program.program import Program, with_batches, with_rounds
from jaxedge.program.responses import Prices, respond
from jaxedge.relaxation.driver import NEWTON_ATTEMPTS, solve_relaxed
from jaxedge.relaxation.judge import Relaxed, relative_gap

_Tree = TypeVar("_Tree")
_MOVES = 4
"""Moves solved at a time: the most promising ones."""
_MAX_SWEEPS = 40
_CANDIDATE_GAP = 1e-5
"""Certified gap to which a candidate is solved before it is compared."""
_GAIN = 1e-9
"""Relative gain below which a move is not worth taking."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Batches:
    """Whole batches of the server () and the devices (K,)."""

    server: Array
    devices: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """Fixed batches with the judged optimum of the rest."""

    batches: Batches
    answer: Relaxed


def solve_batches(programs: Program, batches: Batches) -> Candidate:
    """Judged optima with the batches fixed."""
    fixed = with_batches(programs, batches.server, batches.devices)
    return Candidate(
        batches=batches, answer=solve_relaxed(fixed, gap=_CANDIDATE_GAP, attempts=NEWTON_ATTEMPTS)
    )


integer_prices = BatchLast(jax.jit(integer_dual.integer_prices))
"""Prices of the integer duals of a batch of programs, and their lower bounds."""


def _clip_batches(program: Program, server: Array, devices: Array) -> Batches:
    return Batches(
        server=jnp.clip(server, program.server.min_batch, program.server.max_batch),
        devices=jnp.clip(devices, program.devices.min_batch, program.devices.max_batch),
    )


@jax.jit
@jax.vmap
def first_candidates(program: Program, design: Design, prices: Prices) -> Batches:
    """(3, ...) nearest and lower integers of the relaxed batches, and the integer dual's choice."""
    dual = respond(program, prices, integer=True)
    options = [
        _clip_batches(program, jnp.round(design.server_batch), jnp.round(design.device_batch)),
        _clip_batches(program, jnp.floor(design.server_batch), jnp.floor(design.device_batch)),
        Batches(server=dual.server.batch, devices=dual.devices.batch),
    ]
    stacked: Batches = jax.tree.map(lambda *xs: jnp.stack(xs), *options)
    return stacked


@jax.jit
@jax.vmap
def promising_moves(program: Program, candidate: Candidate) -> tuple[Batches, Array]:
    """(_MOVES, ...) batches after the most promising moves by one, and whether each may help.

    At fixed prices the Lagrangian of the moved batches bounds from below what they can reach.
    """
    prices, batches = candidate.answer.prices, candidate.batches
    fixed = with_batches(program, batches.server, batches.devices)
    r = respond(fixed, prices)
    idle = program.gap - prices.energy - prices.time

    def change(variance: Array, price: Array, batch: Array, by: float) -> Array:
        moved = jnp.maximum(batch + by, 1.0)
        return variance * (1 / moved - 1 / batch) + price * (moved - batch)

    def price(variance: Array, cost: Array, batch: Array) -> Array:
        return (cost - variance / batch) / batch

    server_price = price(program.server.variance, r.server.cost, batches.server)
    device_price = price(program.devices.variance, r.devices.cost, batches.devices)
    reach, moved = [], []
    count = batches.devices.shape[0]
    for by in (1.0, -1.0):
        cost = change(program.server.variance, server_price, batches.server, by)
        server = batches.server + by
        inside = (server >= program.server.min_batch) & (server <= program.server.max_batch)
        values = ray_values(program, r.pretraining_cost + cost, r.finetuning_cost, idle)
        reach.append(jnp.where(inside, jnp.min(values), jnp.inf)[None])
        moved.append(jnp.concatenate([jnp.full((1,), by), jnp.zeros(count)])[None])
        costs = change(program.devices.variance, device_price, batches.devices, by)
        devices = batches.devices + by
        inside = (devices >= program.devices.min_batch) & (devices <= program.devices.max_batch)
        values = jax.vmap(
            lambda c: ray_values(program, r.pretraining_cost, r.finetuning_cost + c, idle)
        )(costs)
        reach.append(jnp.where(inside, jnp.min(values, axis=1), jnp.inf))
        moved.append(by * jnp.concatenate([jnp.zeros((count, 1)), jnp.eye(count)], axis=1))
    reached, steps = jnp.concatenate(reach), jnp.concatenate(moved)
    helps = reached < candidate.answer.design.value * (1 - _GAIN)
    order = jnp.argsort(reached)[: _MOVES - 1]
    together = jnp.sum(jnp.where(helps[:, None], steps, 0.0), axis=0, keepdims=True)
    chosen = jnp.concatenate([steps[order], together])
    helpful = jnp.concatenate([helps[order], jnp.any(helps)[None]])
    after = jax.vmap(
        lambda step: _clip_batches(program, batches.server + step[0], batches.devices + step[1:])
    )(chosen)
    return after, helpful


def spread(tree: _Tree, copies: int) -> _Tree:
    """Each element of a batch repeated ``copies`` times in a row."""
    spread: _Tree = jax.tree.map(lambda x: np.repeat(np.asarray(x), copies, axis=0), tree)
    return spread


def flat(tree: _Tree) -> _Tree:
    """(batch, candidates, ...) as one batch."""
    flat: _Tree = jax.tree.map(lambda x: np.reshape(x, (-1, *np.shape(x)[2:])), tree)
    return flat


def best_of(candidates: Candidate, copies: int) -> Candidate:
    """The best of every ``copies`` consecutive candidates."""
    values = np.reshape(candidates.answer.design.value, (-1, copies))
    index = np.argmin(values, axis=1) + copies * np.arange(len(values))
    return take(candidates, index)


def best_batches(programs: Program, relaxed: Relaxed, prices: Prices) -> Candidate:
    """Whole batches at which no single move by one helps, with real rounds.

    Args:
        programs: batch of programs.
        relaxed: their relaxed optima.
        prices: prices of their integer duals.
    """
    starts = in_chunks(first_candidates, programs, relaxed.design, prices)
    copies = 3
    best = best_of(solve_batches(spread(programs, copies), flat(starts)), copies)
    active = np.flatnonzero(np.isfinite(best.answer.design.value))
    for _ in range(_MAX_SWEEPS):
        if not active.size:
            break
        here, now = take(programs, active), take(best, active)
        moves, helpful = in_chunks(promising_moves, here, now)
        some = np.any(helpful, axis=1)
        active, here, now = active[some], take(here, some), take(now, some)
        if not active.size:
            break
        moved = solve_batches(spread(here, _MOVES), flat(take(moves, some)))
        moved = best_of(moved, _MOVES)
        gained = moved.answer.design.value < now.answer.design.value * (1 - _GAIN)
        active = active[gained]
        best = put(best, active, take(moved, np.flatnonzero(gained)))
    return best


@jax.jit
@jax.vmap
def neighbouring_rounds(program: Program, candidate: Candidate) -> Program:
    """(4, ...) programs with one stage's rounds fixed at an integer near the real optimum."""
    rounds, design = program.rounds, candidate.answer.design
    fixed = with_batches(program, candidate.batches.server, candidate.batches.devices)
    m, n = _whole(design.pretraining_rounds), _whole(design.finetuning_rounds)
    nudge, free = jnp.array([0.0, 1.0, 0.0, 1.0]), jnp.array([False, False, True, True])
    m = jnp.clip(m + nudge, rounds.min_pretraining, rounds.max_pretraining)
    n = jnp.clip(n + nudge, rounds.min_finetuning, rounds.max_finetuning)

    def narrowed(m: Array, n: Array, free_m: Array) -> Program:
        options = dataclasses.replace(
            rounds,
            min_pretraining=jnp.where(free_m, rounds.min_pretraining, m),
            max_pretraining=jnp.where(free_m, rounds.max_pretraining, m),
            min_finetuning=jnp.where(free_m, n, rounds.min_finetuning),
            max_finetuning=jnp.where(free_m, n, rounds.max_finetuning),
        )
        return with_rounds(fixed, options)

    return jax.vmap(narrowed)(m, n, free)


def _whole(rounds: Array) -> Array:
    """Rounds floored; what is whole up to rounding errors is whole."""
    return jnp.floor(rounds * (1 + 1e-12) + 1e-9)


@jax.jit
@jax.vmap
def floored(program: Program, design: Design) -> Design:
    """The design with its rounds floored, and its value.

    Fewer rounds with the same choices per round never spend more, so flooring stays feasible.
    """
    m, n = _whole(design.pretraining_rounds), _whole(design.finetuning_rounds)
    rounds = program.rounds
    n = jnp.where(rounds.tied, jnp.minimum(m, n), n)
    m = jnp.where(rounds.tied, n, m)
    legal = (m >= rounds.min_pretraining) & (n >= rounds.min_finetuning)
    value = objective(program, m, n, design.server_batch, design.device_batch)
    return dataclasses.replace(
        design,
        pretraining_rounds=m,
        finetuning_rounds=n,
        value=jnp.where(legal & jnp.isfinite(design.value), value, jnp.inf),
    )


def whole_rounds(programs: Program, candidate: Candidate) -> Design:
    """The best design with whole rounds around each candidate's real ones."""
    copies = 4
    narrowed = flat(in_chunks(neighbouring_rounds, programs, candidate))
    answer = solve_relaxed(narrowed, gap=_CANDIDATE_GAP, attempts=NEWTON_ATTEMPTS)
    options = in_chunks(floored, spread(programs, copies), answer.design)
    best = np.argmin(np.reshape(options.value, (-1, copies)), axis=1)
    return take(options, best + copies * np.arange(len(best)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Integer:
    """Judged whole answers to programs, with a leading batch axis."""

    design: Design
    """With whole rounds and batches; value inf where none was found."""
    prices: Prices
    """Of the integer dual."""
    lower_bound: Array
    """No whole design is below it."""

    @property
    def gap(self) -> np.ndarray:
        """(batch,) certified relative gap; inf where nothing is certified."""
        return np.asarray(relative_gap(np.asarray(self.design.value), np.asarray(self.lower_bound)))


def solve_integer(programs: Program, relaxed: Relaxed) -> Integer:
    """Integer designs and certified lower bounds for a batch of programs.

    Args:
        programs: batch of feasible programs.
        relaxed: their relaxed optima.

    """
    prices, bound = in_chunks(integer_prices, programs, relaxed.prices)
    candidate = best_batches(programs, relaxed, prices)
    return Integer(design=whole_rounds(programs, candidate), prices=prices, lower_bound=bound)
