"""Clarabel through CVXPY: the scaled conic program as a DPP problem, compiled once for each K."""

from __future__ import annotations

import functools
import time
import warnings
from typing import Any

import numpy as np

from jaxedge.scenario.scenario import Scenario
from peers.conic import Conic, choices_of, conic_of
from peers.parameters import none_found, scenario_at


def solve(scenarios: Scenario, variant: str, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """(B, 5+3K) designs, nan where CVXPY gave none, and (B,) seconds."""
    designs, seconds = [], []
    for i in range(len(scenarios.energy_budget)):
        scenario = scenario_at(scenarios, i)
        conic = conic_of(scenario)
        problem, variable, given = _problem(_structure(conic), conic.count, conic.linear)
        start = time.perf_counter()
        given["values"].value = conic.matrix.tocsr().sorted_indices().data
        given["b"].value, given["q"].value = conic.b, conic.q
        z = _solved(problem, variable, tolerance)
        seconds.append(time.perf_counter() - start)
        found = none_found(conic.count) if z is None else choices_of(conic, scenario, z)
        designs.append(found)
    return np.array(designs), np.array(seconds)


def _solved(problem: Any, variable: Any, tolerance: float) -> np.ndarray | None:
    import cvxpy as cp

    limits = {f"tol_{name}": tolerance for name in ("gap_abs", "gap_rel", "feas")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            problem.solve(solver=cp.CLARABEL, **limits)
        except cp.SolverError:
            return None
    return variable.value


def _structure(conic: Conic) -> tuple[tuple[int, ...], tuple[int, ...]]:
    matrix = conic.matrix.tocsr().sorted_indices()
    return tuple(matrix.indptr.tolist()), tuple(matrix.indices.tolist())


@functools.lru_cache(maxsize=4)
def _problem(
    structure: tuple[tuple[int, ...], tuple[int, ...]], count: int, linear: int
) -> tuple[Any, Any, dict[str, Any]]:
    """The problem, its variable and its parameters: the matrix's entries, b and q."""
    import cvxpy as cp
    from scipy import sparse

    offsets, columns = (np.array(x) for x in structure)
    rows, width = len(offsets) - 1, 10 + 6 * count
    z = cp.Variable(width)
    values, b, q = cp.Parameter(len(columns)), cp.Parameter(rows), cp.Parameter(width)
    entries = np.arange(len(columns))
    row_of = np.repeat(np.arange(rows), np.diff(offsets))
    pick = sparse.csr_matrix((np.ones(len(columns)), (entries, columns)))
    add = sparse.csr_matrix((np.ones(len(columns)), (row_of, entries)))
    slack = b - add @ cp.multiply(values, pick @ z)
    first = 1 + linear
    kinds = [slack[first + i * 3 * (1 + count) :][: 3 * (1 + count)] for i in range(3)]
    (round_, exponential, power) = ([kind[i::3] for i in range(3)] for kind in kinds)
    constraints = [
        slack[0] == 0,
        slack[1:first] >= 0,
        cp.SOC(round_[0], cp.vstack([round_[1], round_[2]]), axis=0),
        cp.ExpCone(*exponential),
        cp.PowCone3D(*power, np.full(1 + count, 1 / 3)),
    ]
    problem = cp.Problem(cp.Minimize(q @ z), constraints)
    return problem, z, {"values": values, "b": b, "q": q}
