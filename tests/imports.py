"""Who imports whom: the graph of the package's modules and of the test files."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxedge"


@cache
def modules():
    """Dotted name below jaxedge -> parsed source; the front door ``__init__`` is left out."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = module_of(path)
        if name:
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def module_of(path):
    """The dotted name below jaxedge of a file in it; that of its folder for an ``__init__``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


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


def modules_imported(tree, *, lazy=True):
    """The modules of jaxedge among what a parsed source imports."""
    dotted = {item.removeprefix("jaxedge.") for item in imports(tree, lazy=lazy)}
    dotted |= {item.rpartition(".")[0] for item in dotted}
    return dotted & modules().keys()


def inner_imports(name, *, lazy=True):
    """The modules of jaxedge that a module imports."""
    return modules_imported(modules()[name], lazy=lazy) - {name}


@cache
def importers():
    """Module -> the modules that import it."""
    found = {name: set() for name in modules()}
    for name in modules():
        for other in inner_imports(name):
            found[other].add(name)
    return found
