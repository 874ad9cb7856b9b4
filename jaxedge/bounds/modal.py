"""Bounds that are a loss of decaying modes: their rounds of both stages are searched in a plane."""

from __future__ import annotations

import abc
import dataclasses

import jax.numpy as jnp
from jax import Array

from jaxedge.bounds.base import FINETUNING, PRETRAINING, Bound
from jaxedge.bounds.formulation import program_at_rounds
from jaxedge.bounds.modes import Coefficients, Modes, coefficients, least_coefficients
from jaxedge.program.program import Program
from jaxedge.scenario.scenario import Learning, Scenario


@dataclasses.dataclass(frozen=True)
class Modal(Bound):
    """A loss of decaying modes: a constant and noise over the batches at fixed rounds."""

    unit = "loss"
    outer = (PRETRAINING, FINETUNING)
    relaxed_gap = 1e-3

    @abc.abstractmethod
    def modes(self, learning: Learning) -> Modes:
        """The modes of a learning task that `check` has let through."""

    def program(self, scenario: Scenario, outer: Array) -> Program:
        """The program at M, N = outer."""
        at = coefficients(self.modes(scenario.learning), outer[0], outer[1])
        return _program(scenario, outer, at)

    def program_over(self, scenario: Scenario, low: Array, high: Array) -> Program:
        """The program at the fewest rounds with the least coefficients of the box."""
        return _program(scenario, low, least_coefficients(self.modes(scenario.learning), low, high))


def _program(scenario: Scenario, rounds: Array, at: Coefficients) -> Program:
    return program_at_rounds(
        scenario,
        rounds[0],
        rounds[1],
        # A loss of which nothing is left has no scale.
        constant=jnp.maximum(at.constant, jnp.finfo(at.constant.dtype).tiny ** 0.3),
        server_variance=at.server,
        device_variance=at.devices,
    )
