"""Clarabel on the scaled conic program, called directly: no modelling layer in between."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from jaxedge.scenario.scenario import Scenario
from peers.conic import Conic, choices_of, conic_of
from peers.parameters import none_found, scenario_at


def solve(scenarios: Scenario, variant: str, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """(B, 5+3K) designs, nan where Clarabel gave none, and (B,) seconds."""
    designs, seconds = [], []
    for i in range(len(scenarios.energy_budget)):
        scenario = scenario_at(scenarios, i)
        conic = conic_of(scenario)
        start = time.perf_counter()
        z = _solved(conic, tolerance)
        seconds.append(time.perf_counter() - start)
        found = none_found(conic.count) if z is None else choices_of(conic, scenario, z)
        designs.append(found)
    return np.array(designs), np.array(seconds)


def _solved(conic: Conic, tolerance: float) -> np.ndarray | None:
    import clarabel

    size = conic.matrix.shape[1]
    zero = type(conic.matrix)((size, size))
    solver = clarabel.DefaultSolver(
        zero,
        conic.q,
        conic.matrix,
        conic.b,
        _cones(clarabel, conic),
        _settings(clarabel, tolerance),
    )
    return np.array(solver.solve().x)


def _cones(clarabel: Any, conic: Conic) -> list[Any]:
    several = 1 + conic.count
    return [
        clarabel.ZeroConeT(1),
        clarabel.NonnegativeConeT(conic.linear),
        *[clarabel.SecondOrderConeT(3)] * several,
        *[clarabel.ExponentialConeT()] * several,
        *[clarabel.PowerConeT(1 / 3)] * several,
    ]


def _settings(clarabel: Any, tolerance: float) -> Any:
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    for name in ("tol_gap_abs", "tol_gap_rel", "tol_feas"):
        setattr(settings, name, tolerance)
    return settings
