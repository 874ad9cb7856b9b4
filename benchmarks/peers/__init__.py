"""Other people's solvers on the same scenarios, each module importing its package late."""

from __future__ import annotations

import importlib.util

_SAID: set[str] = set()


def left_out(*packages: str) -> bool:
    """Whether one of the packages is missing; says so once in a line."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    for name in missing:
        if name not in _SAID:
            print(f"left out: {name} is not installed; pip install jaxedge[bench]")
            _SAID.add(name)
    return bool(missing)
