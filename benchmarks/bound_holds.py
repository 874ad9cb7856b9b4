"""Do the bounds hold over real SGD where their constants are known exactly, and how tight are they?

Random designs of both stages are run from many seeds on random problems of two kinds, and what a
bound speaks of, an average of |grad F|^2, is measured before every round and held against it.

Quadratic: losses (w - x)' A (w - x)/2 have curvature A, variances and discrepancy that do not
depend on w.

Logistic: losses log(1 + exp(-y w'x)) + r |w|^2/2 with labels y = -1 or 1. A sample's gradient is
-a y x + r w with a = 1/(1 + exp(m)), m = y w'x, and its curvature a (1 - a) x x' + r: L is that of
all a = 1/2, and the strong convexity r is a PL constant. The distinct samples are orthogonal, so a
step moves a margin m to (1 - eta r) m + (something >= 0): below 0 it never falls, and above 0 it
stays there. No run leaves the domain of a <= max(a at the start, 1/2), in which every point of that
box is met. Variances and discrepancy are convex in the vector of all a, so their suprema over the
domain are at corners of the box, which are enumerated. F* is found by Newton's method.

A bound is false where the measured mean is above it by four of its standard errors; without any
one of its terms it must be false somewhere.

Usage: python benchmarks/bound_holds.py [--smallest] [--designs 400] [--seeds 200] [--record]
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import records

import jaxedge
from jaxedge.bounds.registry import BOUNDS
from jaxedge.system.allocation import Allocation, StageAllocation
from jaxedge.training.data.samples import Samples, pool
from jaxedge.training.rounds.measuring import squared_norm, task_gradient
from jaxedge.training.rounds.stages import Span, Stage, finetune, pretrain

LENGTH = 40
"""Rounds of a stage at most."""
LARGEST = 7
"""Batch of quadratic problems; the owners of logistic ones have fewer samples."""
TERMS = ("initial_gap", "discrepancy", "server_variance", "device_variance")
CURVATURE = np.array([1.0, 0.9, 0.7, 0.5])
OWN, SHARED = 4, 8
"""Samples of one device, and of the server (logistic)."""

Case = dict[str, Any]


def quadratic_loss(case: Case, weights: Any, x: Any, y: Any) -> Any:
    del case, y
    return 0.5 * jnp.sum(CURVATURE[None] * (weights[None] - x) ** 2, axis=1)


def logistic_loss(case: Case, weights: Any, x: Any, y: Any) -> Any:
    return jax.nn.softplus(-y * (x @ weights)) + case["ridge"] / 2 * jnp.sum(weights**2)


def design_of(rng: np.random.Generator, most: list[int]) -> Case:
    """Rounds, batches of at most so many samples, and rates in units of 1/L."""
    both = [rng.integers(1, LENGTH + 1), rng.integers(1, LENGTH + 1)]
    kinds = [both, [both[0], 1], [LENGTH, 1], [both[0], 0], [0, both[1]]]
    return {
        "rounds": np.array(kinds[rng.integers(len(kinds))]),
        "rates": rng.choice([0.1, 0.3, 1.0], 2) * rng.uniform(0.5, 1.0, 2),
        "batch": rng.integers(1, np.array(most) + 1),
    }


def quadratic(rng: np.random.Generator, number: int) -> Case:
    """Noise of either stage, distance of the stages and of the start, 0.01 to 1, or 0 in turn."""
    noise, own, apart, away = 10.0 ** rng.uniform(-2, 0, 4) * (np.arange(4) != number % 5)
    server = rng.normal(size=(64, len(CURVATURE))) * noise + apart * rng.normal(size=len(CURVATURE))
    devices = rng.normal(size=(3, 16, len(CURVATURE))) * own
    weights = rng.dirichlet(np.ones(3))
    optimum = weights @ devices.mean(axis=1)
    start = optimum + away * rng.normal(size=len(CURVATURE))

    def variance(x: np.ndarray) -> float:
        return float(np.square(CURVATURE * (x - x.mean(axis=0))).sum(axis=1).mean())

    design = design_of(rng, [LARGEST] * 4)
    return {
        **design,
        "rates": design["rates"] / CURVATURE.max(),
        "server": (server, np.zeros(64)),
        "devices": (devices.reshape(-1, len(CURVATURE)), np.zeros(48)),
        "weights": weights,
        "start": start,
        "constants": {
            "initial_gap": 0.5 * CURVATURE @ (start - optimum) ** 2,
            "smoothness": CURVATURE.max(),
            "discrepancy": np.sum((CURVATURE * (optimum - server.mean(axis=0))) ** 2),
            "server_variance": variance(server),
            "device_variance": np.array([variance(x) for x in devices]),
            "pl_constant": CURVATURE.min(),
        },
    }


def corners(count: int) -> np.ndarray:
    """(2^count, count) of the cube."""
    return np.array(list(itertools.product((0.0, 1.0), repeat=count)))


def largest_variance(vectors: np.ndarray, owned: np.ndarray) -> float:
    """Of a_i v_i over the vectors (distinct, d) that are owned, the largest over a in the cube."""
    own, count = np.unique(owned, return_counts=True)
    share, cube = count / len(owned), corners(len(own))
    mean = (cube * share) @ vectors[own]
    return float((cube @ (share * np.sum(vectors[own] ** 2, 1)) - np.sum(mean**2, axis=1)).max())


def logistic(rng: np.random.Generator, number: int) -> Case:
    """Two devices of 4 samples; the server has theirs, some of them exchanged for others.

    Now and then the stages agree, the start is the optimum, or an owner's samples are all alike.
    """
    # Where nothing at all is left to be done, there is nothing to bound.
    distinct = OWN if number % 6 == 0 else int(rng.choice([1, OWN]))
    other = 0 if number % 3 == 0 else int(rng.choice([1, 4, 8]))
    size = 3 * OWN
    x = np.linalg.qr(rng.normal(size=(size, size)))[0] * rng.uniform(3, 6)
    y = rng.choice([-1.0, 1.0], size)
    mine = np.concatenate([np.arange(OWN) % distinct, OWN + np.arange(OWN) % distinct])
    server = np.concatenate([mine[: SHARED - other], 2 * OWN + np.arange(other) % distinct])
    weights = np.array([0.5, 0.5]) if number % 3 == 0 else rng.dirichlet(np.ones(2))
    share = np.repeat(weights / OWN, OWN)
    ridge = float(rng.choice([0.3, 1.0, 3.0]))
    curvature = (x[mine].T * share) @ x[mine] / 4
    smoothness = float(np.linalg.eigvalsh(curvature)[-1]) + ridge
    optimum = minimum(x[mine], y[mine], share, ridge)
    away = 0.0 if number % 2 == 0 else float(rng.choice([0.1, 0.5]))
    start = optimum + away * rng.normal(size=size)
    contrast = np.bincount(mine, share, size) - np.bincount(server, minlength=size) / SHARED
    most = 1 / (1 + np.exp(np.minimum(y * (x @ start), 0)))
    signed = (most * y)[:, None] * x
    design = design_of(rng, [SHARED, OWN, OWN])
    apart = np.flatnonzero(contrast)
    return {
        **design,
        "rates": design["rates"] / smoothness,
        "server": (x[server], y[server]),
        "devices": (x[mine], y[mine]),
        "weights": weights,
        "start": start,
        "ridge": ridge,
        "constants": {
            "initial_gap": loss_at(start, x[mine], y[mine], share, ridge)
            - loss_at(optimum, x[mine], y[mine], share, ridge),
            "smoothness": smoothness,
            "discrepancy": np.sum(
                (corners(len(apart)) @ (contrast[:, None] * signed)[apart]) ** 2, axis=1
            ).max(),
            "server_variance": largest_variance(signed, server),
            "device_variance": np.array(
                [largest_variance(signed, own) for own in mine.reshape(2, OWN)]
            ),
            "pl_constant": ridge,
        },
    }


def loss_at(w: np.ndarray, x: np.ndarray, y: np.ndarray, share: np.ndarray, ridge: float) -> float:
    return float(share @ np.logaddexp(0, -y * (x @ w)) + ridge / 2 * w @ w)


def minimum(x: np.ndarray, y: np.ndarray, share: np.ndarray, ridge: float) -> np.ndarray:
    """Newton's method from 0, with full steps."""
    w = np.zeros(x.shape[1])
    for _ in range(50):
        a = 1 / (1 + np.exp(y * (x @ w)))
        gradient = -(share * a * y) @ x + ridge * w
        hessian = (x.T * (share * a * (1 - a))) @ x + ridge * np.eye(len(w))
        w = w - np.linalg.solve(hessian, gradient)
    if np.linalg.norm(gradient) > 1e-12:
        raise ArithmeticError(f"the optimum is not found: |grad F| = {np.linalg.norm(gradient)}")
    return w


KINDS: dict[str, tuple[Callable[..., Case], Callable[..., Any]]] = {
    "quadratic": (quadratic, quadratic_loss),
    "logistic": (logistic, logistic_loss),
}


def cases_of(kind: str, count: int, seed: int = 7) -> list[Case]:
    rng = np.random.default_rng(seed)
    return [KINDS[kind][0](rng, number) for number in range(count)]


def averages(kind: str, case: Case, key: Any) -> dict[str, Any]:
    """() what each bound speaks of, in one run; nan where there is no fine-tuning."""

    def loss(weights: Any, x: Any, y: Any) -> Any:
        return KINDS[kind][1](case, weights, x, y)

    count = len(case["weights"])
    own = len(case["devices"][1]) // count
    devices = Samples(
        x=case["devices"][0], y=case["devices"][1], offsets=jnp.arange(count + 1) * own
    )

    def observe(weights: Any) -> Any:
        return squared_norm(task_gradient(loss, weights, devices, case["weights"]))

    first, second = jax.random.split(key)
    (m, n), (rate0, rate) = case["rounds"], case["rates"]
    batch, server = case["batch"], pool(*case["server"])
    stages = (
        Stage(data=server, batch=batch[:1], rate=rate0, key=first, width=SHARED),
        Stage(
            data=devices,
            batch=batch[1:],
            rate=rate,
            key=second,
            width=SHARED,
            weights=case["weights"],
        ),
    )
    spans = (Span(end=m, length=LENGTH), Span(end=n, length=LENGTH))
    handed, before = pretrain(loss, case["start"], stages[0], spans[0], observe=observe)
    _, after = finetune(loss, handed, stages[1], spans[1], observe=observe)
    rounds = jnp.arange(LENGTH)
    sum0, sum1 = (
        jnp.sum(jnp.where(rounds < count, norms, 0.0)) for count, norms in ((m, before), (n, after))
    )
    return {
        "two-stage": (rate0 * sum0 + rate * sum1) / (rate0 * m + rate * n),
        "fine-tuning": sum1 / n,
    }


@dataclasses.dataclass(frozen=True)
class Measured:
    """(designs,) mean over seeds and its standard error."""

    mean: np.ndarray
    error: np.ndarray


def stacked(cases: list[Case]) -> Case:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *cases)


def measured(kind: str, cases: list[Case], seeds: int) -> dict[str, Measured]:
    """By the bound's name."""
    keys = jax.random.split(jax.random.key(0), seeds)

    @jax.jit
    def run(all_cases: Case) -> Any:
        one = jax.vmap(lambda case, key: averages(kind, case, key), in_axes=(None, 0))
        return jax.lax.map(lambda case: one(case, keys), all_cases)

    return {
        name: Measured(found.mean(axis=1), found.std(axis=1, ddof=1) / np.sqrt(seeds))
        for name, found in jax.tree.map(np.asarray, run(stacked(cases))).items()
    }


def bounds_of(name: str, cases: list[Case], without: str | None = None) -> np.ndarray:
    """(designs,) the package's own bound at each case's constants, one term of it left out."""
    preset = jaxedge.presets.get("small")

    def one(case: Case) -> Any:
        constants = dict(case["constants"])
        if without is not None:
            constants[without] = 0 * constants[without]
        learning = dataclasses.replace(
            preset.learning,
            server_learning_rate=case["rates"][0],
            device_learning_rate=case["rates"][1],
            device_weight=case["weights"],
            **constants,
        )
        server, devices = (
            StageAllocation(batch=batch, clock=1.0, power=1.0)
            for batch in (case["batch"][0], case["batch"][1:])
        )
        design = Allocation(
            pretraining_rounds=case["rounds"][0],
            finetuning_rounds=case["rounds"][1],
            server=server,
            devices=devices,
        )
        return BOUNDS[name].value(dataclasses.replace(preset, learning=learning), design)

    return np.asarray(jax.vmap(one)(stacked(cases)))


def broken(found: Measured, bounds: np.ndarray) -> np.ndarray:
    """(designs,) where training is above the bound, beyond chance and rounding."""
    return found.mean - 4 * found.error > bounds * (1 + 1e-12) + 1e-15


def ratios(found: Measured, bounds: np.ndarray) -> np.ndarray:
    """Measured/bound of the designs that have something to average and something to lose."""
    some = np.isfinite(found.mean) & (bounds > 1e-12)
    return found.mean[some] / bounds[some]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smallest", action="store_true", help="40 designs, 16 seeds")
    parser.add_argument("--designs", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=200)
    records.add_option(parser)
    given = parser.parse_args()
    designs, seeds = (40, 16) if given.smallest else (given.designs, given.seeds)
    results = {}
    print(f"{designs} designs, {seeds} seeds; measured/bound at quantiles, broken without a term")
    for kind in KINDS:
        began = time.perf_counter()
        with jax.enable_x64(True):
            cases = cases_of(kind, designs)
            found = measured(kind, cases, seeds)
            for name, runs in found.items():
                ratio = ratios(runs, bounds_of(name, cases))
                quantiles = (0.05, 0.25, 0.5, 0.75, 0.95, 1)
                false = {
                    str(term): int(broken(runs, bounds_of(name, cases, term)).sum())
                    for term in (None, *TERMS)
                }
                told = {
                    "designs": len(ratio),
                    "seeds": seeds,
                    "broken": false.pop("None"),
                    "quantiles": {str(q): np.quantile(ratio, q) for q in quantiles},
                    "broken_without": false,
                }
                results[f"{kind}, {name}"] = told
                print(
                    f"{kind:10} {name:12} {told['designs']:4} designs, {told['broken']} broken; "
                    + " ".join(f"{q}: {r:.3f}" for q, r in told["quantiles"].items())
                    + f"; {told['broken_without']}",
                    flush=True,
                )
        print(f"{kind}: {time.perf_counter() - began:.0f} s", flush=True)
    if given.record:
        print(f"recorded in {records.write('bound_holds', results)}")


if __name__ == "__main__":
    main()
