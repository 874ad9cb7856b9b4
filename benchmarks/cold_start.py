"""How long does the first answer take? Process start to answer, without and with the cache.

Usage: python benchmarks/cold_start.py [--smallest]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time


def seconds(command: list[str], **environment: str) -> float:
    start = time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **environment}
    )
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="the two-stage bound alone")
    smallest = parser.parse_args().smallest
    python = sys.executable
    jax_import = min(seconds([python, "-c", "import jax"]) for _ in range(3))
    both = min(seconds([python, "-c", "import jax, jaxedge"]) for _ in range(3))
    print(f"import jax: {jax_import:.2f} s; import jaxedge over it: {both - jax_import:+.2f} s")
    for bound in ("two-stage",) if smallest else ("two-stage", "fine-tuning"):
        command = [python, "-m", "jaxedge", "plan", "--bound", bound]
        with tempfile.TemporaryDirectory() as folder:
            cold = seconds(command, XDG_CACHE_HOME=folder)
            warm = min(seconds(command, XDG_CACHE_HOME=folder) for _ in range(2))
        print(f"jaxedge plan --bound {bound}: cold {cold:.1f} s, from the cache {warm:.1f} s")


if __name__ == "__main__":
    main()
