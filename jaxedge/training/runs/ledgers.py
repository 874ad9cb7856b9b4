"""The ledger: every round's joules and seconds, by the system model that planned it.

A round's charges depend on the design and the channel alone, never on the weights, so the whole
ledger is known before training begins, and so is how many rounds the budgets pay for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxedge.machine.trees import concatenate
from jaxedge.scenario.scenario import Scenario
from jaxedge.system.allocation import Allocation
from jaxedge.system.round_costs import round_costs

CHANNELS = ("planned", "rayleigh")
"""The scenario's gains in every round, or times a fresh exponential draw of mean 1 (each link)."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Ledger:
    """R = M + N rounds in the order in which they run, NumPy arrays outside jit."""

    fine_tuning: Array
    """(R,) bool: the stage of each round."""
    server_energy: Array
    """(R,) J of the server's computing."""
    broadcast_energy: Array
    """(R,) J."""
    compute_energy: Array
    """(R, K) J of each device's computing."""
    upload_energy: Array
    """(R, K) J of each device's upload."""
    time: Array
    """(R,) s: the server's computing, or the broadcast and the slowest device."""
    device_time: Array
    """(R, K) s from the broadcast to the end of each device's upload."""

    def __len__(self) -> int:
        return len(self.time)

    @property
    def energy(self) -> np.ndarray:
        """(R,) J of the whole system in each round."""
        devices = self.compute_energy.sum(axis=1) + self.upload_energy.sum(axis=1)
        return np.asarray(self.server_energy + self.broadcast_energy + devices)

    @property
    def spent(self) -> tuple[float, float]:
        """J and s of all rounds."""
        return float(self.energy.sum()), float(self.time.sum())

    def first(self, rounds: int) -> Ledger:
        """The ledger of the first so many rounds."""
        cut: Ledger = jax.tree.map(lambda x: x[:rounds], self)
        return cut

    @staticmethod
    def joined(parts: Sequence[Ledger]) -> Ledger:
        """The rounds of several ledgers, one after the other."""
        return concatenate(parts)

    def affordable(self, energy_budget: float, delay_budget: float) -> int:
        """How many of the rounds both budgets pay for: the guard stops before the next one.

        A relative 1e-9 of either budget is taken for rounding.
        """
        slack = 1 + 1e-9
        paid = (np.cumsum(self.energy) <= energy_budget * slack) & (
            np.cumsum(self.time) <= delay_budget * slack
        )
        return int(np.argmin(paid)) if not paid.all() else len(paid)


def check_channel(channel: str) -> None:
    """Make sure that a channel is known.

    Raises:
        ValueError: if it is not.
    """
    if channel not in CHANNELS:
        raise ValueError(f"channel: {channel!r} is not known: must be one of {CHANNELS}")


def ledger(
    scenario: Scenario,
    allocation: Allocation,
    *,
    channel: str = "planned",
    seed: int = 0,
    start: int = 0,
) -> Ledger:
    """Charge every round of a whole design.

    Args:
        scenario: one valid scenario.
        allocation: whole rounds, fields of shape () and (K,).
        channel: one of `CHANNELS`.
        seed: of the fading; round r draws the same whatever the other rounds are.
        start: number of the first round, where others have gone before.

    Raises:
        ValueError: if the channel is unknown, rounds are not whole, or K differs.
    """
    check_channel(channel)
    counts = _whole_rounds(allocation)
    devices = len(np.asarray(scenario.devices.gain))
    if np.shape(allocation.devices.batch) != (devices,):
        raise ValueError(
            f"the design is for {np.size(allocation.devices.batch)} devices and the scenario has "
            f"{devices}: must be the same"
        )
    with jax.enable_x64(True):
        rounds = np.arange(sum(counts))
        charge = _charge_fading if channel == "rayleigh" else _charge_planned
        fine_tuning = rounds >= counts[0]
        charged = charge(scenario, allocation, jax.random.key(seed), start + rounds, fine_tuning)
        found: Ledger = jax.tree.map(np.asarray, charged)
    return found


def _whole_rounds(allocation: Allocation) -> tuple[int, int]:
    counts = []
    for name in ("pretraining_rounds", "finetuning_rounds"):
        value = float(np.asarray(getattr(allocation, name)))
        if not (value >= 0 and value == int(value)):
            raise ValueError(f"{name} = {value!r} rounds: must be a whole number >= 0 to be run")
        counts.append(int(value))
    return counts[0], counts[1]


@jax.jit
def _charge_planned(
    scenario: Scenario, allocation: Allocation, key: Array, rounds: Array, fine_tuning: Array
) -> Ledger:
    del key
    return jax.vmap(lambda _, fine: _charge(scenario, allocation, fine))(rounds, fine_tuning)


@jax.jit
def _charge_fading(
    scenario: Scenario, allocation: Allocation, key: Array, rounds: Array, fine_tuning: Array
) -> Ledger:
    def one(number: Array, fine: Array) -> Ledger:
        return _charge(_faded(scenario, jax.random.fold_in(key, number)), allocation, fine)

    return jax.vmap(one)(rounds, fine_tuning)


def _faded(scenario: Scenario, key: Array) -> Scenario:
    """Both directions of every link times independent exponential draws: Rayleigh fading."""
    devices = scenario.devices
    downlink = devices.gain if devices.downlink_gain is None else devices.downlink_gain
    draws = jax.random.exponential(key, (2, *jnp.shape(devices.gain)))
    return dataclasses.replace(
        scenario,
        devices=dataclasses.replace(
            devices, gain=devices.gain * draws[0], downlink_gain=downlink * draws[1]
        ),
    )


def _charge(scenario: Scenario, allocation: Allocation, fine: Array) -> Ledger:
    """One round; the other stage's charges are zero."""
    first, second = 1.0 - fine, 1.0 * fine
    spent = round_costs(scenario, allocation)
    device_time = spent.devices.time + spent.uploads.time
    round_time = spent.broadcast.time + jnp.max(device_time)
    return Ledger(
        fine_tuning=fine,
        server_energy=spent.server.energy * first,
        broadcast_energy=spent.broadcast.energy * second,
        compute_energy=spent.devices.energy * second,
        upload_energy=spent.uploads.energy * second,
        time=jnp.where(fine, round_time, spent.server.time),
        device_time=(spent.broadcast.time + device_time) * second,
    )
