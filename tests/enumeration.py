"""Every whole design of a tiny program, and the best of them that the budgets allow."""

import jax
import numpy as np

from jaxedge.relaxation.cheapest import cheapest


def _most_rounds(program, kind):
    """Rounds that the time allows flat out with batches of one, of either stage."""
    rounds = program.rounds
    pre = program.server.weight * program.server.min_time
    each = program.devices.min_time + program.uploads.nats / program.uploads.max_exponent
    fine = np.max(each) + program.broadcast.nats / program.broadcast.max_exponent
    least_m, least_n = float(rounds.min_pretraining), float(rounds.min_finetuning)
    most_m = least_m if kind == "fine-tuning" else np.floor((1 - least_n * fine) / pre)
    return np.arange(least_m, most_m + 1), np.arange(least_n, np.floor(1 / fine) + 1)


def designs(program, kind, largest_batch):
    """(count, K + 3) all whole rounds and batches that the time may allow."""
    m, n = _most_rounds(program, kind)
    pairs = np.stack(np.meshgrid(m, n, indexing="ij"), -1).reshape(-1, 2)
    if kind == "tied":
        pairs = pairs[pairs[:, 0] == pairs[:, 1]]
    shape = (largest_batch,) * (1 + np.size(program.devices.work))
    batches = 1.0 + np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), -1)
    return np.concatenate(
        [np.repeat(pairs, len(batches), axis=0), np.tile(batches, (len(pairs), 1))], axis=1
    )


def values(program, points):
    """(count,) the objective, by its definition."""
    m, n, b0, b = points[:, 0], points[:, 1], points[:, 2], points[:, 3:]
    rounds = program.rounds
    above = program.gap + m * (program.floor + program.server.variance / b0)
    above = above + n * np.sum(program.devices.variance[None] / b, axis=1)
    below = m * rounds.server_rate + n * rounds.device_rate
    return np.where(below > 0, above / np.where(below > 0, below, 1), np.inf)


_fits = jax.jit(jax.vmap(lambda p, x: cheapest(p, x[0], x[1], x[2], x[3:]).fits, (None, 0)))


def exact_optimum(program, points):
    """The least value whose cheapest clocks and powers fit; the best points are asked first."""
    value = values(program, points)
    order = np.argsort(value)
    for start in range(0, len(order), 1024):
        some = order[np.minimum(np.arange(start, start + 1024), len(order) - 1)]
        fitting = np.asarray(_fits(program, points[some]))
        if fitting.any():
            return value[some[np.argmax(fitting)]]
    return np.inf
