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
from pathlib import Path

import pytest

import jaxedge

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxedge"

# Bottom up: a module imports only from its own room and the rooms above it in this list.
# A package's name stands for its modules.
ROOMS = {
    "tools": "chunks units choices quantities text_table progress output_files figure_style "
    "compilation_cache precision provenance lane_values lane_loops lanes",
    "scenario": "scenario field_checks scenario_keys scenario_text scenario_files validation "
    "sampling presets stacking parameter_ranges interval_files",
    "design": "allocation answer plan_files",
    "system": "system",
    "bounds": "bounds",
    "problem": "totals problem",
    "program": "elementary program rounds responses certificates design envelope answers",
    "solvers": "solvers",
    "driver": "driver optimality formulation log_program convexified_program",
    "integers": "integers chains cheapest boxes branch_and_bound "
    "pretraining_bounds pretraining_cover pretraining_search",
    "accounts": "accounts",
    "training": "training",
    "planning": "schemes pipeline designs pretraining_branching fine_tuning_designs judging "
    "compile_ahead planning replanning interval_planning",
    "sensitivity": "sensitivity optimal_allocation global_measures global_sensitivity "
    "active_limits kinks finite_changes analysis",
    "sweeps": "sweeps",
    "own": "own_totals own_relaxation own_infeasibility own_judging own_answers own_checks "
    "own_limits",
    "solving": "solving",
    "report": "design_table report plots pareto sweep_views axes_style line_plots map_plots "
    "pareto_plots sweep_plots sensitivity_table sensitivity_plot training_table training_plots "
    "calibration_table",
    "study": "study",
    "commands": "arguments console task_options commands cli __main__",
}
UPWARD = {("answer", "report")}
"""Imported inside a function only: a plan prints itself."""

HEAVY = {
    "matplotlib": {"figure_style", "axes_style", "map_plots"},
    "xarray": {"sweeps.store", "pareto_plots"},
    "zarr": {"sweeps.store"},
    "distributed": {"sweeps.cluster"},
    "dask": set(),
    "flax": {"training.models"},
    "sklearn": {"training.data_files"},
    "h5py": {"training.data_files"},
    "scipy": {"training.shifts", "global_measures", "parameter_ranges"},
    "SALib": {"global_measures"},
    "optax": {"solvers.directions"},
    "orbax": {"training.checkpoints"},
    "ott": {"training.transport"},
    "tensorboard": {"training.event_files"},
}
"""Slow to import -> the one module that does so, inside its functions."""

EAGER = {"training.models"}
"""Cannot be late, as their classes derive from Flax's; so they are imported late themselves."""

LONG = {"branch_and_bound", "solvers.dual_decomposition"}
"""One algorithm each, with its derivation; any other module stays under 300 lines."""


@cache
def modules():
    """Dotted name below jaxedge -> parsed source; the front door ``__init__`` is left out."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def room_of(name):
    for number, names in enumerate(ROOMS.values()):
        if name.partition(".")[0] in names.split():
            return number
    pytest.fail(f"jaxedge.{name} has no room yet: give it one in ROOMS of tests/test_house.py")


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(tree, *, lazy):
    """Dotted names of what a module imports when it runs; with ``lazy`` in its functions too."""
    found, waiting = set(), [tree]
    while waiting:
        node = waiting.pop()
        if is_type_checking(node) or (not lazy and isinstance(node, ast.FunctionDef)):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        waiting.extend(ast.iter_child_nodes(node))
    return found


def inner_imports(name, *, lazy=True):
    """The modules of jaxedge that a module imports."""
    dotted = {item.removeprefix("jaxedge.") for item in imports(modules()[name], lazy=lazy)}
    dotted |= {item.rpartition(".")[0] for item in dotted}
    return {item for item in dotted if item in modules() and item != name}


def closure(name):
    """Everything of jaxedge that a module imports directly or through others."""
    found, waiting = set(), [name]
    while waiting:
        new = inner_imports(waiting.pop()) - found
        found |= new
        waiting.extend(new)
    return found


@pytest.mark.parametrize("name", modules())
def test_imports_point_down(name):
    upward = {
        (name, other)
        for other in inner_imports(name)
        if room_of(other) > room_of(name) and (name, other) not in UPWARD
    }
    assert not upward


def test_rooms_list_only_modules_that_exist():
    listed = {name for names in ROOMS.values() for name in names.split()}
    assert listed == {name.partition(".")[0] for name in modules()}


def test_no_module_imports_itself_through_others():
    graph = {name: inner_imports(name) for name in modules()}
    for name, other in UPWARD:
        assert other not in inner_imports(name, lazy=False)
        graph[name].discard(other)
    graphlib.TopologicalSorter(graph).prepare()  # raises where there is a cycle


def test_solvers_know_nothing_of_radios():
    for name in modules():
        if name.startswith("solvers"):
            assert not {"scenario", "allocation", "bounds", "system"} & closure(name)


def test_the_system_model_knows_nothing_of_optimisation():
    for name in modules():
        if name.startswith("system"):
            others = {other for other in closure(name) if not other.startswith("system")}
            assert others <= {"scenario", "allocation", "units"}


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
        "from jaxedge.cli import main; main(['--help'])",
        "from jaxedge.cli import main; main(['plan', '--help'])",
        "from jaxedge.cli import main; main(['paln'])",
    ],
)
def test_what_needs_no_jax_does_not_load_it(code):
    assert not loaded_after(code) & {"jax", "numpy"}


@pytest.mark.parametrize("name", jaxedge.__all__)
def test_public_names_are_documented(name):
    assert inspect.getdoc(getattr(jaxedge, name))
    assert name in dir(jaxedge)


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
