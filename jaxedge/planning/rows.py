"""Named answers with a leading axis over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from jaxedge.planning.pipeline import Outcome
from jaxedge.program.program import Program
from jaxedge.scenario.scenario import Scenario

_Tree = TypeVar("_Tree")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """Named answers, with a leading axis over them."""

    names: tuple[str, ...]
    scenarios: Scenario
    programs: Program
    outcome: Outcome

    @staticmethod
    def joined(parts: Sequence[Rows]) -> Rows:
        """The rows of several parts, one after the other."""

        def concatenated(name: str) -> Any:
            trees = [getattr(part, name) for part in parts]
            return jax.tree.map(lambda *xs: np.concatenate(xs), *trees)

        return Rows(
            names=tuple(name for part in parts for name in part.names),
            scenarios=concatenated("scenarios"),
            programs=concatenated("programs"),
            outcome=concatenated("outcome"),
        )


def repeated(tree: _Tree, count: int) -> _Tree:
    """A batch of ``count`` copies."""
    copies: _Tree = jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], count, axis=0), tree)
    return copies
