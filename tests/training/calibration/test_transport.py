"""Wasserstein distances of data sets: brackets of exact optima, and what they must obey."""

import dataclasses
import sys

import numpy as np
import pytest
from scipy.optimize import linprog

from jaxedge.training.calibration.transport import distance, transport_cost
from jaxedge.training.models.tasks import TaskSpec, load_task

pytest.importorskip("ott")
N, M = 12, 9


def drawn(seed):
    """Costs (N, M) and masses."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(N, 1, 2)), rng.normal(size=(1, M, 2)) + 0.5
    return np.linalg.norm(x - y, axis=-1), rng.dirichlet(np.ones(N)), rng.dirichlet(np.ones(M))


def exact(cost, a, b):
    """The linear program of optimal transport, as it stands."""
    rows = np.kron(np.eye(N), np.ones(M))
    columns = np.kron(np.ones(N), np.eye(M))
    found = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([a, b]))
    return found.fun


@pytest.mark.parametrize("seed", range(8))
def test_the_bracket_holds_the_exact_cost_and_is_narrow(seed):
    cost, a, b = drawn(seed)
    low, high = transport_cost(cost, a, b)
    optimum = exact(cost, a, b)
    assert low <= optimum * (1 + 1e-9)
    assert high >= optimum * (1 - 1e-9)
    assert high - low <= 0.05 * optimum


def test_the_bracket_holds_where_sinkhorn_fails(monkeypatch):
    cost, a, b = drawn(0)
    for bad in (np.nan, 0.0, 1.0):
        monkeypatch.setattr(
            "jaxedge.training.calibration.transport._sinkhorn",
            lambda *_, bad=bad: (np.full(N, bad), np.full((N, M), bad)),
        )
        low, high = transport_cost(cost, a, b)
        assert low <= exact(cost, a, b) <= high


@pytest.fixture(scope="module")
def digits():
    """Digits, turned at the devices."""
    return load_task(TaskSpec(model="logistic", strength=0.3), devices=3)


EVEN = np.full(3, 1 / 3)


def test_shifted_data_lie_farther_apart_than_chance_puts_them(digits):
    found = distance(digits, EVEN, samples=64)
    assert found.low > found.by_chance
    assert found.samples == (64, 64)
    # One law at both: the same samples for the devices as for the server.
    own = np.arange(len(digits.devices))
    alike = dataclasses.replace(digits, general=digits.devices.take(own))
    again = distance(alike, EVEN, samples=64)
    assert again.value == pytest.approx(again.by_chance, rel=0.15)


@pytest.mark.every_python
def test_a_shift_of_all_samples_is_its_length(digits):
    """W1 of x and x + c is |c| by the dual's linear potential, whatever labels may stay."""
    x = digits.devices.x[:64]
    there = dataclasses.replace(digits.devices, x=x, y=digits.devices.y[:64])
    moved = dataclasses.replace(there, x=x + np.float32(2))
    task = dataclasses.replace(
        digits, general=there, devices=moved, offsets=np.array([0, 16, 32, 64])
    )
    # Each sample of the same weight, so that every one may go to its own.
    found = distance(task, np.array([0.25, 0.25, 0.5]), samples=64)
    length = 2 * np.sqrt(x[0].size)
    assert found.low <= length * (1 + 1e-6)
    assert found.value >= length * (1 - 1e-6)
    assert found.value == pytest.approx(length, rel=0.01)


def test_labels_that_differ_cost_what_is_said(digits):
    """One image with labels 0 at the server and 1 at the devices."""
    x, y = np.zeros((64, 8, 8, 1), np.float32), np.zeros(64, np.int32)
    there = dataclasses.replace(digits.devices, x=x, y=y)
    other = dataclasses.replace(there, y=y + 1)
    task = dataclasses.replace(
        digits, general=there, devices=other, offsets=np.array([0, 16, 32, 64])
    )
    found = distance(task, EVEN, label_cost=0.7, samples=64)
    assert found.low == pytest.approx(0.7)
    assert found.value == pytest.approx(0.7)
    # Half of the weight at a device with the server's labels halves it.
    mixed = dataclasses.replace(
        task, devices=dataclasses.replace(other, y=np.repeat([0, 1], 32).astype(np.int32))
    )
    for weight, far in (((0.2, 0.3, 0.5), 0.5), ((0.4, 0.5, 0.1), 0.1)):
        found = distance(mixed, np.array(weight), label_cost=0.7, samples=64)
        assert found.low == pytest.approx(0.7 * far, rel=1e-6)
        assert found.value == pytest.approx(0.7 * far, rel=0.02)


def test_mistakes_are_named(digits, monkeypatch):
    with pytest.raises(ValueError, match=r"samples = 1: must be a whole number"):
        distance(digits, EVEN, samples=1)
    with pytest.raises(ValueError, match=r"label_cost = -1.0: must be a finite number >= 0"):
        distance(digits, EVEN, label_cost=-1.0)
    monkeypatch.setitem(sys.modules, "ott", None)
    with pytest.raises(ValueError, match=r"needs ott-jax, .*: pip install 'jaxedge\[transport\]'"):
        distance(digits, EVEN)
