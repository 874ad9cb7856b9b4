"""Federated averaging over cohorts is the loop over users and batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.training.rounds.averaging import Epoch, average
from jaxedge.training.rounds.strategies import Strategy
from tests.training.rounds.test_stages import (
    RATE,
    SIZES,
    data,
    less,
    own,
    plain_gradient,
    softmax_loss,
    start,
)

assert data and start  # fixtures

COHORTS = np.array([[3, 1, 0], [2, 0, 1]])


@pytest.mark.parametrize("strategy", ["scan", "vmap", "sharded"])
def test_cohorts_are_averaged_by_their_samples_after_one_epoch_each(request, strategy):
    """Users of 5, 9, 2 and 7 samples in batches of 3: short steps, users done early."""
    shared, samples = request.getfixturevalue("start"), request.getfixturevalue("data")
    found = average(
        softmax_loss,
        shared,
        Epoch(data=samples, batch=3, most=9, rate=RATE),
        jnp.asarray(COHORTS),
        Strategy(strategy),
    )
    for cohort in COHORTS:
        new = {name: np.zeros_like(w) for name, w in shared.items()}
        for k in cohort:
            x, y = own(samples, k)
            mine = shared
            for at in range(0, len(y), 3):
                mine = less(mine, plain_gradient(mine, x[at : at + 3], y[at : at + 3]))
            share = SIZES[k] / SIZES[cohort].sum()
            new = {name: new[name] + share * mine[name] for name in new}
        shared = new
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), found, shared)


def test_pooling_is_no_averaging(request):
    shared, samples = request.getfixturevalue("start"), request.getfixturevalue("data")
    with pytest.raises(ValueError, match="strategy = 'pooled'"):
        average(
            softmax_loss,
            shared,
            Epoch(data=samples, batch=9, most=9, rate=RATE),
            jnp.asarray(COHORTS),
            Strategy("pooled"),
        )
