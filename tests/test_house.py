"""The house rules that no linter knows: import directions, a light import, the public names."""

import ast
import graphlib
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from functools import cache

import pytest

import jaxedge
from jaxedge.bounds.registry import BOUNDS, DEFAULT
from jaxedge.commands import arguments
from tests.imports import PACKAGE, ROOT, imports, inner_imports, is_type_checking, modules

# Bottom up: a module imports only from its own room and the rooms before it in this list.
ROOMS = [
    "machine",
    "words",
    "methods",
    "scenario",
    "system",
    "program",
    "bounds",
    "relaxation",
    "integers",
    "outer",
    "answers",
    "custom",
    "planning",
    "sensitivity",
    "sweeps",
    "report",
    "training",
    "study",
    "commands",
]
FLOORS = 11
"""Most rooms that stand on one another."""
FRONT = {"__main__"}
"""The module beside the rooms."""

HEAVY = {
    "matplotlib": {"report.figure_style", "report.axes_style", "report.map_plots"},
    "xarray": {"sweeps.store", "report.pareto_plots"},
    "zarr": {"sweeps.store"},
    "distributed": {"sweeps.cluster"},
    "dask": set(),
    "flax": {"training.models.networks"},
    "sklearn": {"training.data.data_files"},
    "h5py": {"training.data.data_files"},
    "scipy": {
        "training.data.shifts",
        "training.calibration.decay_fit",
        "sensitivity.measures",
        "sensitivity.ranges",
    },
    "SALib": {"sensitivity.measures"},
    "optax": {"methods.directions"},
    "orbax": {"training.runs.checkpoints"},
    "ott": {"training.calibration.transport"},
    "tensorboard": {"training.runs.event_files"},
}
"""Slow to import -> the one module that does so, inside its functions."""

EAGER = {"training.models.networks"}
"""Cannot be late, as their classes derive from Flax's; so they are imported late themselves."""

LONG = {"integers.branch_and_bound", "relaxation.dual_decomposition"}
"""One algorithm each, with its derivation; any other module stays under 300 lines."""


def room_of(name):
    return name.partition(".")[0]


def closure(name):
    """Everything of jaxedge that a module imports directly or through others."""
    found, waiting = set(), [name]
    while waiting:
        new = inner_imports(waiting.pop()) - found
        found |= new
        waiting.extend(new)
    return found


def rooms_below():
    """Room -> the rooms that its modules import, in functions too."""
    below = {room: set() for room in ROOMS}
    for name in modules().keys() - FRONT:
        below[room_of(name)] |= {room_of(other) for other in inner_imports(name)} - {room_of(name)}
    return below


@pytest.mark.parametrize("name", sorted(modules().keys() - FRONT))
def test_imports_point_down(name):
    here = ROOMS.index(room_of(name))
    assert not {other for other in inner_imports(name) if ROOMS.index(room_of(other)) > here}


def test_every_entry_is_a_room():
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert entries == {*ROOMS, "__init__.py", "__main__.py", "py.typed"}


def test_few_rooms_stand_on_one_another():
    below = rooms_below()

    @cache
    def floor(room):
        return 1 + max((floor(other) for other in below[room]), default=0)

    floors = {room: floor(room) for room in ROOMS}
    assert max(floors.values()) <= FLOORS, floors


def test_no_module_imports_itself_through_others():
    graph = {name: inner_imports(name) for name in modules()}
    graphlib.TopologicalSorter(graph).prepare()  # raises where there is a cycle


def private_imports(name):
    """Names with an underscore that a module takes from another."""
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("jaxedge"):
            yield from (alias.name for alias in node.names if alias.name.startswith("_"))


@pytest.mark.parametrize("name", modules())
def test_private_names_stay_in_their_module(name):
    assert not set(private_imports(name))


def test_methods_know_neither_program_nor_radio():
    for name in modules():
        if room_of(name) == "methods":
            assert {room_of(other) for other in closure(name)} <= {"methods", "machine", "words"}


def test_the_system_model_knows_nothing_of_optimisation():
    for name in modules():
        if room_of(name) == "system":
            assert {room_of(other) for other in closure(name)} <= {
                "system",
                "scenario",
                "machine",
                "words",
            }


def test_slow_packages_are_imported_late_and_in_one_place():
    for name, tree in modules().items():
        at_import = {item.partition(".")[0] for item in imports(tree, lazy=False)}
        assert not at_import & HEAVY.keys() or name in EAGER, name
        assert not inner_imports(name, lazy=False) & EAGER, name
        for package in {item.partition(".")[0] for item in imports(tree, lazy=True)} & HEAVY.keys():
            assert name in HEAVY[package], f"{package} in {name}"


def loaded_after(code):
    """Top-level packages that a fresh interpreter has loaded after running the code."""
    report = "import sys; print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return set(ran.stderr.splitlines()[-1].split())


def test_every_public_name_comes_without_slow_packages():
    everything = "import jaxedge\nfor name in jaxedge.__all__: getattr(jaxedge, name)"
    loaded = loaded_after(everything)
    assert "jax" in loaded
    assert not loaded & HEAVY.keys()


@pytest.mark.parametrize(
    "code",
    [
        "import jaxedge",
        "from jaxedge.commands.cli import main; main(['--help'])",
        "from jaxedge.commands.cli import main; main(['plan', '--help'])",
        "from jaxedge.commands.cli import main; main(['paln'])",
    ],
)
def test_what_needs_no_jax_does_not_load_it(code):
    assert not loaded_after(code) & {"jax", "numpy"}


@pytest.mark.parametrize("name", jaxedge.__all__)
def test_public_names_are_documented(name):
    assert inspect.getdoc(getattr(jaxedge, name))
    assert name in dir(jaxedge)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_hands_on_its_public_names(room):
    home = importlib.import_module(f"jaxedge.{room}")
    assert inspect.getdoc(home)
    for name in getattr(home, "__all__", ()):
        assert inspect.getdoc(getattr(home, name)), f"{room}.{name}"
        assert name in dir(home)


def shown_of(room):
    """What the API page needs for a room beside its ``automodule``: data, and whole modules."""
    home = importlib.import_module(f"jaxedge.{room}")
    homes = getattr(home, "_HOMES", {})
    for name in getattr(home, "__all__", ()):
        value = getattr(home, name)
        if inspect.ismodule(value):
            yield None, f"{room}.{name}"
        elif not callable(value):
            yield name, ".".join([room, *([homes[name]] if name in homes else []), name])


def test_the_api_page_shows_what_the_rooms_hand_on():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. auto\w+:: jaxedge\.([\w.]+)$", page, re.MULTILINE)
    left_out = re.findall(r"^   :exclude-members: (.*)$", page, re.MULTILINE)
    rooms = [r for r in ROOMS if getattr(importlib.import_module(f"jaxedge.{r}"), "__all__", ())]
    beside = [item for room in rooms for item in shown_of(room)]
    # Without options `automodule` shows all of ``__all__`` but whole modules.
    assert sorted(listed) == sorted([*rooms, *(place for _, place in beside)])
    data = [name for name, _ in beside if name]
    assert sorted(", ".join(left_out).split(", ")) == sorted(data)


def test_front_door_is_the_same_for_type_checkers():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (branch,) = (node for node in tree.body if is_type_checking(node))
    for node in branch.body:
        for alias in node.names:
            home = importlib.import_module(node.module)
            expected = getattr(home, alias.name, None) or importlib.import_module(
                f"{node.module}.{alias.name}"
            )
            assert getattr(jaxedge, alias.name) is expected
    assert {alias.name for node in branch.body for alias in node.names} == set(jaxedge.__all__)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match=r"module 'jaxedge' has no attribute 'plam'"):
        jaxedge.plam  # noqa: B018


def test_the_version_is_the_installed_one():
    metadata = importlib.import_module("importlib.metadata")
    try:
        installed = metadata.version("jaxedge")
    except metadata.PackageNotFoundError:
        pytest.skip("jaxedge is not installed here")
    assert installed == jaxedge.__version__


def public_functions(tree):
    """Public functions and methods of public classes."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("name", modules())
def test_public_functions_are_documented_and_annotated(name):
    assert ast.get_docstring(modules()[name])
    for function in public_functions(modules()[name]):
        place = f"{name}.{function.name}"
        assert ast.get_docstring(function), place
        assert function.returns is not None, place
        spec = function.args
        arguments = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs]
        bare = {item.arg for item in arguments if item.annotation is None}
        assert bare <= {"self", "cls"}, place


@pytest.mark.parametrize("name", modules())
def test_a_module_holds_one_concept(name):
    path = PACKAGE / name.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert 300 < lines <= 450 if name in LONG else lines <= 300


def own_files():
    for folder in ("jaxedge", "tests", "benchmarks", "docs", ".ci"):
        yield from (ROOT / folder).rglob("*")
    yield from ROOT.glob("[!.]*.*")  # a worktree's .git holds a path


def test_no_file_names_a_path_of_one_machine():
    machine_path = re.compile(r"(?<![\w.])/(?:work|tmp|root|home|Users)/\w")
    for path in own_files():
        if path.suffix in {".py", ".md", ".toml", ".json", ".txt", ".in", ""} and path.is_file():
            assert not machine_path.search(path.read_text(encoding="utf-8")), path


def test_excluded_versions_of_jax_stay_excluded():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (jax,) = (item for item in project["dependencies"] if re.match(r"jax\b", item))
    assert {"!=0.10.*", "!=0.11.1"} <= set(jax.removeprefix("jax").split(","))


def test_the_help_names_every_bound_of_the_registry():
    """A new bound is a line in bounds/registry.py and its name in commands/arguments.py."""
    assert tuple(BOUNDS) == arguments.BOUNDS
    assert arguments.BOUNDS[0] == DEFAULT
