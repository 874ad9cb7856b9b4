"""Models in Flax NNX, from logistic regression to a small vision transformer with adapters.

All map images (n, height, width, channels) to logits (n, classes). A user's own module needs
nothing from here: `trainable` turns any NNX module into weights and a loss.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxedge.training.data.samples import Loss
from jaxedge.training.models.convolutions import convolution, max_pool
from jaxedge.words.choices import choice

Shape = tuple[int, int, int]
"""Height, width and channels of an image."""

_Convolution = partial(nnx.Conv, conv_general_dilated=convolution)


class MLP(nnx.Module):
    """Dense layers with ReLU between them; without hidden layers it is logistic regression."""

    def __init__(
        self, shape: Shape, classes: int, hidden: tuple[int, ...] = (200, 200), *, rngs: nnx.Rngs
    ) -> None:
        widths = (shape[0] * shape[1] * shape[2], *hidden, classes)
        self.layers = nnx.List(nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(widths))

    def __call__(self, x: Array) -> Array:
        """Logits (n, classes)."""
        x = x.reshape(len(x), -1)
        for layer in list(self.layers)[:-1]:
            x = nnx.relu(layer(x))
        logits: Array = self.layers[-1](x)
        return logits


class ConvNet(nnx.Module):
    """5 x 5 convolutions, each with ReLU and 2 x 2 pooling, then dense layers.

    LeNet-5 (LeCun et al., 1998) has 6 and 16 channels and dense layers of 120 and 84; the network
    of 1.6 M parameters of McMahan et al. (2017) has 32 and 64 channels and one dense layer of 512.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        channels: tuple[int, ...],
        dense: tuple[int, ...],
        *,
        rngs: nnx.Rngs,
    ) -> None:
        widths = (shape[2], *channels)
        self.convolutions = nnx.List(
            _Convolution(a, b, (5, 5), rngs=rngs) for a, b in itertools.pairwise(widths)
        )
        height, width = shape[:2]
        for _ in channels:
            height, width = height // 2, width // 2
        if min(height, width) < 1:
            raise ValueError(
                f"images of {shape[0]} x {shape[1]} pixels are too small for {len(channels)} "
                "poolings: take a model without them, such as 'mlp'"
            )
        self.head = MLP((height, width, widths[-1]), classes, dense, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Logits (n, classes)."""
        for layer in self.convolutions:
            x = nnx.relu(max_pool(layer(x)))  # the same as pooling after ReLU, on fewer pixels
        return self.head(x)


class _Block(nnx.Module):
    """A basic residual block of He et al. (2016), with group norm in place of batch norm."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs) -> None:
        def convolution(a: int, kernel: int, step: int) -> nnx.Conv:
            return _Convolution(a, outputs, (kernel, kernel), step, use_bias=False, rngs=rngs)

        def norm() -> nnx.GroupNorm:
            return nnx.GroupNorm(outputs, num_groups=min(32, outputs // 2), rngs=rngs)

        self.first, self.second = convolution(inputs, 3, stride), convolution(outputs, 3, 1)
        self.norms = nnx.List([norm(), norm()])
        changes = stride != 1 or inputs != outputs
        self.shortcut = nnx.Sequential(convolution(inputs, 1, stride), norm()) if changes else None

    def __call__(self, x: Array) -> Array:
        y = nnx.relu(self.norms[0](self.first(x)))
        y = self.norms[1](self.second(y))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet18(nnx.Module):
    """ResNet-18 for small images, with group norm, which does not mix the samples of a batch."""

    def __init__(self, shape: Shape, classes: int, *, rngs: nnx.Rngs) -> None:
        self.stem = _Convolution(shape[2], 64, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.GroupNorm(64, num_groups=32, rngs=rngs)
        blocks, inputs = [], 64
        for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks.append(_Block(inputs, outputs, stride, rngs=rngs))
            blocks.append(_Block(outputs, outputs, 1, rngs=rngs))
            inputs = outputs
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(inputs, classes, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Logits (n, classes)."""
        x = nnx.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        logits: Array = self.head(x.mean(axis=(1, 2)))
        return logits


class _Layer(nnx.Module):
    """A pre-norm transformer layer whose projections have low-rank adapters (Hu et al., 2022)."""

    def __init__(self, width: int, heads: int, rank: int, *, rngs: nnx.Rngs) -> None:
        def dense(a: int, b: int) -> nnx.LoRALinear:
            return nnx.LoRALinear(a, b, lora_rank=rank, rngs=rngs)

        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])
        self.projection, self.mixed = dense(width, 3 * width), dense(width, width)
        self.wide, self.narrow = dense(width, 2 * width), dense(2 * width, width)
        self.heads = heads

    def __call__(self, x: Array) -> Array:
        count, length, width = x.shape
        parts = self.projection(self.norms[0](x)).reshape(count, length, 3, self.heads, -1)
        query, key, value = (parts[:, :, i] for i in range(3))
        mixed = jax.nn.dot_product_attention(query, key, value).reshape(count, length, width)
        x = x + self.mixed(mixed)
        return x + self.narrow(nnx.gelu(self.wide(self.norms[1](x))))


class VisionTransformer(nnx.Module):
    """A tiny vision transformer; with `nnx.LoRAParam` trained alone, only adapters are uploaded."""

    def __init__(
        self,
        shape: Shape,
        classes: int,
        patch: int = 4,
        width: int = 64,
        layers: int = 4,
        heads: int = 4,
        rank: int = 4,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        if shape[0] % patch or shape[1] % patch:
            raise ValueError(
                f"images of {shape[0]} x {shape[1]} pixels: sides must be multiples of {patch}"
            )
        count = (shape[0] // patch) * (shape[1] // patch)
        self.patches = _Convolution(
            shape[2], width, (patch, patch), patch, padding="VALID", rngs=rngs
        )
        self.places = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, count, width)))
        self.layers = nnx.List([_Layer(width, heads, rank, rngs=rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Logits (n, classes)."""
        x = self.patches(x)
        x = x.reshape(len(x), -1, x.shape[-1]) + self.places[...]
        for layer in self.layers:
            x = layer(x)
        logits: Array = self.head(self.norm(x).mean(axis=1))
        return logits


_BUILDERS: dict[str, Callable[..., nnx.Module]] = {
    "logistic": lambda shape, classes, rngs: MLP(shape, classes, (), rngs=rngs),
    "mlp": MLP,
    "lenet5": lambda shape, classes, rngs: ConvNet(shape, classes, (6, 16), (120, 84), rngs=rngs),
    "cnn": lambda shape, classes, rngs: ConvNet(shape, classes, (32, 64), (512,), rngs=rngs),
    "resnet18": ResNet18,
    "vit": VisionTransformer,
}
ADAPTERS = nnx.LoRAParam
"""The kind of variables that low-rank adapters are."""
MODELS = tuple(_BUILDERS)
"""Names of the models that `model` builds."""


def model(name: str, shape: Shape, classes: int, *, seed: int = 0, **options: Any) -> nnx.Module:
    """A model with seeded random weights; ``options`` are its class's, as ``hidden`` of "mlp".

    Raises:
        ValueError: if the name is unknown or the images do not fit.
    """
    build = _BUILDERS[choice("model", str(name), MODELS)]
    return build(shape, classes, rngs=nnx.Rngs(seed), **options)


def cross_entropy(logits: Array, y: Array) -> Array:
    """(n,) losses of samples with labels y (n,)."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)[:, 0]


def trainable(
    module: nnx.Module,
    *,
    criterion: Callable[[Array, Array], Array] = cross_entropy,
    of_kind: Any = nnx.Param,
) -> tuple[Any, Loss, Callable[[Any, Array], Array]]:
    """The weights of a module as a pytree, with the functions that the stages take.

    Args:
        module: any NNX module that maps inputs (n, ...) to outputs.
        criterion: (outputs, y) -> (n,) losses.
        of_kind: the variables that are trained and uploaded; the others stay as they are, such as
            all but the adapters with `nnx.LoRAParam`.

    Returns:
        The weights, the loss of samples, and the function from weights and inputs to outputs.

    Raises:
        ValueError: if the module has no variables of that kind.
    """
    graph, *parts = nnx.split(module, of_kind, ...)
    weights, rest = parts
    if not jax.tree.leaves(weights):
        raise ValueError(f"the module has no variables of kind {of_kind}: nothing would be trained")

    def outputs(weights: Any, x: Array) -> Array:
        found: Array = nnx.merge(graph, weights, rest)(x)
        return found

    def loss(weights: Any, x: Array, y: Array) -> Array:
        return criterion(outputs(weights, x), y)

    return weights, loss, outputs


def of_kind_among(weights: Any, kind: Any) -> tuple[bool, ...]:
    """Which leaves of a module's weights are variables of a kind, such as `nnx.LoRAParam`.

    Raises:
        ValueError: if none is.
    """
    variables = jax.tree.leaves(weights, is_leaf=lambda item: isinstance(item, nnx.Variable))
    found = tuple(isinstance(item, kind) for item in variables)
    if not any(found):
        raise ValueError(
            f"the model has no variables of kind {kind.__name__}: nothing would be fine-tuned; of "
            "the named models only 'vit' has adapters"
        )
    return found


def check_fits(
    outputs: Callable[[Any, Array], Array], weights: Any, x: Array, classes: int
) -> None:
    """Make sure, without computing, that the outputs for inputs like ``x`` have all the classes.

    Raises:
        ValueError: if they have another shape.
    """
    shape = jax.eval_shape(outputs, weights, x[:1]).shape
    if shape != (1, classes):
        raise ValueError(
            f"the model gives outputs of shape {shape} for one sample: must be (1, {classes}), a "
            "logit for each class"
        )


def upload_bits(weights: Any, bits: int = 32) -> int:
    """Bits of one upload or broadcast of the weights, ``bits`` for each number: S_u and S_d."""
    return bits * sum(int(jnp.size(leaf)) for leaf in jax.tree.leaves(weights))
