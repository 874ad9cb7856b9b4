"""Rounds of many runs side by side as one compiled program, whatever stage each run is in.

With one local step a device, a round of either stage is a step along one weighted gradient,

    w <- w - rate sum_j a_j grad l(w; sample_j),   a_j = 1/b0 at the server, w_k/b_k at device k,

of samples drawn as `stages` draws them. Rounds, batches and keys are numbers to the program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.machine.trees import select
from jaxedge.scenario.scenario import Learning
from jaxedge.training.data.samples import Loss, Samples, draw
from jaxedge.training.models.tasks import Task
from jaxedge.training.rounds import measuring


@dataclasses.dataclass(frozen=True, kw_only=True)
class Static:
    """All that the compiled program depends on besides the shapes of its arguments."""

    loss: Loss
    outputs: Callable[[Any, Array], Array]
    tuned: tuple[bool, ...]
    """Which leaves of the weights the devices train."""
    samples: int
    """Of a round at most."""
    width: int
    """Of one device in a round at most."""
    every: int
    """Rounds of a block."""

    @classmethod
    def of(cls, task: Task, **sizes: int) -> Static:
        """The program of a task; sizes are ``samples``, ``width`` and ``every``."""
        all_leaves = (True,) * len(jax.tree.leaves(task.weights))
        tuned = all_leaves if task.tuned is None else task.tuned
        return cls(loss=task.loss, outputs=task.outputs, tuned=tuned, **sizes)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Shared:
    """What all runs have in common."""

    start: Any
    """The weights to begin with."""
    server: Samples
    devices: Samples
    test: tuple[Array, Array]
    device_weight: Array
    """(K,) w_k."""
    rates: Array
    """(2,) eta0 and eta."""


def shared_of(task: Task, learning: Learning) -> Shared:
    """Data and weights of a task, rates and the devices' weights of a scenario."""
    rates = [np.asarray(learning.server_learning_rate), np.asarray(learning.device_learning_rate)]
    return Shared(
        start=task.weights,
        server=task.server_samples,
        devices=task.device_samples,
        test=(jnp.asarray(task.test.x), jnp.asarray(task.test.y)),
        device_weight=jnp.asarray(np.asarray(learning.device_weight), jnp.float32),
        rates=jnp.asarray(np.stack(rates), jnp.float32),
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """Rounds of one stage of one run; with leading axes, of many."""

    key: Array
    """() of the stage."""
    fine: Array
    """() bool: fine-tuning."""
    start: Array
    """() the first round within the stage."""
    rounds: Array
    """() at most `Static.every`; 0 of a lane without work."""
    batch: Array
    """(1 + K,) of the server and the devices, at least 1."""
    fresh: Array
    """() bool: the run begins here."""


def measure(static: Static, weights: Any, shared: Shared) -> dict[str, Array]:
    """() test ``loss`` and ``accuracy``, ``training_loss`` F of the devices and ``|grad F|^2``."""
    found = measuring.loss_and_accuracy(static.loss, static.outputs, weights, *shared.test)
    own, gradient = measuring.task_loss_and_gradient(
        static.loss, weights, shared.devices, shared.device_weight
    )
    norm = measuring.squared_norm(gradient)
    return {**found, "training_loss": own, "gradient_norm_squared": norm}


measure_alone = jax.jit(measure, static_argnums=0)


def _drawn(static: Static, shared: Shared, key: Array, block: Block) -> tuple[Array, Array, Array]:
    """(samples,) inputs and labels of one round, and their shares a_j, 0 of those left over."""
    server, devices, weight, batch = (
        shared.server,
        shared.devices,
        shared.device_weight,
        block.batch,
    )
    count = len(weight)
    one, chosen = draw(server, 0, batch[0], static.samples, key)
    keys = jax.vmap(lambda k: jax.random.fold_in(k, 0))(jax.random.split(key, count))
    each, _ = jax.vmap(lambda owner, size, own: draw(devices, owner, size, static.width, own))(
        jnp.arange(count), batch[1:], keys
    )
    # The devices' samples one after the other, without the room between them.
    ends, place = jnp.cumsum(batch[1:]), jnp.arange(static.samples)
    owner = jnp.minimum(jnp.searchsorted(ends, place, side="right"), count - 1)
    own_batch = batch[1 + owner]
    many = each[owner, jnp.clip(place - ends[owner] + own_batch, 0, static.width - 1)]
    share = jnp.where(
        block.fine,
        jnp.where(place < ends[-1], weight[owner] / own_batch, 0),
        jnp.where(chosen, 1 / batch[0], 0),
    )
    x = jnp.where(block.fine, devices.x[many], server.x[one])
    return x, jnp.where(block.fine, devices.y[many], server.y[one]), share


@partial(jax.jit, static_argnums=0)
def advance(static: Static, shared: Shared, lanes: Any, blocks: Block) -> tuple[Any, Any]:
    """Some blocks of all lanes, each followed by a measurement.

    Args:
        static: what it is compiled for.
        shared: of all runs.
        lanes: weights with a leading axis (lanes,).
        blocks: with leading axes (blocks, lanes).

    Returns:
        The weights after them, and (blocks, lanes) what `measure` finds after each.
    """

    def step(weights: Any, number: Array, block: Block) -> Any:
        key = jax.random.fold_in(block.key, block.start + number)
        x, y, share = _drawn(static, shared, key, block)

        def weighted(w: Any) -> Array:
            losses = static.loss(w, x, y)
            return jnp.sum(share.astype(losses.dtype) * losses)

        rate = shared.rates[block.fine.astype(int)]
        runs = number < block.rounds
        leaves, structure = jax.tree.flatten(weights)
        gradients = jax.tree.leaves(jax.grad(weighted)(weights))
        moved = [
            jnp.where(runs if tuned else runs & ~block.fine, w - rate.astype(w.dtype) * g, w)
            for w, g, tuned in zip(leaves, gradients, static.tuned, strict=True)
        ]
        return jax.tree.unflatten(structure, moved)

    def one(weights: Any, block: Block) -> tuple[Any, Any]:
        begun = select(block.fresh, shared.start, weights)
        end, _ = jax.lax.scan(
            lambda w, number: (step(w, number, block), None), begun, jnp.arange(static.every)
        )
        return end, measure(static, end, shared)

    return jax.lax.scan(jax.vmap(one), lanes, blocks)
