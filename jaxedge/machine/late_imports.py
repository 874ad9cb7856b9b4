"""Public names of a room that are imported when first asked for (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def late_imports(
    room: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package that imports its public names late.

    Args:
        room: ``__name__`` of the package.
        homes: public name -> the module below the package that it stands in; a name that is its
            own home is that module.

    Returns:
        Two functions for the package's namespace; the first raises AttributeError for other names.
    """

    def found(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        home = importlib.import_module(f"{room}.{homes[name]}")
        return home if homes[name].rpartition(".")[2] == name else getattr(home, name)

    return found, lambda: sorted(homes)
