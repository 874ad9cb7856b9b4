"""Datasets as sweeps give them, made by hand from simple formulas."""

import numpy as np
import xarray

SCHEMES = ("pre-training only", "fine-tuning only", "fixed batches", "separate stages")
_UNITS = {"energy": "J", "delay": "s", "device_power": "W"}


def _coordinate(name, values, unit, **told):
    return xarray.Variable((name,), values, {"units": unit, "long_name": name, **told})


def budgets(energies=24, delays=18):
    """Over a logarithmic energy budget and an even delay budget; little of both is infeasible."""
    energy = np.geomspace(100.0, 1000.0, energies)
    delay = np.linspace(50.0, 600.0, delays)
    e, d = np.meshgrid(energy, delay, indexing="ij")
    infeasible = e * d < 15_000
    bound = np.where(infeasible, np.nan, 0.05 + 40 / e + 20 / d)
    first = np.where(infeasible, np.nan, np.where(d < 0.4 * e, 1.0, e / 10))
    second = np.where(infeasible, np.nan, np.where(d > 1.5 * e, 1.0, d / 2))
    dims = ("energy_budget", "delay_budget")
    told = {"units": "1", "long_name": "value"}
    flags = {"flag_values": [0, 1, 2, 3], "flag_meanings": "optimal feasible infeasible failed"}
    made = {
        "bound": (dims, bound, told),
        "pretraining_rounds": (dims, first, told),
        "finetuning_rounds": (dims, second, told),
        "energy": (dims, np.where(infeasible, np.nan, 0.99 * e), {**told, "units": "J"}),
        "delay": (dims, np.where(infeasible, np.nan, 0.98 * d), {**told, "units": "s"}),
        "status": (dims, np.where(infeasible, 2, 0).astype("i1"), flags),
        "device_power": (
            (*dims, "device"),
            np.multiply.outer(1 / e, [1.0, 2.0, 4.0]),
            {**told, "units": "W"},
        ),
    }
    return xarray.Dataset(
        made,
        coords={
            "energy_budget": _coordinate("energy_budget", energy, "J"),
            "delay_budget": _coordinate("delay_budget", delay, "s"),
            "device": np.arange(3),
        },
    )


def schemes(points=10):
    """Over the energy budget alone, with benchmark designs that are worse by a factor."""
    cut = budgets(points).isel(delay_budget=-1, drop=True)
    factors = np.array([1.3, 6.0, 1.05, 1.06])
    values = np.multiply.outer(cut["bound"].values, factors)
    values[: points // 3, 3] = np.nan
    told = {"units": "1", "long_name": "bound of a benchmark design"}
    return cut.assign(scheme_bound=(("energy_budget", "scheme"), values, told)).assign_coords(
        scheme=list(SCHEMES)
    )


def channels(points=9, draws=64):
    """Over the energy budget and random channels; some draws are infeasible at little energy."""
    energy = np.linspace(100.0, 1000.0, points)
    gains = np.random.default_rng(0).exponential(size=draws)
    bound = 0.05 + np.divide.outer(40 / energy, gains + 0.5)
    bound[0, gains < 0.2] = np.nan
    told = {"units": "1", "long_name": "bound"}
    return xarray.Dataset(
        {"bound": (("energy_budget", "channel"), bound, told)},
        coords={
            "energy_budget": _coordinate("energy_budget", energy, "J"),
            "channel": _coordinate("channel", np.arange(draws), "1", random=1),
        },
    )


def statistics():
    """What `channels` holds, as statistics over its draws."""
    bound = channels()["bound"]
    ends = bound.quantile([0.05, 0.5, 0.95], "channel").transpose(..., "quantile")
    return xarray.Dataset(
        {
            "bound_mean": bound.mean("channel", keep_attrs=True),
            "bound_std": bound.std("channel"),
            "bound_quantile": ends,
            "outage": bound.isnull().mean("channel"),
            "count": bound.notnull().sum("channel"),
        }
    )


def zipped():
    """One axis along which two fields change together."""
    cut = budgets(8, 8)
    along = {name: ("both", cut[name].values) for name in ("energy_budget", "delay_budget")}
    bound = ("both", np.diagonal(cut["bound"].values), {"units": "1"})
    made = xarray.Dataset({"bound": bound}, coords=along)
    made["energy_budget"].attrs["units"], made["delay_budget"].attrs["units"] = "J", "s"
    return made
