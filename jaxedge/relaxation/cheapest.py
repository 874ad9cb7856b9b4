"""The least energy and the least delay that given rounds and batches need, with certificates."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxedge.methods.roots import bracketed_root
from jaxedge.program.design import Design
from jaxedge.program.objective import objective
from jaxedge.program.program import Program
from jaxedge.relaxation.chains import LOG_ZERO, TOLERANCE, chains_of, within

_LONGEST_LOG_DELAY = 20.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Cheapest:
    """The least energy within the delay at fixed rounds and batches, with its certificate."""

    design: Design
    energy: Array
    """() scaled; inf where even flat out the delay is too long."""
    delay: Array
    """() scaled."""
    lower_bound: Array
    """() no clocks and powers within the delay spend less energy."""
    fits: Array
    """() bool: both budgets are kept."""
    provably_not: Array
    """() bool: no clocks and powers keep both budgets."""
    steps: Array
    """() Newton steps taken."""


def _like(program: Program, numbers: tuple[ArrayLike, ...]) -> list[Array]:
    return [jnp.asarray(x, program.gap.dtype) for x in numbers]


def cheapest(
    program: Program,
    pretraining_rounds: ArrayLike,
    finetuning_rounds: ArrayLike,
    server_batch: ArrayLike,
    device_batch: ArrayLike,
) -> Cheapest:
    """Times per sample and exponents of least energy with delay <= 1, at given rounds and batches.

    Args:
        program: scalar program; batching is vmap.
        pretraining_rounds: () M >= 0, real or whole.
        finetuning_rounds: () N >= 0, real or whole.
        server_batch: () samples.
        device_batch: (K,) samples.

    Returns:
        The design and its certificate; the energy is inf where no energy would keep the delay,
        and the design then is flat out.
    """
    given = (pretraining_rounds, finetuning_rounds, server_batch, device_batch)
    m, n, server, device = _like(program, given)
    chains = chains_of(program, m, n, server, device)
    point = within(chains, n, jnp.ones_like(program.gap))
    limit = 1 + TOLERANCE
    design = Design(
        pretraining_rounds=m,
        finetuning_rounds=n,
        server_batch=server,
        server_sample_time=point.sample_time[-1],
        broadcast_exponent=point.exponent[-1],
        device_batch=device,
        device_sample_time=point.sample_time[:-1],
        upload_exponent=point.exponent[:-1],
        value=objective(program, m, n, server, device),
    )
    return Cheapest(
        design=design,
        energy=point.energy,
        delay=point.delay,
        lower_bound=point.lower_bound,
        fits=(point.energy <= limit) & (point.delay <= limit),
        provably_not=point.lower_bound > limit,
        steps=point.steps,
    )


def least_delay(
    program: Program,
    pretraining_rounds: ArrayLike,
    finetuning_rounds: ArrayLike,
    server_batch: ArrayLike,
    device_batch: ArrayLike,
) -> Array:
    """Shortest delay within which the given rounds and batches spend energy <= 1.

    Args:
        program: scalar program; batching is vmap.
        pretraining_rounds: () M >= 0.
        finetuning_rounds: () N >= 0.
        server_batch: () samples.
        device_batch: (K,) samples.

    Returns:
        () multiple of the delay budget; inf where no delay (up to e^20) would do.
    """
    given = (pretraining_rounds, finetuning_rounds, server_batch, device_batch)
    m, n, server, device = _like(program, given)
    chains = chains_of(program, m, n, server, device)
    _, fastest = chains.use(*chains.fastest())
    flat_out = n * jnp.max(fastest[:-1]) + fastest[-1]

    def log_energy(log_delay: Array, unused: None) -> tuple[Array, None]:
        point = within(chains, n, jnp.exp(log_delay))
        return jnp.log(jnp.maximum(point.energy, np.finfo(flat_out.dtype).tiny)), unused

    at_once = within(chains, n, flat_out).energy <= 1
    lower = jnp.log(jnp.maximum(flat_out, jnp.exp(LOG_ZERO)))
    longest = jnp.maximum(lower, _LONGEST_LOG_DELAY)
    lower = jnp.where(at_once, longest, lower)
    log_delay, _ = bracketed_root(log_energy, lower, longest, None, tolerance=TOLERANCE)
    never = within(chains, n, jnp.exp(longest)).energy > 1
    return jnp.where(at_once, flat_out, jnp.where(never, jnp.inf, jnp.exp(log_delay)))


def fewest(programs: Program) -> tuple[np.ndarray, ...]:
    """The fewest rounds M and N and the smallest batches: no design of a program needs less.

    Args:
        programs: one program or a batch, on the host.
    """
    rounds = programs.rounds
    tied = np.where(rounds.tied, rounds.min_pretraining, rounds.min_finetuning)
    point = rounds.min_pretraining, tied, programs.server.min_batch, programs.devices.min_batch
    return tuple(np.asarray(x) for x in point)


cheapest_of_each = jax.jit(jax.vmap(cheapest))
"""`cheapest` over a batch, compiled once for all who need it."""
