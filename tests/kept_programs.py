"""Compiled programs that tests keep from one run to the next, and share while they run."""

import os
import tempfile
from pathlib import Path

from jaxedge.machine import compilation_cache

FOLDER = "JAX_COMPILATION_CACHE_DIR"
MOST = 2**30
"""Bytes; a whole run of the tests leaves a tenth of it."""


def keep():
    """Let JAX keep compiled programs in the user's cache folder; call before ``import jax``.

    A folder that the environment names is taken, and left as it is. Returns a folder that is to be
    removed after the run, where the user's cache is off or cannot be written, else None.
    """
    if FOLDER in os.environ:  # a worker finds the folder of the process that started it
        return None
    kept = None if compilation_cache.is_off() else compilation_cache.private_folder("tests")
    os.environ[FOLDER] = str(kept) if kept else tempfile.mkdtemp(prefix="jaxedge-tests-")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    if kept is None:
        return Path(os.environ[FOLDER])
    trim(kept)
    return None


def trim(folder, most=MOST):
    """Remove what has not been used for longest until the files take no more than half of most."""
    found = sorted(_uses(folder))
    size = sum(size for _, _, size in found)
    if size <= most:
        return
    for _, path, freed in found:
        if size <= most / 2:
            return
        path.unlink(missing_ok=True)  # another run may have been faster
        size -= freed


def _uses(folder):
    """When each file was last written or read, the file, and its size in bytes."""
    for path in folder.iterdir():
        try:
            found = path.stat()
        except FileNotFoundError:  # removed meanwhile
            continue
        yield max(found.st_atime, found.st_mtime), path, found.st_size
