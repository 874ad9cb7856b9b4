"""Moreau on the scaled conic program, in its batch mode: one compiled structure for each K."""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np

from jaxedge.scenario.scenario import Scenario
from peers.conic import Conic, choices_of, conic_of
from peers.parameters import scenario_at


def solve(scenarios: Scenario, variant: str, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """(B, 5+3K) designs, and (B,) seconds: equal shares of the batch's."""
    size = len(scenarios.energy_budget)
    each = [scenario_at(scenarios, i) for i in range(size)]
    conics = [conic_of(scenario) for scenario in each]
    patterns = [conic.matrix.tocsr().sorted_indices() for conic in conics]
    solver = _compiled(conics[0], tolerance, size)
    start = time.perf_counter()
    solver.setup(np.zeros((size, 0)), np.stack([matrix.data for matrix in patterns]))
    found = solver.solve(np.stack([c.q for c in conics]), np.stack([c.b for c in conics]))
    seconds = np.full(size, (time.perf_counter() - start) / size)
    x = np.asarray(found.x)
    return np.array([choices_of(*it) for it in zip(conics, each, x, strict=True)]), seconds


def _compiled(conic: Conic, tolerance: float, size: int) -> Any:
    """The solver of this structure, made once."""
    matrix = conic.matrix.tocsr().sorted_indices()
    structure = (tuple(matrix.indptr.tolist()), tuple(matrix.indices.tolist()))
    return _solver(structure, conic.count, conic.linear, tolerance, size)


@functools.lru_cache(maxsize=8)
def _solver(
    structure: tuple[tuple[int, ...], tuple[int, ...]],
    count: int,
    linear: int,
    tolerance: float,
    size: int,
) -> Any:
    import moreau

    offsets, columns = structure
    cones = moreau.Cones(
        num_zero_cones=1,
        num_nonneg_cones=linear,
        so_cone_dims=[3] * (1 + count),
        num_exp_cones=1 + count,
        power_alphas=[1 / 3] * (1 + count),
    )
    limits = {f"tol_{name}": tolerance for name in ("gap_abs", "gap_rel", "feas")}
    settings = moreau.Settings(
        device="cpu", batch_size=size, ipm_settings=moreau.IPMSettings(**limits)
    )
    width = 10 + 6 * count
    return moreau.CompiledSolver(
        n=width,
        m=len(offsets) - 1,
        P_row_offsets=[0] * (width + 1),
        P_col_indices=[],
        A_row_offsets=offsets,
        A_col_indices=columns,
        cones=cones,
        settings=settings,
    )
