"""How many rounds either budget could allow, whatever the design."""

from __future__ import annotations

import numpy as np
from jax.typing import ArrayLike

from jaxedge.bounds.base import PRETRAINING
from jaxedge.program.program import Program


def most_rounds(program: Program, rounds: np.ndarray, outer: tuple[str, ...]) -> np.ndarray:
    """(d,) no design has more of the outer rounds, from a program on the host at ``rounds`` (d,).

    M rounds of the smallest batch b take at least M b tau_min, and within the whole delay at least
    M^3 b^3 work of energy.
    """
    server, devices = program.server, program.devices
    of_server = server.weight * server.min_batch * _least_sample(server.min_time, server.work)
    computing = devices.weight * devices.min_batch * _least_sample(devices.min_time, devices.work)
    uploads, broadcast = program.uploads, program.broadcast
    sending = np.max(uploads.nats / uploads.max_exponent) + broadcast.nats / broadcast.max_exponent
    spent = np.sum(uploads.joules) + broadcast.joules
    of_devices = max(float(np.max(computing)), float(sending), float(spent))
    each = [float(of_server) if name == PRETRAINING else of_devices for name in outer]
    # What costs nothing is not limited.
    return rounds * (1 + 1e-9) / np.maximum(each, 1e-100)


def _least_sample(min_time: ArrayLike, work: ArrayLike) -> np.ndarray:
    """Least share of either budget for a sample, cubed for the energy."""
    return np.maximum(np.asarray(min_time), np.cbrt(np.asarray(work)))
