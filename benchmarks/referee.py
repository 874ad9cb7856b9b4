"""One float64 referee for all solvers: bound, worst violation and gap of a design, as it stands.

Each number is computed twice, by jaxedge's functions and by the restatement in plain NumPy, and the
worse one counts; where the two disagree the design is shown as ``disputed``. A design that breaks a
limit by more than 1e-6 is no answer. One that is less outside is drawn back for everybody alike
(`drawn_back`): boxes are clipped and both stages' rounds cut by the excess over the budgets, but
not below the fewest.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import restatement

from jaxedge.bounds.two_stage import two_stage_bound, two_stage_program
from jaxedge.program.program import Program
from jaxedge.program.responses import Prices
from jaxedge.scenario.scenario import Devices, Scenario, Server
from jaxedge.system.allocation import Allocation, StageAllocation
from jaxedge.system.constraints import violation

TOLERANCE = 1e-6
"""Relative violation beyond which a design is no answer."""
AGREEMENT = 1e-9
"""Relative difference between the two computations that rounding explains."""

programs_of = jax.jit(jax.vmap(two_stage_program))
_bounds = jax.jit(jax.vmap(two_stage_bound))
_violations = jax.jit(jax.vmap(violation))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What B designs are worth."""

    bound: np.ndarray
    """(B,) inf where the design is no answer."""
    violation: np.ndarray
    """(B,) largest relative excess over a limit, before drawing back."""
    gap: np.ndarray
    """(B,) (bound - certified lower bound)/lower bound; inf where there is no answer."""
    disputed: np.ndarray
    """(B,) bool: the two computations disagree."""

    def within(self, gap: float) -> np.ndarray:
        """(B,) bool: answers that are at most ``gap`` above the lower bound."""
        return self.gap <= gap


def judge(
    scenarios: Scenario, designs: Allocation, certified: np.ndarray, *, integer: bool = False
) -> Verdict:
    """The verdict on designs with a leading axis (B,), nan where a solver gave none.

    Args:
        scenarios: validated, stacked.
        designs: in original units.
        certified: (B,) lower bounds that no design is below.
        integer: rounds and batches must be whole.
    """
    outside, disputed = _violation(scenarios, designs, integer)
    kept = designs if integer else drawn_back(scenarios, designs)
    left, also = _violation(scenarios, kept, integer)
    bounds, again = _both(_bounds, restatement.two_stage_bound, scenarios, kept)
    stands = (outside <= TOLERANCE) & (left <= TOLERANCE) & np.isfinite(bounds)
    bound = np.where(stands, np.maximum(bounds, again), np.inf)
    with np.errstate(invalid="ignore"):
        differ = np.abs(bounds - again) > AGREEMENT * np.abs(bounds)
    return Verdict(
        bound=bound,
        violation=outside,
        gap=(bound - certified) / certified,
        disputed=stands & (differ | disputed | also),
    )


def drawn_back(scenarios: Scenario, designs: Allocation) -> Allocation:
    """Designs with boxes clipped and rounds cut by the excess, where that is at most 1e-6."""
    clipped = dataclasses.replace(
        designs,
        server=_clipped(scenarios.server, designs.server),
        devices=_clipped(scenarios.devices, designs.devices),
    )
    energy, delay = restatement.energy_and_delay(scenarios, clipped)
    excess = np.max([energy / scenarios.energy_budget, delay / scenarios.delay_budget], axis=0)
    cut = np.where((excess > 1) & (excess <= 1 + 2 * TOLERANCE), 1 / excess, 1.0)

    def rounds(name: str) -> np.ndarray:
        given = np.asarray(getattr(designs, name))
        return np.maximum(given * cut, np.minimum(given, getattr(scenarios, f"min_{name}")))

    names = ("pretraining_rounds", "finetuning_rounds")
    return dataclasses.replace(clipped, **{name: rounds(name) for name in names})


def certificate(scenarios: Scenario, programs: Program, prices: Prices) -> np.ndarray:
    """(B,) the lower bound at a solver's scaled prices, by the restatement alone."""
    lam, nus, scale = (np.asarray(x) for x in (prices.energy, prices.device_time, programs.scale))
    return restatement.lower_bound(
        scenarios,
        np.maximum(lam, 0) * scale / np.asarray(scenarios.energy_budget),
        np.maximum(nus, 0) * (scale / np.asarray(scenarios.delay_budget))[:, None],
    )


def proves_infeasible(scenarios: Scenario, device_prices: np.ndarray) -> np.ndarray:
    """(B,) bool: these prices of time (B, K), J/s, prove that no design keeps both budgets."""
    late = restatement.shortest_delay(scenarios) > scenarios.delay_budget
    return late | (
        restatement.least_energy_bound(scenarios, device_prices) > scenarios.energy_budget
    )


def prices_of_time(scenarios: Scenario, steps: int) -> np.ndarray:
    """(B, K) prices of time in J/s at which the fewest rounds just keep the delay, by bisection.

    Outside, the devices' common round time is bisected; inside, the price at which each device
    takes that time. A device that is flat out has no such price: the slowest then gets what makes
    the proof best. What is left of accuracy only weakens the proof.
    """
    devices, m, n = scenarios.devices, *_fewest(scenarios)
    fastest = restatement.device_times(scenarios, np.full(devices.gain.shape, 1e250))
    longest = scenarios.delay_budget / np.maximum(n, 1e-9)
    low, high = np.log(fastest.max(axis=1)), np.log(np.maximum(longest, fastest.max(axis=1)))
    prices = np.zeros_like(fastest)
    for _ in range(steps):
        middle = (low + high) / 2
        prices = _prices_for(scenarios, np.exp(middle), steps)
        delay = _delay(scenarios, prices, m, n, np.exp(middle))
        late = delay > scenarios.delay_budget
        low, high = np.where(late, low, middle), np.where(late, middle, high)
    prices = _prices_for(scenarios, np.exp(high), steps)
    slowest = np.arange(prices.shape[1]) == fastest.argmax(axis=1)[:, None]
    return _with_best_extra(scenarios, prices, slowest, 2 * steps)


def _with_best_extra(
    scenarios: Scenario, prices: np.ndarray, slowest: np.ndarray, steps: int
) -> np.ndarray:
    """Prices with an extra for the slowest device that maximises the (concave) proof."""

    def with_extra(log_extra: np.ndarray) -> np.ndarray:
        return prices + np.where(slowest, np.exp(log_extra)[:, None], 0.0)

    def proof(log_extra: np.ndarray) -> np.ndarray:
        return restatement.least_energy_bound(scenarios, with_extra(log_extra))

    low, high = (np.full(len(prices), np.log(x)) for x in (1e-30, 1e30))
    for _ in range(steps):  # thirds of the interval
        a, b = low + (high - low) / 3, high - (high - low) / 3
        rising = proof(a) < proof(b)
        low, high = np.where(rising, a, low), np.where(rising, high, b)
    return with_extra((low + high) / 2)


def _prices_for(scenarios: Scenario, target: np.ndarray, steps: int) -> np.ndarray:
    """(B, K) prices at which each device takes the target time, 0 at most where it is faster."""
    shape = scenarios.devices.gain.shape
    low, high = np.full(shape, np.log(1e-30)), np.full(shape, np.log(1e30))
    for _ in range(steps):
        middle = (low + high) / 2
        slow = restatement.device_times(scenarios, np.exp(middle)) > target[:, None]
        low, high = np.where(slow, middle, low), np.where(slow, high, middle)
    return np.exp((low + high) / 2)


def _delay(
    scenarios: Scenario, prices: np.ndarray, m: np.ndarray, n: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """(B,) s of the whole plan, the server and the broadcast answering the sum of the prices."""
    nu, server = prices.sum(axis=1), scenarios.server
    down = scenarios.download_bits * restatement.LN2 / server.bandwidth
    weakest = scenarios.devices.downlink_gain.min(axis=-1)
    down = down / restatement.exponent(server, weakest, scenarios.noise_density, (1.0, nu))
    return m * restatement.pace_of(server, 1.0, nu) * server.min_batch + n * (down + target)


def _fewest(scenarios: Scenario) -> tuple[np.ndarray, np.ndarray]:
    return scenarios.min_pretraining_rounds, scenarios.min_finetuning_rounds


def _violation(
    scenarios: Scenario, designs: Allocation, integer: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(B,) the worse of both computations, and whether they disagree where both are small."""
    ours, plain = _both(_violations, restatement.violation, scenarios, designs)
    if integer:
        plain = np.maximum(plain, restatement.violation(scenarios, designs, integer=True))
    worse = np.maximum(ours, plain)
    with np.errstate(invalid="ignore"):
        differ = np.abs(np.maximum(ours, 0) - np.maximum(plain, 0)) > AGREEMENT
    return worse, differ & (worse <= 1)


def _both(ours, plain, scenarios: Scenario, designs: Allocation) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN001
    with jax.enable_x64(True), np.errstate(all="ignore"):
        return np.asarray(ours(scenarios, designs)), plain(scenarios, designs)


def _clipped(part: Server | Devices, chosen: StageAllocation) -> StageAllocation:
    slack = 1 + 2 * TOLERANCE  # what is further outside stays outside

    def below(value: np.ndarray, limit: np.ndarray) -> np.ndarray:
        value = np.asarray(value)
        return np.where(value <= limit * slack, np.minimum(value, limit), value)

    batch = below(chosen.batch, part.max_batch)
    few = (batch < part.min_batch) & (batch >= part.min_batch / slack)
    return StageAllocation(
        batch=np.where(few, part.min_batch, batch),
        clock=below(chosen.clock, part.max_clock),
        power=below(chosen.power, part.max_power),
    )
