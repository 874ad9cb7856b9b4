"""What is drawn of a sweep's dataset: values along axes, random draws reduced, stages told apart.

Draws that have no design are left out of means and quantiles; the share of them is told.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxedge.answers.batch import STATUSES
from jaxedge.answers.status import Status
from jaxedge.words.choices import choice, unknown
from jaxedge.words.quantities import prefixed

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

BANDS = ("quantile", "confidence")
"""What a band shows: 5 % to 95 % of the draws, or a 95 % interval of their mean."""
_SHARES, _NORMAL = (0.05, 0.95), 1.96
_MORE = 0.5
"""Rounds by which a stage must exceed its minimum to count as worth running."""
STAGES = ("pre-training only", "both stages", "fine-tuning only", "fewest rounds")
"""Which stage gets more rounds than it must, in the order of the codes of `winners`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """How numbers are shown on an axis."""

    label: str
    """Words and unit."""
    factor: float = 1.0
    """Shown number per number."""
    log: bool = False
    ticks: tuple[str, ...] | None = None
    """Names in place of numbers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """A value over the axes that are not random."""

    centre: DataArray
    """Mean over the draws, or the value itself."""
    low: DataArray | None = None
    high: DataArray | None = None
    outage: float = 0.0
    """The largest share of draws without a design."""


def words(name: str) -> str:
    """A name as people read it: "devices.max_power" is "device max power"."""
    plain = name.removesuffix("_mean").replace("__", ".").replace("devices.", "device ")
    plain = plain.removeprefix("elasticity_").replace("learning.", "").replace(".", " ")
    text = plain.replace("_", " ").replace("pretraining", "pre-training")
    text = text.replace("finetuning", "fine-tuning")
    return f"elasticity to {text}" if name.startswith("elasticity_") else text


def scale_of(array: DataArray, values: np.ndarray, *, log: bool) -> Scale:
    """Label, factor and kind of an axis that shows ``values`` of an array."""
    unit = str(array.attrs.get("units", "1"))
    finite = np.abs(values[np.isfinite(values)])
    largest = finite.max(initial=0.0)
    positive = finite[finite > 0]
    if log and positive.size:
        largest = float(np.sqrt(positive.min() * positive.max()))
    factor, symbol = prefixed(float(largest), unit)
    label = words(str(array.name))
    return Scale(label=label if symbol == "1" else f"{label} ({symbol})", factor=factor, log=log)


def axis_of(dataset: Dataset, name: str) -> tuple[str, np.ndarray, Scale]:
    """Dimension, positions and scale of an axis by its name or that of a field along it.

    Raises:
        ValueError: if there is none of this name.
    """
    choice("axis", name, axes_of(dataset))
    if name not in dataset.coords:
        fields = [key for key, one in dataset.coords.items() if one.dims == (name,)]
        if not fields:
            return name, np.arange(dataset.sizes[name]), Scale(label=words(name))
        name = str(fields[0])
    array = dataset.coords[name]
    dimension, values = str(array.dims[0]), np.asarray(array.values)
    if values.dtype.kind not in "fiu":
        names = tuple(str(value) for value in values)
        return dimension, np.arange(len(values)), Scale(label=words(name), ticks=names)
    values = values.astype(np.float64)
    return dimension, values, scale_of(array, values, log=is_geometric(values))


def axes_of(dataset: Dataset) -> list[str]:
    """Names of the axes and of the fields along them."""
    along = [str(key) for key, one in dataset.coords.items() if one.ndim == 1]
    return list(dict.fromkeys([*(str(name) for name in dataset.dims), *along]))


def is_geometric(values: np.ndarray) -> bool:
    """Whether values are spaced by a common factor and not evenly."""
    if len(values) < 3 or np.any(values <= 0):
        return False
    ratios, steps = values[1:] / values[:-1], np.diff(values)
    return bool(np.allclose(ratios, ratios[0], rtol=1e-6) and not np.allclose(steps, steps[0]))


def is_random(dataset: Dataset, dimension: str) -> bool:
    """Whether an axis is one of draws."""
    return dimension in dataset.coords and bool(dataset.coords[dimension].attrs.get("random", 0))


def fixed(dataset: Dataset, at: Mapping[str, Any]) -> Dataset:
    """The dataset at given values of axes: the nearest there are.

    Raises:
        ValueError: naming an axis or value that is not there.
    """
    for name, value in at.items():
        dimension, values, scale = axis_of(dataset, name)
        if scale.ticks is not None:
            position = scale.ticks.index(choice(f"value of {name}", str(value), scale.ticks))
        else:
            position = int(np.argmin(np.abs(values - _number(name, value))))
        dataset = dataset.isel({dimension: position})
    return dataset


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} = {value!r:.40}: must be a number") from None


def spread_of(dataset: Dataset, name: str, band: str = BANDS[0]) -> Spread:
    """A value with its random axes reduced, or its statistics where the store holds those.

    Raises:
        ValueError: if the dataset has no such value, or ``band`` is unknown.
    """
    choice("band", band, BANDS)
    known = [str(one) for one in dataset.data_vars]
    if name not in known and f"{name}_mean" in known:
        return _of_statistics(dataset, name, band)
    if name not in known:
        stems = [one.removesuffix("_mean") for one in known]
        raise ValueError(unknown("value", name, stems))
    array = dataset[name]
    drawn = [str(one) for one in array.dims if is_random(dataset, str(one))]
    if not drawn:
        return Spread(centre=array)
    mean, count = array.mean(drawn, keep_attrs=True), array.notnull().sum(drawn)
    total = np.prod([dataset.sizes[one] for one in drawn])
    outage = float(1 - count.min() / total)
    if band == "confidence":
        return _confidence(mean, array.std(drawn), count, outage)
    with warnings.catch_warnings():  # of elements without any design: they stay nan
        warnings.filterwarnings("ignore", message="All-NaN slice encountered")
        ends = array.quantile(list(_SHARES), drawn, keep_attrs=True, skipna=True)
    return Spread(centre=mean, low=ends[0], high=ends[1], outage=outage)


def _of_statistics(dataset: Dataset, name: str, band: str) -> Spread:
    mean = dataset[f"{name}_mean"]
    outage = float(dataset["outage"].max()) if "outage" in dataset else 0.0
    if band == "confidence" and f"{name}_std" in dataset and "count" in dataset:
        return _confidence(mean, dataset[f"{name}_std"], dataset["count"], outage)
    ends = dataset.get(f"{name}_quantile") if band == "quantile" else None
    if ends is None:
        return Spread(centre=mean, outage=outage)
    return Spread(
        centre=mean, low=ends.isel(quantile=0), high=ends.isel(quantile=-1), outage=outage
    )


def _confidence(mean: DataArray, std: DataArray, count: DataArray, outage: float) -> Spread:
    margin = _NORMAL * std / np.sqrt(count)
    return Spread(centre=mean, low=mean - margin, high=mean + margin, outage=outage)


def winners(dataset: Dataset) -> DataArray:
    """Codes of `STAGES`: which stage gets more rounds than its minimum; nan without a design.

    A stage counts where it has at least half a round more than it must.
    """
    for name in ("pretraining_rounds", "finetuning_rounds"):
        choice("value", name, [str(one) for one in dataset.data_vars])
    first = dataset["pretraining_rounds"] >= _least(dataset, "min_pretraining_rounds") + _MORE
    second = dataset["finetuning_rounds"] >= _least(dataset, "min_finetuning_rounds") + _MORE
    codes = 1.0 + second - first + 2.0 * (~first & ~second)
    known: DataArray = codes.where(dataset["pretraining_rounds"].notnull())
    return known


def _least(dataset: Dataset, name: str) -> Any:
    """The least rounds of a stage: an axis of the sweep, or its scenario's; 1 where not told."""
    if name in dataset.coords:
        return dataset.coords[name]
    return json.loads(dataset.attrs.get("spec", "{}")).get("scenario", {}).get(name, 1)


def is_infeasible(dataset: Dataset) -> DataArray | None:
    """Where the scenario is proven infeasible, by the flags of ``status``; None if not kept."""
    if "status" not in dataset:
        return None
    names = str(dataset["status"].attrs.get("flag_meanings", " ".join(STATUSES))).split()
    flags = dataset["status"].attrs.get("flag_values", range(len(names)))
    code = dict(zip(names, np.asarray(flags).tolist(), strict=True))[Status.INFEASIBLE]
    return dataset["status"] == code
