"""Federated averaging in PyTorch: a plain loop over users, and pfl's and Flower's simulations.

Models are those of `jaxedge.training.models.networks`; their weights come as a list of
(kernel, bias).
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Weights = list[tuple[np.ndarray, np.ndarray]]
Round = Callable[[np.ndarray], None]
"""Train a round with a cohort (C,) of users."""


def module_of(weights: Weights) -> Any:
    """The PyTorch module: convolutions (4-dimensional kernels) with pooling, then dense layers."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = []
            for kernel, bias in weights:
                if kernel.ndim == 4:
                    outputs, inputs, size, _ = kernel.shape
                    layers.append(nn.Conv2d(inputs, outputs, size, padding=size // 2))
                else:
                    layers.append(nn.Linear(kernel.shape[1], kernel.shape[0]))
                with torch.no_grad():
                    layers[-1].weight.copy_(torch.tensor(kernel))
                    layers[-1].bias.copy_(torch.tensor(bias))
            self.layers = nn.ModuleList(layers)

        def forward(self, x: Any) -> Any:
            for layer in self.layers[:-1]:
                if isinstance(layer, nn.Conv2d):
                    x = nn.functional.max_pool2d(nn.functional.relu(layer(x)), 2)
                else:
                    x = nn.functional.relu(layer(x.flatten(1)))
            return self.layers[-1](x.flatten(1))

        def loss(self, x: Any, y: Any) -> Any:  # as pfl calls it
            return nn.functional.cross_entropy(self(x), y)

        def metrics(self, x: Any, y: Any) -> dict[str, Any]:  # as pfl calls it, in its first round
            from pfl.metrics import Weighted

            return {"loss": Weighted(self.loss(x, y).item() * len(y), len(y))}

    return Network()


def weights_in(module: Any) -> Weights:
    """The module's weights, in the order in which they were given."""
    return [
        (layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
        for layer in module.layers
    ]


def plain_loop(module: Any, x: Any, y: Any, batch: int, rate: float) -> Round:
    """PyTorch's usual loop.

    Args:
        module: is trained.
        x: (users, n, ...) tensor.
        y: (users, n) tensor.
        batch: samples of a local step.
        rate: of the local steps.
    """
    import torch

    def run(cohort: np.ndarray) -> None:
        weights = list(module.parameters())
        shared = [weight.detach().clone() for weight in weights]
        total = [torch.zeros_like(weight) for weight in shared]
        for user in cohort:
            with torch.no_grad():
                for weight, value in zip(weights, shared, strict=True):
                    weight.copy_(value)
            steps = torch.optim.SGD(weights, lr=rate)
            for at in range(0, x.shape[1], batch):
                steps.zero_grad()
                module.loss(x[user, at : at + batch], y[user, at : at + batch]).backward()
                steps.step()
            with torch.no_grad():
                for one, weight in zip(total, weights, strict=True):
                    one += weight
        with torch.no_grad():
            for weight, one in zip(weights, total, strict=True):
                weight.copy_(one / len(cohort))

    return run


def with_pfl(module: Any, x: Any, y: Any, batch: int, rate: float) -> Round:
    """The same by pfl in one process; it evaluates in its first round alone."""
    import torch
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.hyperparam import NNTrainHyperParams
    from pfl.model.pytorch import PyTorchModel

    order: list[int] = []
    users = FederatedDataset(
        make_dataset_fn=lambda user: Dataset(raw_data=(x[user], y[user])),
        user_sampler=lambda: order.pop(0),
    )
    model = PyTorchModel(
        module,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(module.parameters(), lr=1.0),
    )
    backend = SimulatedBackend(training_data=users, val_data=users)
    train = NNTrainHyperParams(local_batch_size=batch, local_num_epochs=1, local_learning_rate=rate)

    algorithm = FederatedAveraging()
    done = 0

    def run(cohort: np.ndarray) -> None:
        nonlocal done
        order.extend(cohort.tolist())
        done += 1
        algorithm.run(
            NNAlgorithmParams(
                central_num_iterations=done,  # it goes on where it has ended
                evaluation_frequency=1_000_000,
                train_cohort_size=len(cohort),
                val_cohort_size=0,
            ),
            backend,
            model,
            train,
            callbacks=[],
            send_metrics_to_platform=False,
        )

    return run


@dataclasses.dataclass(frozen=True)
class Simulated:
    """What a simulation gave: seconds and weights of each round, the first with its start-up."""

    seconds: list[float]
    weights: list[Weights]


def by_flower(
    begin: Weights, x: np.ndarray, y: np.ndarray, batch: int, rate: float, cohorts: np.ndarray
) -> Simulated:
    """The same by Flower's simulation, in as many processes of Ray as processors, a thread each.

    A NumPy client is told which user it is, and trains it by the plain loop. All rounds are one
    simulation; a round's time ends when the next one begins, or the last one's weights are there.
    """
    import torch
    from flwr.client import ClientApp, NumPyClient
    from flwr.common import FitIns, ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.server import ServerApp, ServerAppComponents, ServerConfig
    from flwr.server.strategy import FedAvg
    from flwr.simulation import run_simulation

    def paired(arrays: list[np.ndarray]) -> Weights:
        return list(zip(arrays[::2], arrays[1::2], strict=True))

    def flat(weights: Weights) -> list[np.ndarray]:
        return [array for pair in weights for array in pair]

    times: list[float] = []
    found: list[Weights] = []

    class Strategy(FedAvg):  # type: ignore[misc]
        def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> Any:
            if server_round > 1:
                times.append(time.perf_counter())
            clients = client_manager.sample(cohorts.shape[1], cohorts.shape[1])
            users = cohorts[server_round - 1].tolist()
            return [
                (client, FitIns(parameters, {"user": user}))
                for client, user in zip(clients, users, strict=True)
            ]

        def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
            if failures:
                raise RuntimeError(f"Flower's clients failed: {failures[0]}")
            parameters, told = super().aggregate_fit(server_round, results, failures)
            found.append(paired(parameters_to_ndarrays(parameters)))
            if server_round == len(cohorts):
                times.append(time.perf_counter())
            return parameters, told

    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("x.npy", "y.npy")]
        for file, array in zip(files, (x.transpose(0, 1, 4, 2, 3), y), strict=True):
            np.save(file, array)

        class Client(NumPyClient):  # type: ignore[misc]
            def fit(self, parameters: list[np.ndarray], config: dict[str, Any]) -> Any:
                torch.set_num_threads(1)
                images, labels = (
                    torch.tensor(np.ascontiguousarray(np.load(file, mmap_mode="r")[config["user"]]))
                    for file in files
                )
                module = module_of(paired(parameters))
                plain_loop(module, images[None], labels[None], batch, rate)(np.arange(1))
                return flat(weights_in(module)), len(labels), {}

        def server(_: Any) -> Any:
            first = ndarrays_to_parameters(flat(begin))
            strategy = Strategy(fraction_evaluate=0.0, initial_parameters=first)
            return ServerAppComponents(
                strategy=strategy, config=ServerConfig(num_rounds=len(cohorts))
            )

        logging.getLogger("flwr").setLevel(logging.WARNING)
        times.append(time.perf_counter())
        run_simulation(
            ServerApp(server_fn=server),
            ClientApp(client_fn=lambda _: Client().to_client()),
            num_supernodes=cohorts.shape[1],
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
        )
    return Simulated([b - a for a, b in itertools.pairwise(times)], found)
