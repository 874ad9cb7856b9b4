"""Tables of a study made by hand: what the questions compute, without computing."""

import itertools

import numpy as np

from jaxedge.planning.schemes import JOINT
from jaxedge.study import comparison, convergence, growth, phase, setting
from jaxedge.study.scheme_figures import STYLES
from jaxedge.study.sizes import Size
from jaxedge.study.table import Table

SCHEMES = list(STYLES)
TINY = Size(points=2, draws=3, trained=2, trial_rounds=10, grid=6, surface=2, every=10)


def constants(size=TINY):
    """Constants of every task that a study needs."""
    rows = [
        {
            "width": width,
            "degrees": degrees,
            "initial_gap": 2.3,
            "smoothness": 5.0 + width / 50,
            "discrepancy": 0.05 + degrees / 40,
            "server_variance": 12.0,
            "device_variance": 15.0,
        }
        for width, degrees in setting.cases(size)
    ]
    return Table.of(rows)


def along(name):
    """The parameter of a comparison."""
    return next(item for item in comparison.ALONG if item.name == name)


def compared(name, *, bound=None, accuracy=None):
    """A comparison at two points; ``bound`` and ``accuracy`` are functions of (scheme, point)."""
    bound = bound or (lambda scheme, point: (2 - point) * (1 + 0.1 * SCHEMES.index(scheme)))
    accuracy = accuracy or (lambda scheme, point: 0.5 + 0.2 * point - 0.03 * SCHEMES.index(scheme))
    rows = [
        {
            name: (10.0, 40.0)[point],
            "value": (10.0, 40.0)[point],
            "scheme": scheme,
            "draw": draw,
            "bound": bound(scheme, point) * (0.9, 1.0, 1 / 0.9)[draw],
            "pretraining_rounds": 10.0,
            "finetuning_rounds": 20.0,
            "energy_J": 9.0,
            "delay_s": 8.0,
            "measured": 0.3 * bound(scheme, point) if draw < 2 else np.nan,
            "accuracy": accuracy(scheme, point) + 0.01 * draw if draw < 2 else np.nan,
        }
        for point, scheme, draw in itertools.product(range(2), SCHEMES, range(3))
    ]
    return Table.of(rows)


def grown():
    """Budgets that grow: more rounds of both stages, none of fine-tuning at the smallest."""
    rows = [
        {
            "budget": budget,
            "value": value,
            "draw": draw,
            "stage": stage,
            "rounds": 1.0 if stage == "fine-tuning" and value == 10 else value * (1 + draw),
            "batch": np.nan if stage == "fine-tuning" and value == 10 else value / 5,
            "clock_Hz": np.nan if stage == "fine-tuning" and value == 10 else 1e8 * value,
            "power_W": np.nan if value == 10 else value / 1000,
        }
        for budget, value, draw, stage in itertools.product(
            growth.BUDGETS, (10.0, 30.0, 90.0), range(2), growth.STAGES
        )
    ]
    return Table.of(rows)


def phases(*, factor=1.0, off=1.0):
    """Pre-training pays below d2 = 10 factor/delay; switches are ``off`` times that."""
    d2, delay = np.geomspace(0.02, 2.0, 12), np.geomspace(8.0, 125.0, 12)
    none = {"pretraining_rounds": np.nan, "finetuning_rounds": np.nan}
    rows = []
    for t, d in itertools.product(delay, d2):
        ratio = d * t / (10 * factor)
        told = {
            "pretraining_rounds": 300.0 if ratio < 1 else 0.0,
            "finetuning_rounds": 100.0 if ratio > 0.5 else 1.0,
        }
        rows.append({"kind": "design", "discrepancy": d, "delay_s": t, "energy_J": 60.0, **told})
    for energy, t in itertools.product(phase.ENERGIES, delay):
        at = 10 * factor / t * (energy / 60.0) ** 0.1
        rows.append(
            {"kind": "threshold", "discrepancy": at, "delay_s": t, "energy_J": energy, **none}
        )
    for t in delay[::3]:
        at = off * 10 * factor / t
        rows.append({"kind": "switch", "discrepancy": at, "delay_s": t, "energy_J": 60.0, **none})
    return Table.of(rows)


def traded():
    """Accuracies that grow with both budgets, the joint design ahead of the others."""
    rows = [
        {
            "energy_budget_J": energy,
            "delay_budget_s": delay,
            "scheme": scheme,
            "seed": seed,
            "energy_J": 0.9 * energy,
            "delay_s": 0.9 * delay,
            "accuracy": 0.95 - 2 / energy - 2 / delay - 0.02 * SCHEMES.index(scheme) + 0.01 * seed,
        }
        for energy, delay, scheme, seed in itertools.product(
            (10.0, 50.0, 250.0), (10.0, 40.0, 120.0), SCHEMES, range(2)
        )
    ]
    return Table.of(rows)


def converged(*, last=JOINT):
    """Accuracy that rises with what is spent; ``last`` ends highest."""
    rows = [
        {
            "budget": budget,
            "spent": share * most,
            "scheme": scheme,
            "draw": draw,
            "accuracy": 0.1 + share * (0.8 if scheme == last else 0.6) - 0.01 * draw,
            "loss": 2.3 - share,
        }
        for (budget, most), scheme, draw, share in itertools.product(
            {"delay_s": convergence.DELAY, "energy_J": convergence.ENERGY}.items(),
            SCHEMES,
            range(2),
            np.linspace(0, 1, 5),
        )
    ]
    return Table.of(rows)


def data_of(name):
    """The table of a question."""
    made = {"growth": grown, "phase": phases, "surface": traded, "convergence": converged}
    return made[name]() if name in made else compared(name)
