"""Which programs have a design at all, and what budgets would do where none has."""

from __future__ import annotations

import jax
import numpy as np

from jaxedge.machine.chunks import in_chunks
from jaxedge.machine.trees import put, take
from jaxedge.program.design import Design
from jaxedge.program.program import Program
from jaxedge.relaxation.cheapest import cheapest_of_each, fewest, least_delay

_least_delay = jax.jit(jax.vmap(least_delay))


def feasibility(programs: Program) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which programs are not proven infeasible, and the least energy (J) and delay (s) of each."""
    point = fewest(programs)
    least = in_chunks(cheapest_of_each, programs, *point)
    feasible, delay = ~np.asarray(least.provably_not), np.full(len(least.fits), np.nan)
    short = np.flatnonzero(~feasible)
    if short.size:
        delay[short] = in_chunks(_least_delay, *take((programs, *point), short))
    return feasible, least.energy * programs.energy_unit, delay * programs.delay_unit


def with_least_energy(programs: Program, design: Design) -> Design:
    """The designs with clocks and powers of least energy within the delay, where that works out."""
    again = in_chunks(
        cheapest_of_each,
        programs,
        design.pretraining_rounds,
        design.finetuning_rounds,
        design.server_batch,
        design.device_batch,
    )
    fits = np.flatnonzero(again.fits & np.isfinite(design.value))
    return put(design, fits, take(again.design, fits))
