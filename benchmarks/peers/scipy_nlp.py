"""SciPy's SLSQP and trust-constr with JAX's derivatives, in logarithms of the original variables.

Variables are the logarithms of M, N, b0, f0, p0, R, b, f, p over their starting values, as for
Ipopt; trust-constr gets exact Hessians too.
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.scenario.scenario import Scenario
from peers.natural import boxes, limits, log_bound, start_of
from peers.parameters import scenario_at

LIMIT = 10.0
"""Seconds after which a scenario is given up."""


def solve(scenarios: Scenario, variant: str, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """(B, 5+3K) designs, nan where SciPy failed, and (B,) seconds."""
    designs, seconds = [], []
    with jax.enable_x64(True):
        for i in range(len(scenarios.energy_budget)):
            scenario = scenario_at(scenarios, i)
            start = time.perf_counter()
            designs.append(_run(scenario, variant, tolerance, 300))
            seconds.append(time.perf_counter() - start)
    return np.array(designs), np.array(seconds)


def warm_up(scenarios: Scenario, variant: str, tolerance: float) -> None:
    """Compile everything."""
    with jax.enable_x64(True):
        _run(scenario_at(scenarios, 0), variant, tolerance, 1)


def _run(scenario: Scenario, variant: str, tolerance: float, steps: int) -> np.ndarray:
    from scipy.optimize import minimize

    objective, hessian, slack, slope = _functions()
    low, high = boxes(scenario)
    start = start_of(scenario)
    given: dict[str, Any] = {}
    begun = time.perf_counter()

    def value_and_slope(z: np.ndarray) -> tuple[np.ndarray, ...]:
        if time.perf_counter() - begun > LIMIT:
            raise TimeoutError
        return tuple(map(np.asarray, objective(z, scenario)))

    if variant == "SLSQP":
        given["options"] = {"maxiter": steps, "ftol": tolerance}
        given["constraints"] = {
            "type": "ineq",
            "fun": lambda z: np.asarray(slack(z, scenario)),
            "jac": lambda z: np.asarray(slope(z, scenario)),
        }
    else:
        given["options"] = {"maxiter": steps, "gtol": tolerance, "xtol": tolerance}
        given["hess"] = lambda z: np.asarray(hessian(z, scenario))
        given["constraints"] = _nonlinear(scenario, slack, slope)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = minimize(
                value_and_slope,
                np.clip(start, low, high),
                jac=True,
                method=variant,
                bounds=list(zip(low, high, strict=True)),
                **given,
            ).x
        except TimeoutError:
            found = np.full(start.size, np.nan)
    return np.delete(np.exp(found), 5)


def _nonlinear(scenario: Scenario, slack: Callable[..., Any], slope: Callable[..., Any]) -> Any:
    from scipy.optimize import NonlinearConstraint

    return NonlinearConstraint(
        lambda z: np.asarray(slack(z, scenario)),
        0.0,
        np.inf,
        jac=lambda z: np.asarray(slope(z, scenario)),
        hess=lambda z, v: np.asarray(_curvature(z, v, scenario)),
    )


@jax.jit
def _curvature(z: jax.Array, v: jax.Array, scenario: Scenario) -> jax.Array:
    return jax.hessian(lambda z: -jnp.sum(v * limits(z, scenario)))(z)


@functools.cache
def _functions() -> tuple[Callable[..., Any], ...]:
    def slack(z: jax.Array, scenario: Scenario) -> jax.Array:
        return -limits(z, scenario)

    functions = (
        jax.value_and_grad(log_bound),
        jax.hessian(log_bound),
        slack,
        jax.jacrev(slack),
    )
    return tuple(jax.jit(function) for function in functions)
