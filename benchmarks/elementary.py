"""What does a float64 cube root cost? XLA's own beside jaxedge's.

Usage: python benchmarks/elementary.py [--smallest]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.program import elementary

REPEATS = 16


def nanoseconds(fn: Callable[[jax.Array], jax.Array], size: int, trials: int) -> float:
    """Least time per number of one call, from a chain of calls."""

    @jax.jit
    def chain(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, REPEATS, lambda i, x: fn(x) * 0.25 + 0.25, x)

    x = jnp.asarray(np.random.default_rng(0).uniform(0.1, 2.0, size))
    jax.block_until_ready(chain(x))
    times = []
    for _ in range(trials):
        start = time.perf_counter()
        jax.block_until_ready(chain(x))
        times.append(time.perf_counter() - start)
    return min(times) / (REPEATS * size) * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="few trials")
    trials = 5 if parser.parse_args().smallest else 200
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}, ns for each number")
    with jax.enable_x64(True):
        theirs, ours = (nanoseconds(fn, 4096, trials) for fn in (jnp.cbrt, elementary.cube_root))
        print(f"cube root: XLA {theirs:.1f}, jaxedge {ours:.1f}, ratio {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
