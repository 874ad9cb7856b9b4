"""What users may hand in with a problem of their own: numbers and functions, checked by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.custom.totals import Case, device_cases, totals_of
from jaxedge.system.totals import flat_out


def own_numbers(own: Mapping[str, Any], size: int, devices: int) -> dict[str, np.ndarray]:
    """The user's numbers as float64 arrays (B,) or (B, K).

    Args:
        own: arrays by name, with the batch axis first.
        size: B.
        devices: K.

    Raises:
        ValueError: naming the number that is not float64 (or whole), not finite, or of no such
            shape.
    """
    return {name: _number(name, value, size, devices) for name, value in own.items()}


def _number(name: str, value: Any, size: int, devices: int) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or array.dtype in (np.float16, np.float32):
        raise ValueError(f"own number {name!r} has dtype {array.dtype}: must be float64")
    if array.shape not in ((size,), (size, devices)):
        raise ValueError(
            f"own number {name!r} has shape {array.shape[1:]} in a batch of {array.shape[:1]}: "
            f"must be () or (K,) = ({devices},) in each of {size} scenarios"
        )
    if not np.all(np.isfinite(array)):
        raise ValueError(f"own number {name!r} holds {array[~np.isfinite(array)][0]}")
    return array.astype(np.float64)


def checked_functions(
    functions: Sequence[tuple[str, Callable[..., Any], bool]], case: Case
) -> None:
    """Trace every function once on one scenario, computing nothing.

    Args:
        functions: (title, function, whether it is a device's).
        case: one scenario with the user's numbers.

    Raises:
        ValueError: naming the function that does not return one real number of float64, or asks
            for a number that was not given.
    """

    def inputs(case: Case) -> Any:
        plan, devices = totals_of(case.scenario, flat_out(case.scenario))
        return (case, plan), jax.tree.map(lambda x: x[0], (device_cases(case), devices))

    shapes = jax.eval_shape(inputs, jax.tree.map(jnp.asarray, case))
    for title, function, of_device in functions:
        try:
            found = jax.eval_shape(function, *shapes[of_device])
        except KeyError as error:
            raise ValueError(f"{title}: no own number {error} was given") from error
        shape, kind = getattr(found, "shape", None), getattr(found, "dtype", None)
        if shape != () or kind != jnp.float64:
            raise ValueError(f"{title} returns {found}: must return one float64 number, shape ()")
