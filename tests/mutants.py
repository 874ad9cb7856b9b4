"""Mutants of a module: its source with one small mistake each, as a hand might make it.

Left as they are: docstrings, annotations, decorators, the names of type variables, ``__all__``,
f-strings and what is raised (the texts of messages; that nothing is raised at all is a mutant), and
the functions of one argument that give it back, ``jit`` and ``asarray``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

_OPERATORS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,),
    ast.FloorDiv: (ast.Mod,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    # The limit itself, and the other side.
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_PAIRS = (
    ("min", "max"),
    ("minimum", "maximum"),
    ("argmin", "argmax"),
    ("any", "all"),
    ("floor", "ceil"),
    ("zeros", "ones"),
    ("zeros_like", "ones_like"),
    ("exp", "expm1"),
    ("log", "log1p"),
    ("square", "abs"),
    ("reciprocal", "negative"),
    ("repeat", "tile"),
)
_FUNCTIONS = {"sum": "max", "round": "floor"} | dict(_PAIRS) | {b: a for a, b in _PAIRS}
"""Function -> the one that it is taken for."""
_COMMUTATIVE = {"minimum", "maximum"}
_SAME = {"jit", "asarray"}
"""Of speed, and for type checkers: the values are those of the argument."""


class Mutant(NamedTuple):
    """A module's source with one mistake."""

    line: int
    """Where in the original."""
    before: str
    after: str
    source: str
    """The whole module; formatting and comments are lost."""


def mutants_of(source: str) -> list[Mutant]:
    """All mutants of a module, each once, in the order of their lines."""
    tree = ast.parse(source)
    original, seen, found = ast.unparse(tree), set(), []
    for holder, field, index, node in _mutable(tree):
        for other in _alternatives(node):
            _put(holder, field, index, other)
            text = ast.unparse(tree)
            _put(holder, field, index, node)
            if text != original and text not in seen:
                seen.add(text)
                found.append(Mutant(node.lineno, _short(node), _short(other), text))
    return sorted(found, key=lambda mutant: mutant.line)


def _short(node: ast.AST) -> str:
    return " ".join(ast.unparse(ast.fix_missing_locations(node)).split())[:90]


def _put(holder: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(holder, field, node)
    else:
        getattr(holder, field)[index] = node


def _mutable(holder: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """(holder, field, index, node) of every expression and statement that may be mistaken."""
    for field, value in ast.iter_fields(holder):
        if field in ("annotation", "returns", "decorator_list", "bases", "type_params"):
            continue
        for index, node in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(node, ast.expr | ast.stmt) and not _is_left_alone(node):
                yield holder, field, index if isinstance(value, list) else None, node
            if isinstance(node, ast.AST) and not _is_left_alone(node, inside=True):
                yield from _mutable(node)


def _is_left_alone(node: ast.AST, *, inside: bool = False) -> bool:
    match node:
        case ast.Expr(value=ast.Constant()) | ast.JoinedStr() | ast.ImportFrom() | ast.Import():
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.Call(func=ast.Name(id="TypeVar")):
            return True
        case ast.Raise():
            return inside
    return False


def _alternatives(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            for other in _OPERATORS.get(type(op), ()):
                yield ast.BinOp(left, other(), right)
            yield left
            yield right
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(_OPERATORS[type(op)][0](), values)
            yield from values
        case ast.UnaryOp(operand=operand):
            yield operand
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            for i, op in enumerate(ops):
                for other in _OPERATORS[type(op)]:
                    yield ast.Compare(left, [*ops[:i], other(), *ops[i + 1 :]], comparators)
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(2 * value if value else 1.0)
            yield ast.Constant(0.0 if value else -1.0)
        case ast.Constant(value=str(value)):
            yield ast.Constant(f"{value}x")
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Call():
            yield from _calls(node)
        case ast.Return(value=ast.expr()):
            pass  # What is returned has its own mutants.
        case ast.If(test=test, body=body, orelse=orelse):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
            yield ast.If(ast.Constant(False), body, orelse)
            yield ast.If(ast.Constant(True), body, orelse)
        case ast.For():
            yield ast.Pass()
        case ast.Expr() | ast.AugAssign() | ast.Raise() | ast.Break() | ast.Continue():
            yield ast.Pass()


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    """Another function, its argument alone, one keyword less, the last two arguments swapped.

    What could only raise, such as a class without a field, would make the score look better.
    """
    func, args, keywords = node.func, node.args, node.keywords
    name = getattr(func, "attr", getattr(func, "id", ""))
    if name in _FUNCTIONS:
        other = _FUNCTIONS[name]
        taken = (
            ast.Attribute(func.value, other, ast.Load())
            if isinstance(func, ast.Attribute)
            else ast.Name(other, ast.Load())
        )
        yield ast.Call(taken, args, keywords)
    if name == "where":
        yield from args[1:]
    if len(args) == 1 and name not in _SAME and not isinstance(args[0], ast.Starred):
        yield args[0]
    if name[:1].islower():
        for i in range(len(keywords)):
            yield ast.Call(func, args, keywords[:i] + keywords[i + 1 :])
    if len(args) > 1 and name not in _COMMUTATIVE:
        yield ast.Call(func, [*args[:-2], args[-1], args[-2]], keywords)
