"""Named answers with a leading axis over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import jax
import numpy as np

from jaxedge.machine.trees import concatenate, take
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
    def concatenate(parts: Sequence[Rows]) -> Rows:
        """The rows of several parts, one after the other."""
        names = tuple(name for part in parts for name in part.names)
        return Rows._of(names, concatenate([part._trees for part in parts]))

    def of(self, name: str) -> Rows:
        """The rows of one name."""
        index = np.flatnonzero(np.array(self.names) == name)
        return Rows._of((name,) * len(index), take(self._trees, index))

    @property
    def _trees(self) -> tuple[Scenario, Program, Outcome]:
        return self.scenarios, self.programs, self.outcome

    @staticmethod
    def _of(names: tuple[str, ...], trees: tuple[Scenario, Program, Outcome]) -> Rows:
        scenarios, programs, outcome = trees
        return Rows(names=names, scenarios=scenarios, programs=programs, outcome=outcome)


def repeat(tree: _Tree, count: int) -> _Tree:
    """A batch of ``count`` copies."""
    copies: _Tree = jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], count, axis=0), tree)
    return copies
