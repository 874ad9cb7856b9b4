"""The benchmark designs: restrictions of the program, each solved to its own optimum."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxedge.bounds.base import Bound, Restriction
from jaxedge.bounds.two_stage import two_stage_program
from jaxedge.program import costs
from jaxedge.program.program import Computing, Program, with_batches, with_rounds
from jaxedge.scenario.scenario import Scenario

FIXED_BATCH = 32
"""Samples: the default batch of common deep-learning libraries, cut to the scenario's limits."""
STAGE_SHARE = 0.5
"""Share of both budgets that stages designed separately give to pre-training."""

JOINT = "joint design"
PRETRAINING_ONLY = "pre-training only"
FINETUNING_ONLY = "fine-tuning only"
SEPARATE = "separate stages"
EQUAL_ROUNDS = "equal rounds"
FIRST_STAGE, SECOND_STAGE = "first of separate stages", "second of separate stages"
"""What a design of separate stages is put together from."""


def pretraining_only(program: Program) -> Program:
    """No fine-tuning: N = 0."""
    rounds, none = program.rounds, jnp.zeros_like(program.gap)
    return with_rounds(
        program,
        dataclasses.replace(
            rounds,
            min_pretraining=jnp.maximum(rounds.min_pretraining, 1),
            min_finetuning=none,
            max_finetuning=none,
        ),
    )


def finetuning_only(program: Program) -> Program:
    """No pre-training: M = 0, federated learning from scratch."""
    rounds, none = program.rounds, jnp.zeros_like(program.gap)
    return with_rounds(
        program,
        dataclasses.replace(
            rounds,
            min_pretraining=none,
            max_pretraining=none,
            min_finetuning=jnp.maximum(rounds.min_finetuning, 1),
        ),
    )


def without_finetuning(program: Program) -> Program:
    """N = 0, and M as limited."""
    none = jnp.zeros_like(program.gap)
    return with_rounds(
        program, dataclasses.replace(program.rounds, min_finetuning=none, max_finetuning=none)
    )


def without_pretraining(program: Program) -> Program:
    """M = 0, and N as limited."""
    none = jnp.zeros_like(program.gap)
    return with_rounds(
        program, dataclasses.replace(program.rounds, min_pretraining=none, max_pretraining=none)
    )


def equal_rounds(program: Program) -> Program:
    """M = N."""
    rounds = program.rounds
    least = jnp.maximum(jnp.maximum(rounds.min_pretraining, rounds.min_finetuning), 1)
    return with_rounds(
        program,
        dataclasses.replace(
            rounds, min_pretraining=least, min_finetuning=least, tied=jnp.ones_like(rounds.tied)
        ),
    )


def fixed_batches(program: Program) -> Program:
    """Every batch at FIXED_BATCH, as far as its limits allow."""
    server, devices = program.server, program.devices
    return with_batches(
        program,
        jnp.clip(FIXED_BATCH, server.min_batch, server.max_batch),
        jnp.clip(FIXED_BATCH, devices.min_batch, devices.max_batch),
    )


def maximum_clocks(program: Program) -> Program:
    """Every clock at its maximum."""
    server, devices = program.server, program.devices
    return dataclasses.replace(
        program,
        server=dataclasses.replace(server, max_time=server.min_time),
        devices=dataclasses.replace(devices, max_time=devices.min_time),
    )


def maximum_power(program: Program) -> Program:
    """Every transmission at its maximum power."""
    uploads, broadcast = program.uploads, program.broadcast
    return dataclasses.replace(
        program,
        uploads=dataclasses.replace(uploads, min_exponent=uploads.max_exponent),
        broadcast=dataclasses.replace(broadcast, min_exponent=broadcast.max_exponent),
    )


LIMITS: dict[str, Restriction] = {
    "fixed batches": fixed_batches,
    "maximum clocks": maximum_clocks,
    "maximum power": maximum_power,
}
"""Restrictions of the limits, which mean the same for either bound."""


def with_budget_share(scenario: Scenario, share: float) -> Scenario:
    """The scenario with a share of both budgets."""
    return dataclasses.replace(
        scenario,
        energy_budget=share * scenario.energy_budget,
        delay_budget=share * scenario.delay_budget,
    )


RESTRICTIONS: dict[str, Restriction] = {
    JOINT: lambda program: program,
    PRETRAINING_ONLY: pretraining_only,
    FINETUNING_ONLY: finetuning_only,
    **LIMITS,
    EQUAL_ROUNDS: equal_rounds,
}
"""The joint program first, then the benchmarks that restrict it."""

SCHEMES = (*(name for name in RESTRICTIONS if name != JOINT), SEPARATE)
"""The names of the benchmarks in their order."""


def schemes_of(bound: Bound) -> tuple[str, ...]:
    """The benchmarks that a bound has a value for."""
    without: tuple[str, ...] = () if bound.finite_without_finetuning else (PRETRAINING_ONLY,)
    if without and not bound.outer:
        without = (*without, SEPARATE)  # its first stage is a program without fine-tuning, too
    return tuple(name for name in SCHEMES if name not in without)


def scheme_programs(
    scenario: Scenario, program: Callable[[Scenario], Program]
) -> dict[str, Program]:
    """The programs of `RESTRICTIONS`, then the two of the stages designed separately.

    These have their shares of the budgets and their own stage's bound as the objective.

    Args:
        scenario: validated.
        program: of a scenario, for a bound of one program.
    """
    joint = program(scenario)
    first = program(with_budget_share(scenario, STAGE_SHARE))
    second = program(with_budget_share(scenario, 1 - STAGE_SHARE))
    return {
        **{name: restrict(joint) for name, restrict in RESTRICTIONS.items()},
        FIRST_STAGE: pretraining_only(first),
        SECOND_STAGE: finetuning_only(second),
    }


def separate_pretraining(
    scenario: Scenario, handed_over: Callable[[np.ndarray, np.ndarray], ArrayLike]
) -> tuple[int, int]:
    """Pre-training rounds and server batch that minimise what is handed to fine-tuning.

    With its share of the budgets, pre-training can afford a fixed number of samples X, whatever
    the rounds: the time per sample is tau = max((kappa c^3 T/E)^(1/3), c/f_max), at which it
    costs as large a share of either budget, and X is the budget that is short over what a sample
    costs. What is handed over is then a function of the whole M alone, with b0 = floor(X/M).

    Args:
        scenario: validated.
        handed_over: of M and b0, both (n,).
    """
    server = scenario.server
    part: Computing = jax.tree.map(np.asarray, two_stage_program(scenario).server)
    balanced = np.cbrt(part.work / np.maximum(1 - costs.drawn(part), np.finfo(float).tiny))
    used = costs.computing(part, np.clip(balanced, part.min_time, part.max_time))
    samples = STAGE_SHARE / float(max(used))
    least = max(int(scenario.min_pretraining_rounds), 1)
    most = max(int(samples / float(server.min_batch)), least)
    rounds = np.unique(np.geomspace(least, most, 200_000).astype(np.int64)).astype(float)
    batch = np.clip(np.floor(samples / rounds), float(server.min_batch), float(server.max_batch))
    best = int(np.argmin(handed_over(rounds, batch)))
    return int(rounds[best]), int(batch[best])
