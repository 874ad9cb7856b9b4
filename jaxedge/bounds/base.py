"""What a bound is to all that plans with it, and what every bound sees of a design."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxedge.program.certificates import lower_bound
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices
from jaxedge.scenario.scenario import Learning, Scenario
from jaxedge.system.allocation import Allocation, StageAllocation

PRETRAINING, FINETUNING = "pretraining_rounds", "finetuning_rounds"
"""What a bound may need searched outside its program, in this order."""

Restriction = Callable[[Program], Program]
"""Narrows the limits of a scalar program, in the same way at all outer variables."""


@dataclasses.dataclass(frozen=True)
class Bound(abc.ABC):
    """What a design promises about training, and how its least promise is found.

    At fixed outer variables a bound is a `Program`. Functions of numbers are differentiable and
    work under ``jit`` and ``vmap``; the bound itself is hashable and stands in static arguments.
    """

    name: ClassVar[str]
    """What users type."""
    unit: ClassVar[str]
    """Of the value, in words."""
    outer: ClassVar[tuple[str, ...]] = ()
    """What is searched outside the program: (), (PRETRAINING,) or (PRETRAINING, FINETUNING)."""
    relaxed_gap: ClassVar[float] = 1e-6
    """Certified relative gap at which a relaxed design counts as optimal unless asked otherwise."""
    finite_without_finetuning: ClassVar[bool] = True
    """Whether designs of no fine-tuning round have a value."""
    differentiable: ClassVar[bool] = False
    """Whether `jaxedge.sensitivity` knows its optimum's derivatives: of one program, whose rounds
    have no greatest number; nothing may be searched outside."""

    def check(self, scenario: Scenario) -> None:  # noqa: B027  most bounds need no more constants
        """Make sure that a valid scenario has all constants.

        Raises:
            ValueError: naming the field that is missing.
        """

    @abc.abstractmethod
    def value(self, scenario: Scenario, allocation: Allocation) -> Array:
        """() the bound of a design, of which the rounds and the batches matter."""

    def handed_over(self, scenario: Scenario, rounds: ArrayLike, batch: ArrayLike) -> Array:
        """(n,) what pre-training alone leaves at (n,) rounds and batches: the value at N = 0."""
        devices = StageAllocation(batch=jnp.asarray(scenario.devices.min_batch), clock=1, power=1)

        def at(rounds: Array, batch: Array) -> Array:
            server = StageAllocation(batch=batch, clock=1, power=1)
            alone = Allocation(
                pretraining_rounds=rounds, finetuning_rounds=0.0, server=server, devices=devices
            )
            return self.value(scenario, alone)

        return jax.vmap(at)(jnp.asarray(rounds), jnp.asarray(batch))

    @abc.abstractmethod
    def program(self, scenario: Scenario, outer: Array) -> Program:
        """The program at outer variables (len(self.outer),), with feasible designs alike."""

    def program_over(self, scenario: Scenario, low: Array, high: Array) -> Program:
        """A program below those of all outer variables in the box [low, high].

        It stands at ``low``, where each design of the box is feasible (fewer rounds need less), and
        has for each coefficient the least over the box.
        """
        raise NotImplementedError(f"the {self.name} bound has no program over a box")

    def lower_bound(
        self,
        scenario: Scenario,
        low: Array,
        high: Array,
        prices: Prices,
        *,
        integer: bool,
        restrict: Restriction | None = None,
    ) -> Array:
        """() in original units: no design with outer variables in the box [low, high] is below.

        Args:
            scenario: one validated scenario.
            low: (len(self.outer),) least of the outer variables, real or whole.
            high: (len(self.outer),) greatest.
            prices: any, in original units: those of a program times its scale.
            integer: restrict batches to whole numbers.
            restrict: of the programs.

        Returns:
            The bound by the dual of `program_over`; -inf where prices are not finite and >= 0.
        """
        program = (
            self.program_over(scenario, low, high) if self.outer else (self.program(scenario, low))
        )
        program = program if restrict is None else restrict(program)
        own: Prices = jax.tree.map(lambda price: price / program.scale, prices)
        return lower_bound(program, own, integer=integer) * program.scale


def check_rounds(scenario: Scenario) -> None:
    """Make sure that every design has a round to average over.

    Raises:
        ValueError: where both minima are 0, which a spectrum lets through.
    """
    if np.any(np.add(scenario.min_pretraining_rounds, scenario.min_finetuning_rounds) == 0):
        raise ValueError(
            "min_pretraining_rounds = 0 round and min_finetuning_rounds = 0 round: an average over "
            "rounds needs at least one; either must be a whole number >= 1"
        )


class Fraction(NamedTuple):
    """A bound as numerator over denominator; with 1/b = rounds/X it is convex over linear."""

    numerator: Array
    """()"""
    denominator: Array
    """() zero where there is no round to average over."""

    @property
    def value(self) -> Array:
        """() the bound; infinite where the denominator is zero."""
        some = self.denominator > 0
        return jnp.where(some, self.numerator / jnp.where(some, self.denominator, 1), jnp.inf)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Effort:
    """What a bound sees of a design."""

    pretraining_rounds: Array
    """() M."""
    finetuning_rounds: Array
    """() N."""
    inverse_server_batch: ArrayLike
    """() 1/b_0."""
    inverse_device_batch: ArrayLike
    """(K,) 1/b_k."""


def aggregated_variance(learning: Learning, inverse_batch: ArrayLike) -> Array:
    """() variance of one fine-tuning round's aggregated gradient, sum_k w_k² s_k (1/b_k)."""
    weight = jnp.asarray(learning.device_weight)
    return jnp.sum(jnp.square(weight) * learning.device_variance * inverse_batch)


def effort_of(allocation: Allocation) -> Effort:
    """What a bound sees of an allocation."""
    return Effort(
        pretraining_rounds=jnp.asarray(allocation.pretraining_rounds),
        finetuning_rounds=jnp.asarray(allocation.finetuning_rounds),
        inverse_server_batch=1 / jnp.asarray(allocation.server.batch),
        inverse_device_batch=1 / jnp.asarray(allocation.devices.batch),
    )
