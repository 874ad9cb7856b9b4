"""Models are those of the literature, and any NNX module can be trained by the stages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxedge.training.data.samples import pool
from jaxedge.training.models.networks import (
    MODELS,
    check_fits,
    cross_entropy,
    model,
    trainable,
    upload_bits,
)
from jaxedge.training.rounds.stages import Span, Stage, pretrain

RNG = np.random.default_rng(8)


@pytest.fixture(autouse=True)
def as_users_have_it():
    """Flax broadcasts over ranks."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("logistic", (28, 28, 1), 784 * 10 + 10),
        ("mlp", (28, 28, 1), 199_210),  # McMahan et al. (2017), section 3
        ("lenet5", (28, 28, 1), 107_786),  # 'same' padding, so 7 x 7 x 16 into the dense layers
        ("cnn", (28, 28, 1), 1_663_370),  # McMahan et al. (2017), section 3
        ("resnet18", (32, 32, 3), 11_173_962),
    ],
)
def test_parameters_are_as_many_as_published(name, shape, count):
    weights = nnx.eval_shape(lambda: nnx.state(model(name, shape, 10), nnx.Param))
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(weights)) == count


@pytest.mark.every_python
@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_a_logit_for_each_class(name):
    x = jnp.zeros((2, 8, 8, 1), "float32")
    weights, _, outputs = trainable(nnx.eval_shape(lambda: model(name, (8, 8, 1), 10)))
    check_fits(outputs, weights, x, 10)
    with pytest.raises(ValueError, match=r"must be \(1, 7\), a logit for each class"):
        check_fits(outputs, weights, x, 7)


@pytest.mark.slow
def test_samples_of_a_batch_do_not_mix():
    """The stages mask samples out of a batch: no other sample's loss may notice."""
    x = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    other = x.copy()
    other[2] = 0.0
    y = jnp.array([0, 1, 2])
    for name in ("lenet5", "vit"):
        weights, loss, _ = trainable(model(name, (8, 8, 1), 10))
        one, two = loss(weights, jnp.asarray(x), y), loss(weights, jnp.asarray(other), y)
        np.testing.assert_allclose(one[:2], two[:2], rtol=1e-6)
        assert one[2] != two[2]


def plain_lenet(module, x):
    """As published: ReLU, then pooling by XLA's windows."""
    for layer in module.convolutions:
        x = nnx.max_pool(nnx.relu(layer(x)), (2, 2), strides=(2, 2))
    return module.head(x)


def test_pooling_is_that_of_windows_after_relu():
    """Outputs and gradients of LeNet-5 on images of odd sides, whose last row is not pooled."""
    x = jnp.asarray(RNG.random((3, 13, 11, 2)), "float32")
    y = jnp.array([0, 1, 2])
    module = model("lenet5", (13, 11, 2), 10)
    weights, loss, _ = trainable(module)
    graph, _ = nnx.split(module)

    def plain(weights):
        return cross_entropy(plain_lenet(nnx.merge(graph, weights), x), y).mean()

    one, back = jax.value_and_grad(lambda w: loss(w, x, y).mean())(weights)
    two, back_too = jax.value_and_grad(plain)(weights)
    np.testing.assert_allclose(one, two, rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), back, back_too
    )


@pytest.mark.slow
def test_only_adapters_are_trained_and_uploaded():
    vit = model("vit", (8, 8, 1), 10)
    adapters, loss, _ = trainable(vit, of_kind=nnx.LoRAParam)
    everything, _, _ = trainable(vit)
    width, rank, layers = 64, 4, 4
    per_layer = rank * ((width + 3 * width) + 2 * width + 2 * (width + 2 * width))
    assert upload_bits(adapters) == 32 * layers * per_layer
    assert upload_bits(adapters) < upload_bits(everything) / 5
    x = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
    stage = Stage(
        data=pool(x, np.arange(4)),
        batch=jnp.array([4]),
        width=4,
        rate=0.1,
        key=jax.random.key(0),
    )
    moved, _ = pretrain(loss, adapters, stage, Span(end=2, length=2))
    assert jax.tree.structure(moved) == jax.tree.structure(adapters)
    before = jnp.mean(loss(adapters, jnp.asarray(x), jnp.arange(4)))
    assert jnp.mean(loss(moved, jnp.asarray(x), jnp.arange(4))) < before


def test_a_users_own_module_and_loss():
    class Own(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(2, 1, rngs=rngs)

        def __call__(self, x):
            return self.dense(x)[:, 0]

    weights, loss, outputs = trainable(Own(nnx.Rngs(0)), criterion=lambda out, y: (out - y) ** 2)
    x, y = jnp.array([[1.0, 2.0], [0.0, 1.0]]), jnp.array([1.0, -1.0])
    np.testing.assert_allclose(loss(weights, x, y), (outputs(weights, x) - y) ** 2)
    with pytest.raises(ValueError, match="nothing would be trained"):
        trainable(Own(nnx.Rngs(0)), of_kind=nnx.LoRAParam)


def test_cross_entropy_is_the_negative_log_likelihood():
    logits = jnp.log(jnp.array([[0.2, 0.8], [0.5, 0.5]]))
    np.testing.assert_allclose(
        cross_entropy(logits, jnp.array([1, 0])), [-np.log(0.8), np.log(2)], rtol=1e-6
    )


def test_models_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="did you mean lenet5"):
        model("lenet", (8, 8, 1), 10)
    with pytest.raises(ValueError, match="too small for 2 poolings"):
        model("cnn", (3, 3, 1), 10)
    with pytest.raises(ValueError, match="must be multiples of 4"):
        model("vit", (7, 8, 1), 10)
