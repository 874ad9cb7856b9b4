"""The tests that are near a change, for the loop of editing and testing.

    python -m tests.affected jaxedge/planning/entry.py
    python -m tests.affected jaxedge/system/energy.py --slow -x

Near a module are the test file of its room and name, those that import it, and those of the room
and name of a module that imports it: one or two arrows of the import graph. A test file is near
itself, a page of the documentation near the tests that name it. Tests marked slow run with
``--slow``. Other options go to pytest.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from tests.imports import PACKAGE, ROOT, importers, module_of, modules_imported

TESTS = ROOT / "tests"
BESIDE = {
    "README.md": "test_readme.py",
    "benchmarks": "test_benchmarks.py",
    "docs": "test_documentation.py",
    "examples": "test_examples.py",
}
"""What lies beside the package -> its test file; others may name a page or a script, too."""


@cache
def test_files() -> dict[Path, str]:
    """Every test file with its text."""
    return {path: path.read_text(encoding="utf-8") for path in sorted(TESTS.rglob("test_*.py"))}


def own_test(module: str) -> set[Path]:
    """The test file of a module's room and name, where there is one."""
    *room, name = module.split(".")
    return {TESTS.joinpath(*room, f"test_{name}.py")} & test_files().keys()


def near_module(module: str) -> set[Path]:
    """Test files one or two arrows from a module."""
    near = own_test(module).union(*(own_test(other) for other in importers().get(module, ())))
    return near | {path for path, text in test_files().items() if module in _imported(text)}


@cache
def _imported(text: str) -> set[str]:
    return modules_imported(ast.parse(text))


def naming(words: Iterable[str]) -> set[Path]:
    """Test files in whose text one of the words stands."""
    return {path for path, text in test_files().items() if any(word in text for word in words)}


def near(given: str) -> set[Path]:
    """Test files near a file of the repository.

    Raises:
        ValueError: if there is no such file, or no test is near it.
    """
    path = Path(given).resolve()
    if not path.is_file() or not path.is_relative_to(ROOT):
        raise ValueError(f"{given} is not a file of {ROOT.name}")
    found = _near_file(path)
    if not found:
        raise ValueError(f"no test is near {given}: run python -m pytest -n 2")
    return found


def _near_file(path: Path) -> set[Path]:
    if path in test_files():
        return {path}
    if path.is_relative_to(PACKAGE) and path.suffix == ".py" and module_of(path):
        return near_module(module_of(path))
    if path.is_relative_to(TESTS) and path.suffix == ".py":  # a helper, by its name
        return naming({f"tests.{path.stem} ", f"tests import {path.stem}"})
    first = path.relative_to(ROOT).parts[0]
    return {TESTS / BESIDE[first]} | naming({path.name}) if first in BESIDE else set()


def command(files: Sequence[Path], options: Sequence[str]) -> list[str]:
    """Pytest over the files; a second worker is worth its start from three files on."""
    shared = ["-n", "2", "--dist", "worksteal"] if len(files) > 2 else []
    chosen = [] if "--slow" in options else ["-m", "not slow"]
    rest = [option for option in options if option != "--slow"]
    return [sys.executable, "-m", "pytest", "-q", *shared, *chosen, *rest, *map(str, files)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the test files near the files given, run them, and return pytest's exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    given = [word for word in words if not word.startswith("-")]
    if not given or {"-h", "--help"} & {*words}:
        print(__doc__)
        return 0 if given or words else 2
    try:
        files = sorted(set().union(*(near(item) for item in given)))
    except ValueError as error:
        print(f"tests.affected: {error}", file=sys.stderr)
        return 2
    shown = [str(path.relative_to(ROOT)) for path in files]
    print(*shown, sep="\n", flush=True)
    options = [word for word in words if word.startswith("-")]
    return subprocess.run(command(files, options), cwd=ROOT, env=os.environ).returncode


if __name__ == "__main__":
    sys.exit(main())
