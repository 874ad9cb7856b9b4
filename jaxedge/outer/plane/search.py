"""The best rounds in the plane, with a certificate: descents, and grids of boxes at their prices.

At the prices of a local optimum the Lagrangian bounds every design from below; mostly its least
value over the whole plane is the local optimum's own, which is then proven best. Where it is not,
the least box says where to descend next.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.bounds.modes import Modes, coefficients
from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import put, select, take
from jaxedge.outer.plane.cover import Boxes, cover, refined
from jaxedge.outer.plane.descent import begin, descend, noise_per_round, prices_of, responses
from jaxedge.outer.plane.rounds import Plane, plane_of
from jaxedge.program.design import Design
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices

GAP = 1e-3
"""Certified relative gap at which no more descents are tried unless asked otherwise."""
DESCENTS = 4
"""Descents at most, each from where the least box of those before is."""
_START = 0.2
"""Share of the most rounds at which the first descent begins."""
_ELSEWHERE = ((0.9, 0.1), (0.02, 0.4))
"""Shares of the most rounds where more descents begin, if none of those before is proven best."""
_REFINEMENTS = 10
"""How often boxes are split at most after each descent."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaneSearched:
    """The best designs found, and their certificates."""

    design: Design
    """Of real rounds and batches; value in units of the loss, inf where nothing fits."""
    prices: Prices
    """Of the scaled budgets at the best local optimum: the loss falls by lam/E for each joule more
    and by nu/T for each second."""
    lower_bound: Array
    """() no design has a smaller loss."""
    doubtful: Array
    """(2,) rounds in the box of the least bound."""

    @property
    def gap(self) -> np.ndarray:
        """Certified relative gap; inf where nothing is certified."""
        value, bound = np.asarray(self.design.value), np.asarray(self.lower_bound)
        with np.errstate(invalid="ignore", divide="ignore"):
            gap = np.where(bound > 0, (value - bound) / bound, np.inf)
        return np.where(np.isfinite(gap), gap, np.inf)


class _Use(NamedTuple):
    pre: Array
    """(2,) energy and time of a pre-training round."""
    fine: Array
    """(2,) of a fine-tuning round."""


def design_at(
    program: Program, modes: Modes, plane: Plane, rounds: Array, prices: Prices
) -> Design:
    """Best responses near given rounds, and as many of these rounds as both budgets allow."""
    few = jnp.maximum(rounds, 1e-6)
    at = coefficients(modes, few[0], few[1])
    noise = noise_per_round(at.server, few[0]), noise_per_round(at.devices, few[1])
    server, devices, uploads, cast = responses(program, *noise, prices)
    slowest = jnp.max(devices.time + uploads.time) + cast.time
    energy = jnp.sum(devices.energy + uploads.energy) + cast.energy
    use = _Use(jnp.stack([server.energy, server.time]), jnp.stack([energy, slowest]))
    fitting = _cut(plane, rounds, use)
    fits = jnp.all(fitting[0] * use.pre + fitting[1] * use.fine <= 1 + 1e-12)
    loss = coefficients(modes, fitting[0], fitting[1]).value(1 / server.batch, 1 / devices.batch)
    return Design(
        pretraining_rounds=fitting[0],
        finetuning_rounds=fitting[1],
        server_batch=server.batch,
        server_sample_time=server.sample_time,
        broadcast_exponent=cast.exponent,
        device_batch=devices.batch,
        device_sample_time=devices.sample_time,
        upload_exponent=uploads.exponent,
        value=jnp.where(fits & jnp.isfinite(loss), loss, jnp.inf),
    )


def _cut(plane: Plane, rounds: Array, use: _Use) -> Array:
    """The farthest rounds on the way from the fewest to these that both budgets allow."""
    fewest = plane.low[0] * use.pre + plane.low[1] * use.fine
    spent = rounds[0] * use.pre + rounds[1] * use.fine
    more = spent - fewest
    room = jnp.where(more > 0, (1 - fewest) / jnp.where(more > 0, more, 1), jnp.inf)
    share = jnp.clip(jnp.min(room), 0, 1)
    return plane.low + share * (rounds - plane.low)


def _answer(design: Design, prices: Prices, boxes: Boxes) -> PlaneSearched:
    valid = (prices.energy >= 0) & jnp.all(prices.device_time >= 0) & jnp.isfinite(boxes.least)
    return PlaneSearched(
        design=design,
        prices=prices,
        lower_bound=jnp.where(valid, boxes.least, -jnp.inf),
        doubtful=(boxes.low[0] + boxes.high[0]) / 2,
    )


@jax.jit
@jax.vmap
def _solve(program: Program, modes: Modes, rounds: Array) -> tuple[PlaneSearched, Boxes]:
    plane = plane_of(program)
    path = descend(program, modes, plane, begin(program, jnp.clip(rounds, plane.low, plane.high)))
    prices = prices_of(path)
    design = design_at(program, modes, plane, path.rounds, prices)
    boxes = cover(program, modes, prices, path.rounds)
    return _answer(design, prices, boxes), boxes


@jax.jit
@jax.vmap
def _refine(
    program: Program, modes: Modes, found: PlaneSearched, boxes: Boxes
) -> tuple[PlaneSearched, Boxes]:
    finer = refined(program, modes, found.prices, boxes)
    return _answer(found.design, found.prices, finer), finer


_most = jax.jit(jax.vmap(lambda program: plane_of(program).high))


def search_plane(
    programs: Program,
    modes: Modes,
    *,
    gap: float = GAP,
    descents: int = DESCENTS,
    start: np.ndarray | None = None,
) -> PlaneSearched:
    """The best designs of a batch of feasible programs, real in rounds and batches.

    Args:
        programs: `plane_program` of each, with a leading batch axis.
        modes: of each loss, with a leading batch axis.
        gap: certified relative gap at which a search ends.
        descents: most of them for each.
        start: (B, 2) rounds where the first descents begin.

    Returns:
        The answers in the same order; their `gap` says which ones are certified.
    """
    given = (programs, modes)
    most = in_chunks(_most, programs)
    best = _certified(given, _START * most if start is None else start, gap)
    elsewhere = _ELSEWHERE if descents > 1 else ()
    for share in (*[None] * (descents - 1), *elsewhere):
        open_ = np.flatnonzero(best.gap > gap)
        if not open_.size:
            break
        rounds = best.doubtful[open_] if share is None else np.array(share) * most[open_]
        again = _certified(take(given, open_), rounds, gap)
        best = put(best, open_, _joined(take(best, open_), again))
    return best


def _certified(given: tuple[Program, Modes], rounds: np.ndarray, gap: float) -> PlaneSearched:
    """Local optima from these rounds, and their bounds over the plane, split where they miss."""
    found, boxes = in_chunks(_solve, *given, rounds)
    for _ in range(_REFINEMENTS):
        open_ = np.flatnonzero(found.gap > gap)
        if not open_.size:
            break
        finer = in_chunks(_refine, *take((*given, found, boxes), open_))
        found, boxes = put((found, boxes), open_, finer)
    return found


def _joined(before: PlaneSearched, after: PlaneSearched) -> PlaneSearched:
    """The better design and the better bound of each; doubts are the latest's."""
    better = np.asarray(after.design.value) < np.asarray(before.design.value)
    return dataclasses.replace(
        after,
        design=select(better, after.design, before.design),
        prices=select(better, after.prices, before.prices),
        lower_bound=np.maximum(after.lower_bound, before.lower_bound),
    )
