"""Mutation testing: do the tests notice one small mistake in a module?

    python -m tests.mutation bounds.two_stage --sample 60 --seed 1
    python -m tests.mutation            # every mutant of every module: hours

Each mutant is run against the tests of its module until one of them fails. A process that has
imported JAX, but computed nothing, forks for each, and the fork imports the mutated source in the
module's place: no file is written. Compiled programs are shared through a folder of the run. Tests
that take far longer than on the module itself have noticed as well.

Mutmut leaves decorated functions out, half of the arithmetic of
``jaxedge.integers.local_search``. Cosmic Ray knows neither ``minimum`` for ``maximum`` nor the
branches of ``where``, and 36 % of its mutants
here are operators of bits between floats, which raise whatever the tests are.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import math
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from jaxedge.machine import compilation_cache
from tests.mutants import Mutant, mutants_of

ROOT = Path(__file__).parents[1]
TARGETS = {
    "system.channel": ("system/test_system",),
    "system.delay": ("system/test_system",),
    "system.energy": ("system/test_system",),
    "bounds.two_stage": ("bounds/test_bounds", "relaxation/test_driver"),
    "bounds.fine_tuning": ("bounds/test_bounds", "relaxation/test_driver"),
    "program.certificates": ("program/test_certificates",),
    "integers.local_search": ("integers/test_local_search",),
}
"""Module below jaxedge -> the test files that are to notice its mutants, cheapest first."""


class Place(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import a module of jaxedge from the given source."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = f"jaxedge.{name}", source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=str(path_of(self.name)))

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.source, self.name, "exec"), module.__dict__)


def path_of(name: str) -> Path:
    """Source file of a module of jaxedge."""
    return ROOT.joinpath("jaxedge", *name.removeprefix("jaxedge.").split(".")).with_suffix(".py")


def wilson(hits: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a proportion (Wilson 1927)."""
    rate, spread = hits / trials, z * z / trials
    middle = rate + spread / 2
    half = z * math.sqrt((rate * (1 - rate) + spread / 4) / trials)
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


class Outcome(NamedTuple):
    """How the tests of one mutant ended."""

    passed: bool
    seconds: float
    said: str
    """The last lines of pytest, for where it must pass."""


def outcome_of(name: str, source: str, tests: Sequence[str], limit: float) -> Outcome:
    """Run the tests in a fork in which the module has the given source."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            _run_tests(name, source, tests, said.fileno())  # never returns
        status = None
        while status is None and time.monotonic() - started < limit:
            done, code = os.waitpid(child, os.WNOHANG)
            status = code if done else None
            time.sleep(0.02)
        if status is None:
            os.killpg(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
        said.seek(0)
        text = said.read().decode(errors="replace")
    return Outcome(status == 0, time.monotonic() - started, text[-2000:])


def _run_tests(name: str, source: str, tests: Sequence[str], said: int) -> None:
    code = 1
    try:
        os.setsid()  # so that what the tests start is stopped with them
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.meta_path.insert(0, Place(name, source))
        pytest = importlib.import_module("pytest")
        files = [str(ROOT / "tests" / f"{test}.py") for test in tests]
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *files]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def sampled(mutants: list[Mutant], size: int | None, seed: int) -> list[Mutant]:
    """A random sample without repetition; all where there are no more."""
    if size is None or size >= len(mutants):
        return mutants
    return sorted(random.Random(seed).sample(mutants, size), key=lambda mutant: mutant.line)


def survivors_of(name: str, size: int | None, seed: int) -> tuple[int, list[Mutant]]:
    """How many mutants of a module were tried, and those that no test noticed.

    Raises:
        RuntimeError: where the tests fail on the module as it is.
    """
    source, tests = path_of(name).read_text(encoding="utf-8"), TARGETS[name]
    # The second run finds the compiled programs, as mutants do.
    for _ in range(2):
        whole = outcome_of(name, source, tests, math.inf)
        if not whole.passed:
            raise RuntimeError(f"the tests of {name} fail without a mutant:\n{whole.said}")
    limit = 30 + 4 * whole.seconds
    everything = mutants_of(source)
    chosen, alive = sampled(everything, size, seed), []
    print(f"{name}: {len(chosen)} of {len(everything)} mutants, {whole.seconds:.0f} s a whole run")
    for mutant in chosen:
        if outcome_of(name, mutant.source, tests, limit).passed:
            alive.append(mutant)
            print(f"  line {mutant.line}: {mutant.before}  ->  {mutant.after}", flush=True)
    return len(chosen), alive


@contextlib.contextmanager
def ready_to_fork():
    """Import what takes long, and keep compiled programs for the time of the run."""
    compilation_cache.hurry()
    compilation_cache.silence()
    with tempfile.TemporaryDirectory(prefix="jaxedge-mutation-") as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
        for name in ("pytest", "scipy.optimize", "optax", "jax.numpy"):
            importlib.import_module(name)
        yield


def main(arguments: Sequence[str] | None = None) -> None:
    """Print survivors, and for each module the part of its mutants that the tests noticed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(TARGETS)}; all if none is given")
    parser.add_argument("--sample", type=int, help="mutants of each module; all if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    chosen = parser.parse_args(arguments)
    names = chosen.modules or list(TARGETS)
    if not set(names) <= set(TARGETS):
        parser.error(f"modules are {names}, but must be of {', '.join(TARGETS)}")
    if chosen.sample is not None and chosen.sample < 1:
        parser.error(f"--sample is {chosen.sample}, but must be at least 1")
    tried, missed = 0, 0
    with ready_to_fork():
        for name in names:
            count, alive = survivors_of(name, chosen.sample, chosen.seed)
            print(_score(name, count, len(alive)), flush=True)
            tried, missed = tried + count, missed + len(alive)
    print(_score("all", tried, missed))


def _score(name: str, tried: int, missed: int) -> str:
    low, high = wilson(tried - missed, tried)
    return (
        f"{name}: {tried - missed} of {tried} noticed, {(tried - missed) / tried:.1%} "
        f"(95 % interval {low:.1%} to {high:.1%})"
    )


if __name__ == "__main__":
    main()
