"""How the command line starts fast: JAX's compilation cache on disk, and a compiler in a hurry.

The library does neither by itself: where compiled programs are kept, and how hard the compiler
tries, is the caller's choice.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import sys
import warnings
from importlib import metadata
from pathlib import Path

SWITCH = "JAXEDGE_CACHE"
"""Environment variable: "off" turns the cache off."""

_LEVEL = "xla_backend_optimization_level"
_OFF = ("off", "0", "no", "false")


def user_cache_folder() -> Path:
    """The folder that this system keeps a user's caches in, with ``jaxedge`` at its end."""
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Caches"
    else:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "jaxedge"


def hurry() -> None:
    """Compile without LLVM's optimisations; call before ``import jax``.

    They take longer than one plan gains from them. ``XLA_FLAGS`` that name the level are kept.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _LEVEL not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{_LEVEL}=0".strip()


def silence() -> None:
    """Keep the compiler's and the cache's log lines off standard error; call before ``import jax``.

    XLA reports a cached program's harmless tuning flags as errors (jax issue 38445), and JAX warns
    where an entry cannot be read and is compiled again.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Not the logger "jax" itself: JAX copies its level to the compiler's, over the line above.
    logging.getLogger("jax._src").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*persistent compilation cache.*")


def is_off() -> bool:
    """Whether ``JAXEDGE_CACHE`` says that nothing is to be kept."""
    return os.environ.get(SWITCH, "").lower() in _OFF


def enable() -> Path | None:
    """Keep compiled programs in the user's cache folder, and return it; None where it stays off.

    It stays off, without a word, if ``JAXEDGE_CACHE=off``, if the folder cannot be written or
    belongs to somebody else, or if the user has set JAX's own cache already.
    """
    import jax

    if is_off() or getattr(jax.config, "jax_compilation_cache_dir", None):
        return None
    folder = private_folder("xla")
    if folder is not None:
        for name, value in (
            ("jax_compilation_cache_dir", str(folder)),
            ("jax_persistent_cache_min_compile_time_secs", 0.0),
            ("jax_persistent_cache_min_entry_size_bytes", -1),
        ):
            jax.config.update(name, value)
    return folder


def private_folder(kind: str) -> Path | None:
    """The cache folder of a kind for this machine, this user's alone; None if it cannot be."""
    try:
        folder = user_cache_folder() / f"{kind}-{_machine()}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Entries are executed as they are found, so a folder of another user is not to be trusted.
        owner = not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()
        return folder if owner and os.access(folder, os.W_OK | os.X_OK) else None
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        return None


def _machine() -> str:
    """A short name of JAX's version and the CPU: homes are shared between unlike machines."""
    described = [metadata.version("jax"), platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        described += sorted({line for line in lines if line.startswith(("model name", "flags"))})
    except OSError:
        pass
    return hashlib.sha256("\n".join(described).encode()).hexdigest()[:12]
