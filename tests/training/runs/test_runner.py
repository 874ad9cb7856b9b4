"""A course is run as the stages say, cut anywhere, measured truly, stopped where it diverges."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.training.models.tasks import load_task
from jaxedge.training.rounds import measuring
from jaxedge.training.rounds.stages import Span, Stage, finetune, pretrain
from jaxedge.training.runs import checkpoints
from jaxedge.training.runs.courses import course
from jaxedge.training.runs.runner import Diverged, train
from jaxedge.training.runs.segments import Settings, usual_every
from tests.short_runs import DEVICES, SPEC, design, scenario

SCENARIO = scenario()
SETTINGS = Settings(every=5, segment=10, gradient_norm=True, seed=3)


class Kept:
    """Keeps everything in memory."""

    def __init__(self):
        self.all_rows, self.checkpoints = [], []

    def rows(self, rows):
        self.all_rows += rows

    def checkpoint(self, checkpoint):
        self.checkpoints.append(checkpoint)


@pytest.fixture(scope="module")
def task():
    return load_task(SPEC, DEVICES)


@pytest.fixture(scope="module")
def whole(task):
    kept = Kept()
    return train(task, SCENARIO, course(SCENARIO, design()), SETTINGS, keeper=kept), kept


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def devices_of(task):
    """The second stage of the design."""
    return Stage(
        data=task.device_samples,
        weights=jnp.full(DEVICES, 1 / DEVICES),
        batch=jnp.array([3, 1, 4]),
        width=4,
        rate=0.1,
        key=jax.random.fold_in(jax.random.key(SETTINGS.seed), 2),
    )


@pytest.mark.every_python
def test_a_run_is_both_stages_one_after_the_other(task, whole):
    """Called directly, without segments."""
    key = jax.random.fold_in(jax.random.key(SETTINGS.seed), 1)
    server = Stage(data=task.server_samples, batch=jnp.array([8]), width=8, rate=0.1, key=key)
    weights, _ = pretrain(task.loss, task.weights, server, Span(end=25, length=25))
    weights, _ = finetune(task.loss, weights, devices_of(task), Span(end=35, length=35))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), whole[0].weights, weights
    )


def test_measurements_are_where_they_are_said_to_be(task, whole):
    trained, kept = whole
    assert trained.rows == kept.all_rows
    rounds = [row["round"] for row in trained.rows]
    assert rounds == [0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60]
    assert [row["stage"] for row in trained.rows[::5]] == ["start", "pre-training", "fine-tuning"]
    book = course(SCENARIO, design()).ledger
    for row in trained.rows:
        spent = book.first(row["round"]).spent
        assert (row["energy"], row["delay"]) == pytest.approx(spent, rel=1e-12)
    last = trained.rows[-1]
    logits = task.outputs(trained.weights, jnp.asarray(task.test.x))
    right = np.asarray(logits).argmax(axis=1) == task.test.y
    assert last["accuracy"] == pytest.approx(right.mean(), rel=1e-6)
    losses = task.loss(trained.weights, jnp.asarray(task.test.x), jnp.asarray(task.test.y))
    assert last["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert last["accuracy"] > trained.rows[0]["accuracy"] + 0.2


def test_the_gradients_norm_is_that_of_the_devices_weighted_losses(task, whole):
    def objective(weights):
        parts = [
            task.loss(
                weights,
                jnp.asarray(task.devices.x[task.offsets[k] : task.offsets[k + 1]]),
                jnp.asarray(task.devices.y[task.offsets[k] : task.offsets[k + 1]]),
            ).mean()
            for k in range(DEVICES)
        ]
        return jnp.dot(jnp.array([0.5, 0.3, 0.2]), jnp.stack(parts))

    expected = jax.grad(objective)(whole[0].weights)
    share = jnp.array([0.5, 0.3, 0.2])
    found = measuring.task_gradient(task.loss, whole[0].weights, task.device_samples, share)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)
    norm = sum(float((np.asarray(leaf, float) ** 2).sum()) for leaf in jax.tree.leaves(expected))
    assert float(measuring.squared_norm(expected)) == pytest.approx(norm, rel=1e-5)
    assert whole[0].rows[-1]["gradient_norm_squared"] < whole[0].rows[0]["gradient_norm_squared"]


def test_many_samples_are_measured_in_chunks(task, whole, monkeypatch):
    monkeypatch.setattr(measuring, "_CHUNK", 100)
    x, y = jnp.asarray(task.test.x), jnp.asarray(task.test.y)
    found = measuring.loss_and_accuracy(task.loss, task.outputs, whole[0].weights, x, y)
    assert len(y) % 100
    assert float(found["loss"]) == pytest.approx(whole[0].rows[-1]["loss"], rel=1e-5)
    assert float(found["accuracy"]) == pytest.approx(whole[0].rows[-1]["accuracy"], rel=1e-6)


@pytest.mark.parametrize("at", [2, 4])
def test_a_run_that_goes_on_is_the_run_that_was_never_interrupted(task, whole, at):
    """From a checkpoint in either stage."""
    trained, kept = whole
    begin = kept.checkpoints[at]
    assert begin.rounds == {2: 20, 4: 35}[at]
    rest = train(task, SCENARIO, course(SCENARIO, design()), SETTINGS, begin=begin)
    same(rest.weights, trained.weights)
    assert rest.rows == [row for row in trained.rows if row["round"] > begin.rounds]


def test_where_segments_are_cut_changes_nothing(task, whole):
    cut = dataclasses.replace(SETTINGS, segment=15)
    found = train(task, SCENARIO, course(SCENARIO, design()), cut)
    same(found.weights, whole[0].weights)
    assert found.rows == whole[0].rows


def test_a_finished_run_has_nothing_left_to_do(task, whole):
    end = checkpoints.Checkpoint(rounds=60, weights=whole[0].weights)
    found = train(task, SCENARIO, course(SCENARIO, design()), SETTINGS, begin=end)
    assert not found.rows
    same(found.weights, end.weights)


def test_a_planned_rest_runs_under_its_own_batches(task):
    """Legs of the same design, cut in two, are the same run."""
    one = course(SCENARIO, design())
    fine = one.legs[1]
    legs = (
        one.legs[0],
        dataclasses.replace(fine, rounds=12),
        dataclasses.replace(fine, start=12, rounds=23),
    )
    two = dataclasses.replace(one, legs=legs)
    found = train(task, SCENARIO, two, SETTINGS)
    same(found.weights, train(task, SCENARIO, one, SETTINGS).weights)
    other = dataclasses.replace(legs[2], design=design(batch=(4, 4, 4)))
    differs = train(task, SCENARIO, dataclasses.replace(one, legs=(*legs[:2], other)), SETTINGS)
    with pytest.raises(AssertionError):
        same(differs.weights, found.weights)


def test_divergence_stops_the_run_and_says_which_round(task):
    """An infinite pixel, planted behind the checks, that a batch draws at some time."""
    x = task.devices.x.copy()
    x[task.offsets[1] : task.offsets[1] + 20] = np.inf
    broken = dataclasses.replace(task, devices=dataclasses.replace(task.devices, x=x))
    span = Span(end=35, length=36)
    _, finite = finetune(
        task.loss, task.weights, devices_of(broken), span, observe=measuring.all_finite
    )
    number = 25 + int(np.argmin(finite))
    assert not finite.all()
    kept = Kept()
    with pytest.raises(Diverged, match=rf"in round {number} of 60: ") as told:
        settings = dataclasses.replace(SETTINGS, gradient_norm=False)
        train(broken, SCENARIO, course(SCENARIO, design()), settings, keeper=kept)
    last = kept.checkpoints[-1]
    assert f"checkpoint is of round {last.rounds}:" in str(told.value)
    assert last.rounds < number <= last.rounds + SETTINGS.segment
    assert measuring.all_finite(last.weights)
    assert number - SETTINGS.every <= kept.all_rows[-1]["round"] < number


def test_what_the_devices_do_not_train_stays(task):
    """The kernel is frozen in fine-tuning: the bias moves as if it were the only weight."""
    biases = tuple("bias" in name for name in checkpoints.named_leaves(task.weights))
    some = dataclasses.replace(task, tuned=biases)
    run = course(SCENARIO, design(0, 35))
    found = train(some, SCENARIO, run, SETTINGS).weights
    (before,), (after,) = some.tuned_of(task.weights), some.tuned_of(found)
    assert not np.array_equal(before, after)
    same(some.with_tuned(found, [before]), task.weights)
    expected, _ = finetune(
        lambda bias, x, y: task.loss(some.with_tuned(task.weights, [bias]), x, y),
        before,
        devices_of(task),
        Span(end=35, length=35),
    )
    np.testing.assert_allclose(after, expected, atol=1e-6)


@pytest.mark.parametrize("owner", ["server", "device 1"])
def test_a_batch_larger_than_its_owners_data_is_refused(task, owner):
    if owner == "server":
        general = task.general.take(np.arange(5))
        small, said = dataclasses.replace(task, general=general), "server: batch = 8 .* has 5"
    else:
        few = np.r_[0 : task.offsets[1] + 1, task.offsets[2] : len(task.devices)]
        offsets = task.offsets - np.array([0, 0, *[task.sizes[1] - 1] * 2])
        small = dataclasses.replace(task, devices=task.devices.take(few), offsets=offsets)
        said = "device 1: batch = 2 samples, but it has 1"
    run = course(SCENARIO, design(batch=(3, 2, 4)))
    with pytest.raises(ValueError, match=said):
        train(small, SCENARIO, run, SETTINGS)


def test_data_of_other_devices_is_refused():
    other = load_task(SPEC, 4)
    with pytest.raises(ValueError, match="for 3 devices and the data for 4"):
        train(other, SCENARIO, course(SCENARIO, design()), SETTINGS)


def test_weights_that_begin_without_a_finite_loss_are_refused(task):
    endless = jax.tree.map(lambda leaf: leaf + jnp.inf, task.weights)
    with pytest.raises(Diverged, match="initial weights give no finite"):
        train(
            dataclasses.replace(task, weights=endless),
            SCENARIO,
            course(SCENARIO, design()),
            SETTINGS,
        )


@pytest.mark.parametrize(("samples", "rounds"), [(1, 20), (1500, 20), (1501, 40), (7500, 100)])
def test_large_test_sets_are_measured_less_often(samples, rounds):
    assert usual_every(samples) == rounds


def test_settings_are_checked():
    with pytest.raises(ValueError, match="every = 0: must be a whole number >= 1"):
        Settings(every=0)
