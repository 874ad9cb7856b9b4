"""The solvers of the relaxed program: a new one is a line of `SOLVERS`.

A solver finds prices, and a design where it has one of its own; the driver judges whatever comes.
JAX is imported when one is used: the command line lists them without it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from jaxedge.words.choices import choice

if TYPE_CHECKING:
    from jaxedge.program.design import Design
    from jaxedge.program.program import Program
    from jaxedge.program.responses import Prices


class Find(Protocol):
    """What a solver does; it may know nothing of radios."""

    def __call__(self, program: Program, /) -> tuple[Prices, Design | None]:
        """Prices of a feasible scalar program, and a design of the solver's own or None.

        It is compiled and batched by the driver. Anything may come back: nan, prices far from the
        optimum, designs that break limits. The certificate tells how good it is.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solver:
    """A way to the optimum of the relaxed program, and what may be asked of it."""

    name: str
    """What users call it."""
    gap: float
    """Certified relative gap that is asked of its relaxed answers unless users ask otherwise."""
    find: Find
    lanes: int | None = None
    """Programs side by side in its loops, where each waits for the slowest of them
    (`benchmarks/solvers.py`); None for `jax.vmap` over a chunk."""
    searches: bool = False
    """Whether it plans bounds with variables that are searched outside the program, too."""
    begins_from_prices: bool = False
    """Whether a neighbour's prices are of use to it."""
    exact: bool = False
    """Whether the driver tries until the gap is reached, so that what misses it has failed."""


def _dual_decomposition(program: Program) -> tuple[Prices, None]:
    from jaxedge.relaxation.dual_paths import solve_prices

    return solve_prices(program, shrink=0.5, max_steps=140), None


def _interior_point(program: Program) -> tuple[Prices, None]:
    from jaxedge.relaxation.by_interior_point import interior_point_prices

    return interior_point_prices(program), None


def _augmented_lagrangian(program: Program) -> tuple[Prices, Design]:
    from jaxedge.relaxation.by_augmented_lagrangian import find

    found = find(program)
    return found.prices, found.design


def _convex_approximation(program: Program) -> tuple[Prices, Design]:
    from jaxedge.relaxation.by_convex_approximation import find_by_approximation

    return find_by_approximation(program)


DUAL_DECOMPOSITION = Solver(
    name="dual-decomposition",
    gap=1e-6,
    find=_dual_decomposition,
    searches=True,
    begins_from_prices=True,
    exact=True,
)
"""The default. The driver follows its paths in stages instead of calling its ``find``."""

SOLVERS = {
    solver.name: solver
    for solver in (
        DUAL_DECOMPOSITION,
        Solver(name="interior-point", gap=1e-6, find=_interior_point, lanes=8),
        Solver(name="augmented-lagrangian", gap=1e-4, find=_augmented_lagrangian, lanes=64),
        # Its grids are batches of loops, which lanes do not know.
        Solver(name="convex-approximation", gap=1e-2, find=_convex_approximation),
    )
}
"""By the names that users give, the default first."""


def solver_named(name: str) -> Solver:
    """The solver of this name.

    Raises:
        ValueError: if there is none, with the nearest name.
    """
    return SOLVERS[choice("solver", str(name), SOLVERS)]
