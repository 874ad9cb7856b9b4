"""The two stages do what their formulas say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.training.data.samples import Samples, pool
from jaxedge.training.rounds.stages import Span, Stage, finetune, mean_gradient, pretrain
from jaxedge.training.rounds.strategies import SIDE_BY_SIDE

RNG = np.random.default_rng(1)
SIZES = np.array([5, 9, 2, 7])
BATCH = [3, 9, 2, 1]
WIDTH = 10
RATE = 0.1


def softmax_loss(weights, x, y):
    """Logistic regression, as losses of samples."""
    logits = x @ weights["w"] + weights["b"][None]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)[:, 0]


def plain_gradient(weights, x, y):
    """Of the mean logistic loss, in NumPy."""
    logits = x @ weights["w"] + weights["b"]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(len(y)), y] -= 1
    return {"w": x.T @ shares / len(y), "b": shares.mean(axis=0)}


@pytest.fixture(scope="module")
def start():
    return {"w": RNG.normal(size=(3, 4)), "b": RNG.normal(size=4)}


@pytest.fixture(scope="module")
def data():
    x, y = RNG.normal(size=(SIZES.sum(), 3)), RNG.integers(0, 4, SIZES.sum())
    return Samples(x=jnp.asarray(x), y=jnp.asarray(y), offsets=jnp.asarray(np.cumsum([0, *SIZES])))


def own(data, k):
    some = slice(int(data.offsets[k]), int(data.offsets[k + 1]))
    return np.asarray(data.x[some]), np.asarray(data.y[some])


def drawn(data, k, batch, key):
    """The batch that the stages draw for an owner with more samples than it."""
    low, high = int(data.offsets[k]), int(data.offsets[k + 1])
    if batch == high - low:
        return own(data, k)
    index = np.asarray(jax.random.randint(key, (WIDTH,), low, high))[:batch]
    return np.asarray(data.x)[index], np.asarray(data.y)[index]


def less(weights, gradient, rate=RATE):
    return {name: weights[name] - rate * gradient[name] for name in weights}


def assert_close(one, other, tolerance=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance), one, other)


def stage_of(data, **changes):
    """The devices' stage."""
    usual = {"weights": jnp.asarray(SIZES / SIZES.sum()), "batch": jnp.asarray(BATCH)}
    usual |= {"width": WIDTH, "rate": RATE, "key": jax.random.key(5)}
    return Stage(data=data, **{**usual, **changes})


def run(begin, data, *, start=0, end=7, length=7, strategy=SIDE_BY_SIDE, **changes):
    """Seven federated rounds."""
    span = Span(start=start, end=end, length=length)
    return finetune(softmax_loss, begin, stage_of(data, **changes), span, strategy=strategy)[0]


def test_full_batches_are_gradient_descent_on_all_the_data(start, data):
    """Weights by samples make the average of the devices the average of the samples."""
    found = run(start, data, batch=jnp.asarray(SIZES))
    expected = start
    for _ in range(7):
        gradient = plain_gradient(expected, np.asarray(data.x), np.asarray(data.y))
        expected = less(expected, gradient)
    assert_close(found, expected)
    alone = Stage(
        data=pool(data.x, data.y),
        batch=jnp.array([SIZES.sum()]),
        width=30,
        rate=RATE,
        key=jax.random.key(0),
    )
    server, _ = pretrain(softmax_loss, start, alone, Span(end=7, length=7))
    assert_close(server, expected)


def plain_rounds(begin, samples, local_steps, rounds):
    """Federated averaging in NumPy, device after device."""
    for number in range(rounds):
        draws = jax.random.split(jax.random.fold_in(jax.random.key(5), number), 4)
        new = {name: np.zeros_like(w) for name, w in begin.items()}
        for k in range(4):
            mine = begin
            for step in range(local_steps):
                some = drawn(samples, k, BATCH[k], jax.random.fold_in(draws[k], step))
                mine = less(mine, plain_gradient(mine, *some))
            new = {name: new[name] + SIZES[k] / SIZES.sum() * mine[name] for name in new}
        begin = new
    return begin


@pytest.mark.every_python
@pytest.mark.parametrize("local_steps", [1, 3])
def test_uneven_batches_are_the_loop_written_plainly(start, data, local_steps):
    found = run(start, data, local_steps=local_steps)
    assert_close(found, plain_rounds(start, data, local_steps, 7))


def test_rounds_may_be_cut_anywhere(start, data):
    whole = run(start, data)
    part = run(start, data, end=4, length=4)
    both = run(part, data, start=4, length=3)
    jax.tree.map(np.testing.assert_array_equal, both, whole)
    jax.tree.map(np.testing.assert_array_equal, run(start, data, end=4), part)


def test_what_a_round_sees_is_the_weights_before_it(start, data):
    _, seen = finetune(
        softmax_loss,
        start,
        stage_of(data, batch=jnp.ones(4, int), width=1),
        Span(end=2, length=3),
        observe=lambda weights: weights["b"],
    )
    np.testing.assert_array_equal(seen[0], start["b"])
    assert not np.array_equal(seen[1], seen[0])


def test_gradients_of_batches_are_unbiased_with_variance_over_the_batch(start, data):
    """The two assumptions on sampling that the bounds make."""
    batch, repeats = 4, 20_000
    keys = jax.random.split(jax.random.key(2), repeats)
    stage = stage_of(data, batch=jnp.full(4, batch), width=6)

    def one(key):
        return mean_gradient(softmax_loss, start, stage, 1, key)["w"]

    gradients = np.asarray(jax.jit(jax.vmap(one))(keys))
    x, y = own(data, 1)
    mean = plain_gradient(start, x, y)["w"]
    singles = np.stack([plain_gradient(start, x[[i]], y[[i]])["w"] for i in range(len(y))])
    variance = ((singles - mean) ** 2).sum(axis=(1, 2)).mean()
    spread = ((gradients - mean) ** 2).sum(axis=(1, 2))
    assert spread.mean() == pytest.approx(variance / batch, rel=0.03)
    error = np.sqrt(variance / batch / repeats)
    assert np.linalg.norm(gradients.mean(axis=0) - mean) < 4 * error
