"""The bounds against the plain model, and against training whose course is known exactly.

The training is SGD on a quadratic F with known curvatures, where a linear tilt of the loss makes
the stages differ by exactly d2 and the gradient noise is white and additive. Mean and variance of
every coordinate then follow a recursion, so E‖∇F(w_t)‖² is known without sampling.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.bounds.base import Fraction
from jaxedge.bounds.fine_tuning import FineTuning, fine_tuning_bound
from jaxedge.bounds.registry import BOUNDS, bound_named
from jaxedge.bounds.two_stage import TwoStage, two_stage_bound
from jaxedge.planning.entry import plan
from jaxedge.scenario.presets import get
from jaxedge.scenario.scenario import Learning, Scenario, Spectrum
from jaxedge.scenario.validation import validate
from jaxedge.sensitivity import analyse, both_sides, elasticities, value_and_grad
from jaxedge.system.allocation import Allocation, StageAllocation
from tests import plain_model
from tests.plain_model import plain
from tests.random_cases import random_case, random_scenario


@pytest.mark.parametrize("name", plain_model.BOUNDS)
def test_agrees_with_the_plain_model(name):
    for seed in range(40):
        scenario, allocation = random_case(seed)
        expected = plain_model.BOUNDS[name](plain(scenario), plain(allocation))
        np.testing.assert_allclose(BOUNDS[name].value(scenario, allocation), expected, rtol=1e-11)


@pytest.mark.parametrize("bound", [TwoStage(), FineTuning()])
def test_an_average_needs_a_round(bound):
    scenario = dataclasses.replace(
        random_scenario(np.random.default_rng(1), 2),
        min_pretraining_rounds=0.0,
        min_finetuning_rounds=0.0,
    )
    with pytest.raises(ValueError, match="min_finetuning_rounds = 0 round: an average over rounds"):
        bound.check(scenario)
    bound.check(dataclasses.replace(scenario, min_finetuning_rounds=1.0))


# --- exact training ---------------------------------------------------------------------------


@dataclasses.dataclass
class Quadratic:
    """F(w) = sum h w²/2 from ``start``; pre-training sees F + tilt·w."""

    curvature: np.ndarray
    start: np.ndarray
    tilt: np.ndarray

    @property
    def gap(self) -> float:
        return float(np.sum(self.curvature * self.start**2) / 2)

    def course(self, rates, tilts, variances) -> np.ndarray:
        """E‖∇F(w_t)‖² before each step, with white noise of the given total variances."""
        mean, variance = self.start, np.zeros_like(self.start)
        squares = []
        for rate, tilt, noise in zip(rates, tilts, variances, strict=True):
            squares.append(np.sum(self.curvature**2 * (mean**2 + variance)))
            shrink = 1 - rate * self.curvature
            mean = shrink * mean - rate * tilt
            variance = shrink**2 * variance + rate**2 * noise / len(mean)
        return np.asarray(squares)


def measured(problem: Quadratic, learning: Learning, allocation: Allocation) -> dict[str, float]:
    """The left-hand sides of both bounds."""
    first, second = int(allocation.pretraining_rounds), int(allocation.finetuning_rounds)
    rates = np.repeat(
        [learning.server_learning_rate, learning.device_learning_rate], [first, second]
    )
    server_noise = learning.server_variance / allocation.server.batch
    parts = np.square(learning.device_weight) * learning.device_variance / allocation.devices.batch
    noises = np.repeat([server_noise, np.sum(parts)], [first, second])
    tilts = [problem.tilt] * first + [np.zeros_like(problem.tilt)] * second
    squares = problem.course(rates, tilts, noises)
    fine = np.mean(squares[first:]) if second else math.nan
    return {"two-stage": np.sum(rates * squares) / np.sum(rates), "fine-tuning": fine}


def learning_of(problem: Quadratic, **fields) -> Learning:
    """The exactly known constants of a quadratic, with learning rates and noise to be given."""
    return Learning(
        initial_gap=problem.gap,
        smoothness=float(np.max(problem.curvature)),
        discrepancy=float(np.sum(problem.tilt**2)),
        pl_constant=float(np.min(problem.curvature)),
        **fields,
    )


def design(first: int, second: int, server_batch, device_batch) -> Allocation:
    return Allocation(
        pretraining_rounds=first,
        finetuning_rounds=second,
        server=StageAllocation(batch=server_batch, clock=1e9, power=1.0),
        devices=StageAllocation(batch=device_batch, clock=1e9, power=1.0),
    )


def with_learning(learning: Learning) -> Scenario:
    """Any scenario around these constants: the bounds see only the learning part."""
    return dataclasses.replace(random_scenario(np.random.default_rng(0), 1), learning=learning)


def random_training(rng: np.random.Generator):
    size, count = rng.integers(1, 6), rng.integers(1, 6)
    curvature = np.exp(rng.uniform(-3, 1.5, size))
    problem = Quadratic(
        curvature,
        start=rng.standard_normal(size) * rng.choice([0.0, 0.1, 1.0, 5.0]),
        tilt=rng.standard_normal(size) * rng.choice([0.0, 0.1, 1.0]),
    )
    most = 1 / np.max(curvature)
    learning = learning_of(
        problem,
        server_learning_rate=most * rng.choice([0.05, 0.5, 1.0]),
        device_learning_rate=most * rng.choice([0.05, 0.5, 1.0]),
        server_variance=rng.choice([0.0, 1.0, 20.0]),
        device_variance=rng.uniform(0, 20, count) * rng.choice([0.0, 1.0]),
        device_weight=rng.dirichlet(np.ones(count)),
    )
    rounds = [int(rng.choice([0, 1, 5, 60])), int(rng.choice([1, 5, 60]))]
    return problem, learning, design(*rounds, rng.integers(1, 9), rng.integers(1, 9, count))


@pytest.mark.parametrize("name", ["two-stage", "fine-tuning"])
def test_exact_training_stays_under_the_bound(name):
    closest = 0.0
    for seed in range(200):
        problem, learning, allocation = random_training(np.random.default_rng(seed))
        found = measured(problem, learning, allocation)[name]
        bound = float(BOUNDS[name].value(with_learning(learning), allocation))
        assert found <= bound * (1 + 1e-12) + 1e-15, (seed, found, bound)
        closest = max(closest, found / max(bound, 1e-300))
    assert closest > 0.5  # The test would notice a bound that had lost half of itself.


LONG = 4000


def still(curvature: float, *, start: float = 0.0, tilt: float = 0.0) -> Quadratic:
    return Quadratic(np.array([curvature]), np.array([start]), np.array([tilt]))


def quiet(problem: Quadratic, **fields) -> Learning:
    """Learning rates 1/L and no noise, except what ``fields`` say."""
    rate = 1 / float(np.max(problem.curvature))
    defaults = {
        "server_learning_rate": rate,
        "device_learning_rate": rate,
        "server_variance": 0.0,
        "device_variance": np.zeros(2),
        "device_weight": np.array([0.25, 0.75]),
    }
    return learning_of(problem, **(defaults | fields))


# Each case makes one term of the bound all there is, and the training attain it: the bound less
# 2 % of that term is no bound. (problem, learning fields, design, the term's field)
PAIR = np.array([1.0, 1.0])
TIGHT = {
    ("two-stage", "initial_gap, pre-training"): (still(2.0, start=1.0), {}, (1, 0)),
    ("two-stage", "initial_gap, fine-tuning"): (still(2.0, start=1.0), {}, (0, 1)),
    ("two-stage", "discrepancy"): (still(2.0, tilt=0.3), {}, (LONG, 0)),
    ("two-stage", "server_variance"): (still(2.0), {"server_variance": 3.0}, (LONG, 0)),
    ("two-stage", "device_variance, equal"): (still(2.0), {"device_variance": PAIR}, (0, LONG)),
    ("two-stage", "device_variance, one"): (
        still(2.0),
        {"device_variance": np.array([0.0, 5.0])},
        (0, LONG),
    ),
    ("fine-tuning", "initial_gap"): (still(2.0, start=1.0), {}, (0, 1)),
    ("fine-tuning", "initial_gap, slowly kept"): (
        still(2.0, start=1.0),
        {"server_learning_rate": 1e-3},
        (3, 1),
    ),
    ("fine-tuning", "discrepancy"): (still(2.0, tilt=0.3), {}, (LONG, 1)),
    ("fine-tuning", "server_variance"): (still(2.0), {"server_variance": 3.0}, (LONG, 1)),
    ("fine-tuning", "device_variance"): (still(2.0), {"device_variance": PAIR}, (0, LONG)),
}


@pytest.mark.parametrize(("case", "setting"), TIGHT.items(), ids=[" ".join(c) for c in TIGHT])
def test_no_term_can_be_smaller(case, setting):
    problem, fields, rounds = setting
    learning = quiet(problem, **fields)
    allocation = design(*rounds, 4, np.array([2.0, 3.0]))
    field = case[1].split(",")[0]
    found = measured(problem, learning, allocation)[case[0]]
    whole = BOUNDS[case[0]].value(with_learning(learning), allocation)
    less = dataclasses.replace(learning, **{field: 0.98 * np.asarray(getattr(learning, field))})
    removed = dataclasses.replace(learning, **{field: 0.0 * np.asarray(getattr(learning, field))})
    assert found <= whole * (1 + 1e-12)
    assert found > BOUNDS[case[0]].value(with_learning(less), allocation)
    assert found > BOUNDS[case[0]].value(with_learning(removed), allocation)


def test_learning_rate_above_one_over_smoothness_breaks_the_bound():
    problem = still(2.0, start=1.0)
    learning = quiet(problem, device_learning_rate=0.99)
    allocation = design(0, 50, 1, 1)
    found = measured(problem, learning, allocation)["two-stage"]
    assert found > two_stage_bound(with_learning(learning), allocation)


# --- limits, derivatives, names ---------------------------------------------------------------


def test_limits_in_closed_form():
    scenario, allocation = random_case(2, 5)
    learning = scenario.learning
    eta0, eta = learning.server_learning_rate, learning.device_learning_rate
    huge = dataclasses.replace(
        allocation,
        server=dataclasses.replace(allocation.server, batch=1e300),
        devices=dataclasses.replace(allocation.devices, batch=jnp.full(5, 1e300)),
    )
    same_data = dataclasses.replace(
        scenario, learning=dataclasses.replace(learning, discrepancy=0.0)
    )
    weight = huge.pretraining_rounds * eta0 + huge.finetuning_rounds * eta
    np.testing.assert_allclose(two_stage_bound(same_data, huge), 2 * learning.initial_gap / weight)
    kept = (1 - learning.pl_constant * eta0) ** huge.pretraining_rounds
    expected = 2 * kept * learning.initial_gap / (eta * huge.finetuning_rounds)
    np.testing.assert_allclose(fine_tuning_bound(same_data, huge), expected, rtol=1e-9)


def test_without_pretraining_the_two_bounds_are_one():
    scenario, allocation = random_case(2)
    allocation = dataclasses.replace(allocation, pretraining_rounds=jnp.asarray(0.0))
    np.testing.assert_allclose(
        fine_tuning_bound(scenario, allocation), two_stage_bound(scenario, allocation), rtol=1e-13
    )


def test_many_rounds_of_pretraining_reach_the_floor_of_the_discrepancy():
    scenario, allocation = random_case(2)
    learning = scenario.learning
    allocation = dataclasses.replace(allocation, pretraining_rounds=jnp.asarray(1e9))
    noise = learning.smoothness * learning.server_learning_rate * learning.server_variance
    floor = (learning.discrepancy + noise / allocation.server.batch) / (2 * learning.pl_constant)
    without = dataclasses.replace(
        scenario, learning=dataclasses.replace(learning, initial_gap=floor)
    )
    np.testing.assert_allclose(
        fine_tuning_bound(scenario, allocation), fine_tuning_bound(without, allocation)
    )


@pytest.mark.parametrize("contraction", [1.0, 0.5, 1e-12])
def test_decay_is_finite_and_accurate_at_its_ends(contraction):
    scenario, allocation = random_case(2)
    learning = dataclasses.replace(
        scenario.learning, server_learning_rate=1.0, pl_constant=contraction, smoothness=1.0
    )
    scenario = dataclasses.replace(scenario, learning=learning)
    for rounds in (0.0, 1.0, 3.0):
        design_ = dataclasses.replace(allocation, pretraining_rounds=jnp.asarray(rounds))
        value, gradient = jax.value_and_grad(fine_tuning_bound, argnums=1)(scenario, design_)
        lost = 1.0 - (1 - contraction) ** rounds if contraction > 1e-9 else rounds * contraction
        noise = learning.server_variance / design_.server.batch
        gap = (1 - lost) * learning.initial_gap + lost * (learning.discrepancy + noise) / (
            2 * contraction
        )
        start = dataclasses.replace(learning, initial_gap=gap)
        without = dataclasses.replace(design_, pretraining_rounds=jnp.asarray(0.0))
        expected = fine_tuning_bound(dataclasses.replace(scenario, learning=start), without)
        np.testing.assert_allclose(value, expected, rtol=1e-10)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_no_rounds_give_infinity():
    scenario, allocation = random_case(2)
    none = dataclasses.replace(allocation, finetuning_rounds=jnp.asarray(0.0))
    assert jnp.isposinf(fine_tuning_bound(scenario, none))
    assert jnp.isfinite(two_stage_bound(scenario, none))
    neither = dataclasses.replace(none, pretraining_rounds=jnp.asarray(0.0))
    assert jnp.isposinf(two_stage_bound(scenario, neither))
    # Even where there is nothing to learn, and without a derivative that is no number.
    value, slopes = jax.value_and_grad(lambda *parts: Fraction(*parts).value, (0, 1))(0.0, 0.0)
    assert jnp.isposinf(value)
    assert slopes == (0.0, 0.0)


def case_with_spectrum(seed, count=None):
    """A random case whose task has three modes, as the end loss needs it."""
    scenario, allocation = random_case(seed) if count is None else random_case(seed, count)
    learning, rng = scenario.learning, np.random.default_rng(seed)
    start, shift = jnp.asarray(rng.uniform(0.1, 1, (2, 3)))
    fastest = 1 / max(float(learning.server_learning_rate), float(learning.device_learning_rate))
    spectrum = Spectrum(
        curvature=jnp.asarray([1e-3, 0.05, 0.9]) * fastest,
        start=start,
        cross=0.5 * jnp.sqrt(start * shift),
        shift=shift,
        server_noise=jnp.asarray(rng.uniform(1, 9, 3)),
        device_noise=jnp.asarray(rng.uniform(1, 9, (np.size(learning.device_weight), 3))),
        floor=jnp.asarray(0.1),
        warmup=jnp.asarray(0.0),
    )
    learning = dataclasses.replace(learning, spectrum=spectrum)
    return dataclasses.replace(scenario, learning=learning), allocation


@pytest.mark.parametrize("name", BOUNDS)
def test_gradients_agree_with_central_differences(name):
    for seed in range(6):
        scenario, allocation = case_with_spectrum(seed)
        inputs = (scenario.learning, allocation)

        def value(learning, design_, scenario=scenario):
            return BOUNDS[name].value(dataclasses.replace(scenario, learning=learning), design_)

        gradient = jax.grad(value, argnums=(0, 1))(*inputs)
        rng = np.random.default_rng(seed)
        step = jax.tree.map(lambda x, r=rng: 1e-5 * r.standard_normal(np.shape(x)) * x, inputs)
        up = value(*jax.tree.map(jnp.add, inputs, step))
        down = value(*jax.tree.map(jnp.subtract, inputs, step))
        slopes = jax.tree.leaves(jax.tree.map(lambda g, s: jnp.sum(g * s), gradient, step))
        assert abs((up - down) / 2 - sum(slopes)) <= 1e-6 * sum(map(abs, slopes))


@pytest.mark.parametrize("name", BOUNDS)
def test_dtype_follows_the_input_and_vmap_the_loop(name):
    cases = [case_with_spectrum(seed, 5) for seed in range(4)]
    cases = [
        (dataclasses.replace(s, devices=dataclasses.replace(s.devices, downlink_gain=None)), a)
        for s, a in cases
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *cases)
    looped = [BOUNDS[name].value(*case) for case in cases]
    np.testing.assert_allclose(jax.vmap(BOUNDS[name].value)(*stacked), looped, rtol=1e-13)
    single = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), cases[0])
    assert BOUNDS[name].value(*single).dtype == jnp.float32
    np.testing.assert_allclose(BOUNDS[name].value(*single), looped[0], rtol=1e-4)


def test_names():
    assert bound_named("two-stage") == TwoStage()
    assert bound_named("fine-tuning") == FineTuning()
    for near in ("fine_tuning", "finetuning", "Fine-Tune", "tuning"):
        with pytest.raises(ValueError, match="did you mean 'fine-tuning'"):
            bound_named(near)
    with pytest.raises(ValueError, match=r"must be one of two-stage, fine-tuning, "):
        bound_named("xyz")
    with pytest.raises(ValueError, match=r"bound is None, but must be one of"):
        bound_named(None)  # as a file may have it


@pytest.mark.parametrize("function", [plan, value_and_grad, elasticities, both_sides, analyse])
def test_a_misspelt_bound_is_refused_wherever_it_is_named(function):
    with pytest.raises(ValueError, match="did you mean 'fine-tuning'"):
        function(validate(get("small")), bound="fine_tuning")


def test_the_fine_tuning_bound_asks_for_the_pl_constant():
    scenario, allocation = random_case(2)
    learning = dataclasses.replace(scenario.learning, pl_constant=None)
    with pytest.raises(ValueError, match=r"learning\.pl_constant is missing"):
        fine_tuning_bound(dataclasses.replace(scenario, learning=learning), allocation)
