"""The Charnes-Cooper program as a conic one, scaled by a reference design: for conic solvers.

Totals and rounds are divided by M eta0 + N eta (docs/theory.md), every variable is in units of a
reference design's and every row of the size 1. Variables::

    shared      m, n, s, X0, T0, D, R, e0 (energies), w, q0 (M²/X0)
    device k    X, C, U, e, w, q                         R is the devices' total time

    minimise    2 Delta s + eta0 d2 m + L eta0² s0 q0 + L eta² sum w_k² s_k q_k
    subject to  m eta0 + n eta = 1, budgets, C_k + U_k <= R, boxes   (linear)
                X <= e^(1/3) C^(2/3)                                 (power cones)
                w >= U exp(a n/U - x_ref)                            (exponential cones)
                m² <= q0 X0,   n² <= q_k X_k                         (second-order cones)

The exponential cone is shifted by the reference exponent, so that w is of the size of U. Rows
follow b - A z in {0}, [0, inf), second-order, exponential and power cones, in this order.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import sparse

from jaxedge.scenario.scenario import Scenario
from peers.parameters import named, none_found, row_of, starting_choices

M, N, S, X0, T0, D, R, E0, W0, Q0 = range(10)
SHARED, EACH = 10, 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conic:
    """min q z with b - A z in the cones: one equality, ``linear`` rows, then cones of three."""

    q: np.ndarray
    matrix: sparse.csc_matrix
    b: np.ndarray
    linear: int
    """Rows b - A z >= 0."""
    count: int
    """Devices; there are 1 + count cones of each kind."""
    units: np.ndarray
    """Size of each variable in the totals' units."""


def conic_of(scenario: Scenario) -> Conic:
    """One scenario's program; the sparsity pattern depends on K alone."""
    count = scenario.devices.gain.size
    s = named(row_of(scenario), count)
    units, exponents = _reference(scenario, s, count)
    rows = _Rows(units)
    task = {name.partition(".")[2]: x for name, x in s.items() if name.startswith("learning.")}
    eta0, eta = task["server_learning_rate"], task["device_learning_rate"]
    rows.add(1.0, {M: eta0, N: eta})
    equalities = rows.size
    _linear(rows, s, count, exponents)
    linear = rows.size - equalities
    device = [SHARED + EACH * k for k in range(count)]
    ones = np.ones_like(s["devices.gain"])
    for rounds, samples, q in [(M, X0, Q0)] + [(N, i, i + 5) for i in device]:
        a, c = 1 / units[q], 1 / units[samples]  # (q + X, q - X, 2 m), each in its own unit
        rows.add(0.0, {q: -a, samples: -c})
        rows.add(0.0, {q: -a, samples: c})
        rows.add(0.0, {rounds: -2.0}, units[rounds])
    nats = [s["download_bits"] * np.log(2) / s["server.bandwidth"]]
    nats += list(s["upload_bits"] * np.log(2) / s["devices.bandwidth"])
    for a, x, time, w in zip(
        nats, exponents, [D, *[i + 2 for i in device]], [W0, *[i + 4 for i in device]], strict=True
    ):
        size = units[time]
        rows.add(0.0, {N: -a, time: x}, size)
        rows.add(0.0, {time: -1.0}, size)
        rows.add(0.0, {w: -1.0}, size)
    work = [_work(s, "server", 1.0), *_work(s, "devices", ones)]
    for kappa, samples, time, e in zip(
        work,
        [X0, *device],
        [T0, *[i + 1 for i in device]],
        [E0, *[i + 3 for i in device]],
        strict=True,
    ):
        # e >= kappa X³/C², with all three of size 1: the reference's own energy is e's unit.
        ratio = (units[e] / kappa * units[time] ** 2) ** (1 / 3)
        rows.add(0.0, {e: -1.0}, units[e])
        rows.add(0.0, {time: -1.0}, units[time])
        rows.add(0.0, {samples: -1.0}, ratio)
    matrix, b = rows.matrix()
    return Conic(
        q=_objective(s, task, units, count),
        matrix=matrix,
        b=b,
        linear=linear,
        count=count,
        units=units,
    )


def choices_of(conic: Conic, scenario: Scenario, z: np.ndarray) -> np.ndarray:
    """(5+3K,) the design of a solution; powers from the transmission times."""
    if not np.isfinite(z).all():
        return none_found(conic.count)
    s, y = named(row_of(scenario), conic.count), z * conic.units
    each = y[SHARED:].reshape(conic.count, EACH).T
    with np.errstate(all="ignore"):
        m, n = y[M] / y[S], y[N] / y[S]
        own = s["server.cycles_per_sample"] * y[X0] / y[T0]
        clock = s["devices.cycles_per_sample"] * each[0] / each[1]
        noise, weakest = s["noise_density"], s["devices.downlink_gain"].min()
        nats0 = s["download_bits"] * np.log(2) / s["server.bandwidth"]
        nats = s["upload_bits"] * np.log(2) / s["devices.bandwidth"]
        power0 = noise * s["server.bandwidth"] / weakest * np.expm1(nats0 * y[N] / y[D])
        power = noise * s["devices.bandwidth"] / s["devices.gain"]
        power = power * np.expm1(nats * y[N] / each[2])
        shared = [m, n, y[X0] / y[M], own, power0]
        return np.concatenate([shared, each[0] / y[N], clock, power])


class _Rows:
    """Rows b - A z, entered in the totals' units and kept in the variables' own."""

    def __init__(self, units: np.ndarray) -> None:
        self.units = units
        self.size = 0
        self._b: list[float] = []
        self._entries: list[tuple[int, int, float]] = []

    def add(self, b: float, terms: dict[int, float], size: float = 1.0) -> None:
        """The row (b - sum terms z)/size."""
        self._b.append(b / size)
        self._entries += [(self.size, j, a * self.units[j] / size) for j, a in terms.items()]
        self.size += 1

    def matrix(self) -> tuple[sparse.csc_matrix, np.ndarray]:
        rows, columns, values = zip(*self._entries, strict=True)
        shape = (self.size, len(self.units))
        return sparse.csc_matrix((values, (rows, columns)), shape=shape), np.array(self._b)


def _linear(rows: _Rows, s: dict, count: int, exponents: np.ndarray) -> None:
    """Budgets, devices' times and all boxes."""
    device = [SHARED + EACH * k for k in range(count)]
    u, noise = rows.units, s["noise_density"]
    energy, delay = s["energy_budget"] * u[S], s["delay_budget"] * u[S]
    # Sending costs (noise width/gain) (w e^x_ref - U).
    sent = {"server": noise * s["server.bandwidth"] / s["devices.downlink_gain"].min()}
    sends = noise * s["devices.bandwidth"] / s["devices.gain"]
    terms = {E0: 1.0, W0: sent["server"] * np.exp(exponents[0]), D: -sent["server"]}
    for k, i in enumerate(device):
        terms |= {i + 3: 1.0, i + 4: sends[k] * np.exp(exponents[1 + k]), i + 2: -sends[k]}
    rows.add(0.0, terms | {S: -s["energy_budget"]}, energy)
    rows.add(0.0, {T0: 1.0, D: 1.0, R: 1.0, S: -s["delay_budget"]}, delay)
    for i in device:
        rows.add(0.0, {i + 1: 1.0, i + 2: 1.0, R: -1.0}, u[R])
    rows.add(0.0, {M: -1.0, S: s["min_pretraining_rounds"]}, u[M])
    rows.add(0.0, {N: -1.0, S: s["min_finetuning_rounds"]}, u[N])
    rounds = [(M, X0, T0, "server", None)]
    rounds += [(N, i, i + 1, "devices", k) for k, i in enumerate(device)]
    for r, samples, time, part, k in rounds:
        least, most, pace = (
            x if k is None else x[k]
            for x in (
                s[f"{part}.min_batch"],
                s[f"{part}.max_batch"],
                s[f"{part}.cycles_per_sample"] / s[f"{part}.max_clock"],
            )
        )
        rows.add(0.0, {samples: -1.0, r: least}, u[samples])
        rows.add(0.0, {samples: 1.0, r: -most}, most * u[r])
        rows.add(0.0, {samples: pace, time: -1.0}, u[time])
    nats = s["upload_bits"] * np.log(2) / s["devices.bandwidth"]
    most = np.log1p(s["devices.max_power"] * s["devices.gain"] / (noise * s["devices.bandwidth"]))
    for k, i in enumerate(device):
        rows.add(0.0, {N: nats[k] / most[k], i + 2: -1.0}, u[i + 2])
    nats0 = s["download_bits"] * np.log(2) / s["server.bandwidth"]
    snr = s["server.max_power"] / sent["server"]
    rows.add(0.0, {N: nats0 / np.log1p(snr), D: -1.0}, u[D])


def _objective(s: dict, task: dict, units: np.ndarray, count: int) -> np.ndarray:
    """Costs of the variables, over the largest: their scale does not matter."""
    eta0, eta, smooth = (
        task[name] for name in ("server_learning_rate", "device_learning_rate", "smoothness")
    )
    q = np.zeros(SHARED + EACH * count)
    q[S], q[M] = 2 * task["initial_gap"], eta0 * task["discrepancy"]
    q[Q0] = smooth * eta0**2 * task["server_variance"]
    q[SHARED + 5 :: EACH] = smooth * eta**2 * task["device_weight"] ** 2 * task["device_variance"]
    q = q * units
    return q / np.abs(q).max()


def _work(s: dict, part: str, one: float | np.ndarray) -> np.ndarray:
    return one * s[f"{part}.capacitance"] * s[f"{part}.cycles_per_sample"] ** 3


def _reference(scenario: Scenario, s: dict, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Units of the variables, and the reference exponents (1+K,), broadcast first."""
    choices = starting_choices(scenario)
    m, n, b0, f0, p0 = choices[:5]
    b, f, p = choices[5:].reshape(3, count)
    below = m * s["learning.server_learning_rate"] + n * s["learning.device_learning_rate"]
    m, n = m / below, n / below
    noise, width = s["noise_density"], s["devices.bandwidth"]
    x0 = np.log1p(p0 * s["devices.downlink_gain"].min() / (noise * s["server.bandwidth"]))
    x = np.log1p(p * s["devices.gain"] / (noise * width))
    upload = s["upload_bits"] * np.log(2) / (width * x)
    down = s["download_bits"] * np.log(2) / (s["server.bandwidth"] * x0)
    time0 = s["server.cycles_per_sample"] * b0 / f0
    time = s["devices.cycles_per_sample"] * b / f
    energy0 = _work(s, "server", 1.0) * b0**3 / time0**2
    energy = _work(s, "devices", np.ones(count)) * b**3 / time**2
    shared = [m, n, 1 / below, m * b0, m * time0, n * down, n * (time + upload).max()]
    shared += [m * energy0, n * down, m / b0]
    each = n * np.stack([b, time, upload, energy, upload, 1 / b])
    return np.concatenate([shared, each.T.ravel()]), np.concatenate([[x0], x])
