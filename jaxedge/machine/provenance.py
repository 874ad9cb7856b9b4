"""Where results come from: versions and device, and how one configuration differs from another."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from typing import Any


def environment() -> dict[str, str]:
    """Versions and device, which decide the last bits of an answer."""
    import jax

    import jaxedge

    names = ("jax", "jaxlib", "numpy")
    versions = {name: metadata.version(name) for name in names}
    device = jax.devices()[0].device_kind
    return {**versions, "device": device, "jaxedge": jaxedge.__version__}


def differences(old: Any, new: Any, *, where: str, most: int = 5) -> str:
    """In which entries two trees differ, as "seed: 1 in the store, 2 now" where it is a store."""
    before, now = dict(_leaves("", old)), dict(_leaves("", new))
    found = [
        f"{key}: {before.get(key, 'nothing')} in the {where}, {now.get(key, 'nothing')} now"
        for key in [*before, *(key for key in now if key not in before)]
        if before.get(key) != now.get(key)
    ]
    return "; ".join(found[:most]) + (
        f"; and {len(found) - most} more" if len(found) > most else ""
    )


def _leaves(path: str, tree: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(f"{path}.{key}" if path else key, value)
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _leaves(f"{path}[{index}]", value)
    else:
        yield path, tree
