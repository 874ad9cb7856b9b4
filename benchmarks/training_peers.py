"""How fast is federated averaging? jaxedge's beside pfl, Flower and a plain PyTorch loop.

The published setting of pfl: 1,000 users of 50 images of CIFAR's shape, cohorts of 50, batches of
10, one local epoch, float32; images and labels are random, as nothing depends on them. All begin
with the same weights and train the same users in the same order on the same batches; after three
rounds the weights have to agree within 1e-4. Then rounds are timed in turns. jaxedge's strategy is
the fastest in a trial of one round each, PyTorch's number of threads that of its faster loop; the
trial and compiling are told apart. Flower's rounds are of one simulation after all others', whose
first has its start-up; it is there after ``pip install 'flwr[simulation]'``.

Usage: python benchmarks/training_peers.py [--smallest] [--rounds N] [--models NAME ...] [--record]
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import records
from peers import federated, left_out

from jaxedge.machine.chunks import cores
from jaxedge.training.data.samples import Samples
from jaxedge.training.models.convolutions import with_convolution
from jaxedge.training.models.networks import model, trainable
from jaxedge.training.rounds.averaging import Epoch, average
from jaxedge.training.rounds.strategies import Strategy, on_all_processors

SHAPE, CLASSES = (32, 32, 3), 10
MODELS = ("mlp", "lenet5", "cnn")
STRATEGIES = ("scan", "sharded")
"""Tried, with convolutions as products: XLA's own were slower in all trials on CPUs."""
AGREEMENT, CHECKED = 1e-4, 3
"""Largest difference of a weight after so many rounds."""

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Setting:
    """Users and their rounds."""

    users: int = 1000
    samples: int = 50
    cohort: int = 50
    batch: int = 10
    rate: float = 0.01
    """Small, so that weights of all can still be compared after the rounds that are checked."""


@dataclasses.dataclass
class Method:
    """Somebody's federated averaging at work on a model."""

    name: str
    run: federated.Round
    weights: Callable[[], federated.Weights]
    first: float = 0.0
    seconds: list[float] = dataclasses.field(default_factory=list)
    more: Row = dataclasses.field(default_factory=dict)

    def timed(self, cohort: np.ndarray) -> float:
        """Seconds of a round."""
        start = time.perf_counter()
        self.run(cohort)
        return time.perf_counter() - start


class Ours:
    """jaxedge's rounds by one strategy."""

    def __init__(self, name: str, data: Samples, setting: Setting, strategy: str) -> None:
        self.begin, loss, self.outputs = trainable(model(name, SHAPE, CLASSES))

        @jax.jit
        def rounds(weights: Any, data: Samples, cohorts: jax.Array) -> Any:
            epoch = Epoch(data=data, batch=setting.batch, most=setting.samples, rate=setting.rate)
            unfolded = with_convolution("im2col", loss)
            return average(unfolded, weights, epoch, cohorts, Strategy(strategy))

        self._everywhere = on_all_processors if strategy == "sharded" else lambda tree: tree
        self._rounds, self._data = rounds, self._everywhere(data)
        self.state = self.begin = self._everywhere(self.begin)

    def run(self, cohort: np.ndarray) -> None:
        """Train a round."""
        chosen = self._everywhere(jnp.asarray(cohort)[None])
        self.state = self._rounds(self.state, self._data, chosen)
        jax.block_until_ready(self.state)

    def weights(self) -> federated.Weights:
        """In PyTorch's order of axes: channels before rows before columns, outputs first."""
        pure = jax.tree.map(np.asarray, self.state)
        found, shape = [], SHAPE
        convolutions = [pure["convolutions"][i] for i in pure.get("convolutions", {})]
        for layer in convolutions:
            kernel = layer["kernel"][...]
            found.append((kernel.transpose(3, 2, 0, 1), layer["bias"][...]))
            shape = (shape[0] // 2, shape[1] // 2, kernel.shape[3])
        head = pure["head"] if convolutions else pure
        for number, i in enumerate(head["layers"]):
            layer = head["layers"][i]
            kernel = layer["kernel"][...]
            if number == 0:
                kernel = kernel.reshape(*shape, -1).transpose(2, 0, 1, 3)
            found.append((kernel.reshape(-1, kernel.shape[-1]).T, layer["bias"][...]))
        return [(np.ascontiguousarray(k), np.asarray(b)) for k, b in found]


def main() -> None:
    arguments = _arguments()
    setting = arguments.setting
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}, {cores()} cores, float32")
    print(f"{setting}, {arguments.rounds} rounds timed")
    rng = np.random.default_rng(0)
    shape = (setting.users, setting.samples)
    x = rng.random((*shape, *SHAPE), np.float32) - np.float32(0.5)
    y = rng.integers(0, CLASSES, shape)
    cohorts = np.stack(
        [
            rng.choice(setting.users, setting.cohort, replace=False)
            for _ in range(CHECKED + arguments.rounds)
        ]
    )
    rows = []
    for name in arguments.models:
        here = _model(name, setting, x, y, cohorts)
        _print(here)
        rows += here
    if arguments.record:
        content = {"setting": dataclasses.asdict(setting), "rows": rows}
        print(f"recorded in {records.write('training_peers', content)}")


def _model(
    name: str, setting: Setting, x: np.ndarray, y: np.ndarray, cohorts: np.ndarray
) -> list[Row]:
    """All methods on a model: checked, then timed in turns."""
    data = Samples(
        x=jnp.asarray(x.reshape(-1, *SHAPE)),
        y=jnp.asarray(y.ravel()),
        offsets=jnp.arange(setting.users + 1) * setting.samples,
    )
    ours, start = _fastest(name, data, setting, cohorts[0])
    methods = [ours, *_peers(start, x, y, setting)]
    for number, cohort in enumerate(cohorts[:CHECKED]):
        for method in methods:
            seconds = method.timed(cohort)
            if number == 0:
                method.first = seconds
    expected = ours.weights()
    for method in methods:
        _check(name, method, method.weights(), expected)
    for cohort in cohorts[CHECKED:]:
        for method in methods:
            method.seconds.append(method.timed(cohort))
    if not (left_out("torch") or left_out("flwr") or left_out("ray")):
        methods.append(_flower(name, start, expected, x, y, setting, cohorts))
    return [_row(name, method, ours, x[:20], y[:20]) for method in methods]


def _check(
    name: str, method: Method, weights: federated.Weights, expected: federated.Weights
) -> None:
    pairs = zip(weights, expected, strict=True)
    apart = max(
        float(np.abs(a - b).max()) for one, two in pairs for a, b in zip(one, two, strict=True)
    )
    method.more["apart_after_3_rounds"] = apart
    if not apart <= AGREEMENT:
        raise SystemExit(f"{name}, {method.name}: weights differ by {apart:.2e}")


def _flower(
    name: str,
    start: federated.Weights,
    expected: federated.Weights,
    x: np.ndarray,
    y: np.ndarray,
    setting: Setting,
    cohorts: np.ndarray,
) -> Method:
    """Flower's whole simulation, which cannot be halted between rounds."""
    found = federated.by_flower(start, x, y, setting.batch, setting.rate, cohorts)
    method = Method("Flower", lambda _: None, lambda: found.weights[-1], found.seconds[0])
    method.seconds = found.seconds[CHECKED:]
    method.more["threads"] = 1
    _check(name, method, found.weights[CHECKED - 1], expected)
    return method


def _fastest(
    name: str, data: Samples, setting: Setting, cohort: np.ndarray
) -> tuple[Method, federated.Weights]:
    """The method of jaxedge by the fastest strategy, and the weights that all begin with."""
    tried = {}
    for how in STRATEGIES:
        if how == "sharded" and jax.device_count() == 1:
            continue
        ours = Ours(name, data, setting, how)
        begin = time.perf_counter()
        ours.run(cohort)
        first = time.perf_counter() - begin
        ours.run(cohort)
        begin = time.perf_counter()
        ours.run(cohort)
        tried[how] = (time.perf_counter() - begin, first, ours)
    how = min(tried, key=lambda one: tried[one][0])
    seconds, first, ours = tried[how]
    ours.state = ours.begin
    told = {one: found[0] for one, found in tried.items()}
    more = {"strategy": how, "trial_s": told, "compile_s": first - seconds}
    return Method(name="jaxedge", run=ours.run, weights=ours.weights, more=more), ours.weights()


def _peers(
    start: federated.Weights, x: np.ndarray, y: np.ndarray, setting: Setting
) -> list[Method]:
    if left_out("torch"):
        return []
    import torch

    images = torch.from_numpy(x).permute(0, 1, 4, 2, 3).contiguous()
    labels = torch.from_numpy(y)
    threads = _fewest_seconds(start, images, labels, setting)
    torch.set_num_threads(threads)
    makers = {"PyTorch loop": federated.plain_loop}
    if not left_out("pfl"):
        makers["pfl"] = federated.with_pfl
    found = []
    for name, maker in makers.items():
        module = federated.module_of(start)
        run = maker(module, images, labels, setting.batch, setting.rate)
        method = Method(name, run, partial(federated.weights_in, module))
        method.more["threads"] = threads
        found.append(method)
    return found


def _fewest_seconds(start: federated.Weights, x: Any, y: Any, setting: Setting) -> int:
    """Threads with which PyTorch's loop is fastest: more of them wait for each other."""
    import torch

    seconds = {}
    for threads in range(1, cores() + 1):
        torch.set_num_threads(threads)
        run = federated.plain_loop(federated.module_of(start), x, y, setting.batch, setting.rate)
        run(np.arange(1))
        begin = time.perf_counter()
        run(np.arange(4))
        seconds[threads] = time.perf_counter() - begin
    return min(seconds, key=lambda one: seconds[one])


def _row(name: str, method: Method, ours: Method, x: np.ndarray, y: np.ndarray) -> Row:
    return {
        "model": name,
        "method": method.name,
        "seconds_per_round": float(np.median(method.seconds)),
        "times_as_long_as_ours": float(np.median(method.seconds) / np.median(ours.seconds)),
        "all_seconds": method.seconds,
        "first_call_s": method.first,
        "loss": _loss(method.weights(), x.reshape(-1, *SHAPE), y.ravel()),
        **method.more,
    }


def _loss(weights: federated.Weights, x: np.ndarray, y: np.ndarray) -> float:
    """Mean cross-entropy, by JAX for all methods."""
    z = jnp.asarray(x.transpose(0, 3, 1, 2))
    for number, (kernel, bias) in enumerate(weights):
        if kernel.ndim == 4:
            z = jax.nn.relu(
                jax.lax.conv(z, jnp.asarray(kernel), (1, 1), "SAME") + bias[:, None, None]
            )
            z = jax.lax.reduce_window(z, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        else:
            z = z.reshape(len(z), -1) @ kernel.T + bias
            z = z if number == len(weights) - 1 else jax.nn.relu(z)
    return float(-jax.nn.log_softmax(z)[jnp.arange(len(y)), y].mean())


def _print(rows: list[Row]) -> None:
    ours = rows[0]
    print(
        f"{ours['model']}: {ours['strategy']}, compiled in {ours['compile_s']:.1f} s; trial, s a "
        f"round: {', '.join(f'{k} {v:.3f}' for k, v in ours['trial_s'].items())}"
    )
    for row in rows:
        print(
            f"  {row['method']:<13} {row['seconds_per_round']:8.3f} s a round, "
            f"{row['times_as_long_as_ours']:6.2f} times ours, first call {row['first_call_s']:.2f} "
            f"s, loss {row['loss']:.6f}, weights apart {row['apart_after_3_rounds']:.1e}",
            flush=True,
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="MLP, 8 users, one round, no peers")
    parser.add_argument("--rounds", type=int, default=5, help="timed, after three checked ones")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    records.add_option(parser)
    arguments = parser.parse_args()
    arguments.setting = Setting()
    if arguments.smallest:
        arguments.setting = Setting(users=8, samples=10, cohort=4, batch=5)
        arguments.models, arguments.rounds = ("mlp",), 1
    jax.config.update("jax_num_cpu_devices", cores())  # for the strategy that splits over them
    return arguments


if __name__ == "__main__":
    main()
