"""Many runs side by side are the runs one by one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.training.data.samples import draw
from jaxedge.training.models.tasks import load_task
from jaxedge.training.rounds.many_rounds import advance
from jaxedge.training.runs.courses import course
from jaxedge.training.runs.many import train_many
from jaxedge.training.runs.runner import train
from jaxedge.training.runs.segments import Settings
from tests.short_runs import DEVICES, SPEC, design, scenario


def roomy(rate=0.1):
    """Batches may be as large as anyone's data."""
    found = scenario(rate)
    devices = dataclasses.replace(found.devices, max_batch=np.full(DEVICES, 500.0))
    return dataclasses.replace(found, devices=devices)


SCENARIO = roomy()
SEEDS = [3, 4]
EVERY = 5
NUMBERS = ("round", "loss", "accuracy", "gradient_norm_squared")
# Both stages, either alone, blocks cut short, batches of either stage the larger, all the data.
DESIGNS = [
    design(12, 7),
    design(0, 10, (9, 1, 2)),
    design(9, 0),
    design(5, 5, (225, 1, 3)),
]


@pytest.fixture(scope="module")
def task():
    return load_task(SPEC, DEVICES)


@pytest.fixture(scope="module")
def runs(task):
    return train_many(task, SCENARIO, DESIGNS, SEEDS, every=EVERY, lanes=3)


def alone(task, number, seed):
    settings = Settings(seed=seed, every=EVERY, segment=10, gradient_norm=True)
    return train(task, SCENARIO, course(SCENARIO, DESIGNS[number]), settings).rows


@pytest.mark.parametrize("number", range(len(DESIGNS)))
def test_every_run_is_the_run_alone(task, runs, number):
    rows = alone(task, number, SEEDS[number % 2])
    curve = runs.curves[number][number % 2]
    for name in NUMBERS:
        expected = np.array([row[name] for row in rows])
        np.testing.assert_allclose(curve[name], expected, rtol=2e-4, atol=1e-6)
    assert curve["fine_tuning"].tolist() == [row["stage"] == "fine-tuning" for row in rows]
    for name in NUMBERS[1:]:
        assert getattr(runs, name)[number, number % 2] == curve[name][-1]


def test_training_loss_is_that_of_the_devices_data(task, runs):
    """At the start it is the mean over each device's own samples, weighted; training lowers it."""
    losses = np.asarray(task.loss(task.weights, task.devices.x, task.devices.y))
    means = [part.mean() for part in np.split(losses, task.offsets[1:-1])]
    expected = np.asarray(SCENARIO.learning.device_weight) @ means
    assert runs.curves[0][0]["training_loss"][0] == pytest.approx(expected, rel=1e-5)
    last = [curve[0]["training_loss"][-1] for curve in runs.curves]
    np.testing.assert_array_equal(runs.training_loss[:, 0], last)
    assert (runs.training_loss < expected).all()


def test_seeds_differ_and_are_the_same_again(task, runs):
    again = train_many(task, SCENARIO, DESIGNS[:1], SEEDS[::-1], every=EVERY, lanes=3)
    np.testing.assert_allclose(again.loss[0], runs.loss[0, ::-1], rtol=1e-5)
    assert runs.loss[0, 0] != runs.loss[0, 1]


def test_averages_are_those_of_the_bounds(task, runs):
    """A measurement stands for the rounds up to the next: of the two-stage bound by rate."""
    learning = dataclasses.replace(SCENARIO.learning, device_learning_rate=0.03)
    own = dataclasses.replace(SCENARIO, learning=learning)
    found = train_many(task, own, [design(12, 7), design(9, 0)], [0], every=EVERY, lanes=3)
    first, second = (found.curves[p][0]["gradient_norm_squared"] for p in (0, 1))
    fine = 5 * first[3] + 2 * first[4]
    both = 0.1 * (5 * first[0] + 5 * first[1] + 2 * first[2]) + 0.03 * fine
    assert found.finetuning_average[0, 0] == pytest.approx(fine / 7)
    assert found.two_stage_average[0, 0] == pytest.approx(both / (12 * 0.1 + 7 * 0.03))
    assert found.two_stage_average[1, 0] == pytest.approx((5 * second[0] + 4 * second[1]) / 9)
    assert np.isnan(found.finetuning_average[1, 0])


def test_other_numbers_compile_nothing(task, runs):
    count = advance._cache_size()
    moved = dataclasses.replace(
        task, devices=dataclasses.replace(task.devices, x=0.9 * task.devices.x)
    )
    designs = [design(3, 30, (5, 1, 2)), design(0, 2), design(40, 2)]
    others = train_many(moved, roomy(0.07), designs, [9, 8, 7], every=EVERY, lanes=3)
    assert advance._cache_size() == count
    assert np.isfinite(others.loss).all()


def test_what_the_devices_do_not_train_stays(task, runs):
    leaves = jax.tree.leaves(task.weights)
    partly = dataclasses.replace(task, tuned=tuple(i == 0 for i in range(len(leaves))))
    found = train_many(partly, SCENARIO, DESIGNS[:1], SEEDS[:1], every=EVERY, lanes=3)
    assert found.loss[0, 0] == pytest.approx(alone(partly, 0, SEEDS[0])[-1]["loss"], rel=1e-5)
    assert abs(found.loss[0, 0] - runs.loss[0, 0]) > 1e-5


def test_a_run_that_diverges_does_not_touch_the_next_in_its_lane(task):
    def loss(weights, x, y):
        far = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(weights)) > limit
        return jnp.where(far, jnp.nan, task.loss(weights, x, y))

    limit = 1.1 * sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(task.weights))
    fragile = dataclasses.replace(task, loss=loss)
    designs = [design(0, 400), design(0, 2)]
    found = train_many(fragile, SCENARIO, designs, [0, 1, 2], every=EVERY, lanes=3)
    assert np.isnan(found.loss[0]).all()
    assert np.isfinite(found.loss[1]).all()


def test_draws_of_a_batch_do_not_depend_on_the_width(task):
    key = jax.random.key(0)
    narrow, _ = draw(task.device_samples, 1, 4, 4, key)
    wide, chosen = draw(task.device_samples, 1, 4, 48, key)
    np.testing.assert_array_equal(wide[:4], narrow)
    assert chosen.sum() == 4


@pytest.mark.parametrize(
    ("options", "designs", "message"),
    [
        ({"every": 0}, DESIGNS, r"^every = 0: must be a whole number >= 1$"),
        ({"lanes": 1.5}, DESIGNS, r"^lanes = 1\.5: must be a whole number >= 1$"),
        ({}, [design(2, 2), design(2, 1.5)], r"^design 1: .*finetuning_rounds = 1\.5"),
        ({}, [design(2, 2, (3, 1))], r"^design 0: .*2 devices and the scenario has 3"),
    ],
)
def test_what_cannot_be_run_is_named(task, options, designs, message):
    with pytest.raises(ValueError, match=message):
        train_many(task, SCENARIO, designs, [0], **options)


def test_more_samples_than_there_are_is_named(task):
    with pytest.raises(ValueError, match=r"^design 0: device 0: batch = 300 samples, but it has"):
        train_many(task, SCENARIO, [design(2, 2, (300, 1, 3))], [0])
