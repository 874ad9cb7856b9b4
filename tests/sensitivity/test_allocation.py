"""The derivative of the optimal design against differences of optima, in both modes."""

import jax
import numpy as np
import pytest

from jaxedge.planning.entry import plan_batch
from jaxedge.scenario.sampling import sample_batch
from jaxedge.sensitivity.allocation import optimal_allocation

COUNT, DEVICES, STEP = 8, 3, 1e-5


@jax.jit
@jax.vmap
def _slopes(scenario, direction, weights):
    """The design, its slope along a direction, and the gradient of a weighted sum of it."""
    design, forward = jax.linearize(optimal_allocation, scenario)
    reverse = jax.linear_transpose(forward, scenario)
    return design, forward(direction), reverse(weights)[0]


@pytest.fixture(scope="module")
def scenarios():
    """Sampled ones, with the default-like budgets among them."""
    return sample_batch(jax.random.key(11), COUNT, DEVICES, tightness=0.3)


def _along(tree, direction):
    """(B,) inner product of two trees of batches."""
    parts = jax.tree.map(lambda a, b: (a * b).reshape(COUNT, -1).sum(axis=1), tree, direction)
    return sum(jax.tree.leaves(parts))


@pytest.fixture(scope="module")
def slopes(scenarios):
    """Direction, weights, and what `_slopes` gives for them."""
    rng = np.random.default_rng(3)
    direction = jax.tree.map(lambda x: x * rng.normal(size=x.shape), scenarios)
    ones = jax.tree.map(
        lambda x: np.ones(x.shape), jax.eval_shape(jax.vmap(optimal_allocation), scenarios)
    )
    design, _, _ = _slopes(scenarios, direction, ones)
    weights = jax.tree.map(lambda x: rng.normal(size=x.shape) / x, design)
    return direction, weights, *_slopes(scenarios, direction, weights)


@pytest.mark.every_python
def test_the_design_is_that_of_the_planner(scenarios, slopes):
    answers = plan_batch(scenarios, relaxed=True, gap=1e-9)
    for ours, theirs in zip(
        jax.tree.leaves(slopes[2]), jax.tree.leaves(answers.allocation), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4)


def test_slopes_are_those_of_differences(scenarios, slopes):
    direction, weights, design, slope, _ = slopes
    sides = []
    for step in (STEP, -STEP):
        shifted = jax.tree.map(lambda x, d, h=step: x + h * d, scenarios, direction)
        sides.append(_slopes(shifted, direction, weights)[0])
    up, down = sides
    close = []
    for x, exact, high, low in zip(*map(jax.tree.leaves, (design, slope, up, down)), strict=True):
        differences = (high - low) / (2 * STEP)
        error = np.abs(differences - exact) / (np.abs(exact) + 1e-2 * np.abs(x))
        close.append(error.reshape(COUNT, -1).max(axis=1) <= 1e-5)
    # One of the scenarios may change an active limit within the step.
    assert np.all(close, axis=0).sum() >= COUNT - 1
    assert sum(np.abs(x).max() > 0 for x in jax.tree.leaves(slope)) >= 6


def test_forward_is_reverse(slopes):
    direction, weights, _, slope, gradient = slopes
    np.testing.assert_allclose(_along(slope, weights), _along(gradient, direction), rtol=1e-8)
