"""The mutation test itself: which mistakes it makes, which it leaves, and that it notices."""

import ast
import subprocess
import sys

import pytest

from tests.mutants import mutants_of
from tests.mutation import ROOT, TARGETS, main, path_of, sampled, wilson


def after(source):
    """The changed parts of all mutants."""
    return {mutant.after for mutant in mutants_of(source)}


@pytest.mark.parametrize(
    ("source", "mistakes"),
    [
        ("x = a + b", {"a - b", "a", "b"}),
        ("x = a / b", {"a * b", "a", "b"}),
        ("x = a <= b", {"a < b", "a > b"}),
        ("x = a < b <= c", {"a <= b <= c", "a >= b <= c", "a < b < c", "a < b > c"}),
        ("x = a is None", {"a is not None"}),
        ("x = a and b", {"a or b", "a", "b"}),
        ("x = not a", {"a"}),
        ("x = -a", {"a"}),
        ("x = 3", {"4", "2"}),
        ("x = 0.5", {"1.0", "0.0"}),
        ("x = 0.0", {"1.0", "-1.0"}),
        ("x = True", {"False"}),
        ("x = 'one'", {"'onex'"}),
        ("x = a if c else b", {"b if c else a"}),
        ("x = jnp.min(a)", {"jnp.max(a)", "a"}),
        ("x = minimum(a, b)", {"maximum(a, b)"}),
        (
            "x = np.max(a + sum(b))",
            {"np.min(a + sum(b))", "a + sum(b)", "a - sum(b)", "a", "sum(b)", "max(b)", "b"},
        ),
        ("x = where(c, a, b)", {"a", "b", "where(c, b, a)"}),
        ("x = f(a, b, axis=n)", {"f(a, b)", "f(b, a, axis=n)"}),
        ("x = jax.jit(jnp.asarray(floor(a)))", {"ceil(a)", "a"}),
        ("x = Class(field=a)", set()),
        ("if c: f(a)", {"if not c: f(a)", "if False: f(a)", "if True: f(a)", "a", "pass"}),
        ("for x in y: pass", {"pass"}),
        ("while c: break", {"pass"}),
        ("def f(x: int = 1) -> int: return x", {"2", "0"}),
    ],
)
def test_mistakes_are_the_usual_ones(source, mistakes):
    assert after(source) == mistakes


@pytest.mark.parametrize(
    "source",
    [
        '"""What it is."""',
        'class A:\n    b: "int | None"\n    """One + one."""',
        "__all__ = ['a', 'b']",
        "import a.b as c\nfrom d import e",
        "@f(1 + 1)\ndef g() -> 'a + b': ...",
        "x = f'{a + 1} of {b}'",
        "T = TypeVar('T')",
    ],
)
def test_what_is_no_behaviour_is_left_alone(source):
    assert not mutants_of(source)


def test_texts_of_errors_are_left_alone_but_not_that_they_are_raised():
    assert after("raise ValueError('it is ' + 'bad')") == {"pass"}


def test_each_mutant_differs_from_the_module_in_one_place():
    source = path_of("program.certificates").read_text(encoding="utf-8")
    mutants = mutants_of(source)
    assert len({mutant.source for mutant in mutants}) == len(mutants) > 40
    plain = ast.unparse(ast.parse(source)).splitlines()
    for mutant in mutants:
        compile(mutant.source, "mutant", "exec")
        lines = zip(mutant.source.splitlines(), plain, strict=True)
        assert sum(a != b for a, b in lines) == 1
        assert 1 <= mutant.line <= len(source.splitlines())


def test_samples_are_random_without_repetition_and_drawn_anew_by_seed():
    mutants = mutants_of(path_of("bounds.two_stage").read_text(encoding="utf-8"))
    some = sampled(mutants, 30, 1)
    assert len({mutant.source for mutant in some}) == 30
    assert some == sampled(mutants, 30, 1) != sampled(mutants, 30, 2)
    assert sampled(mutants, 10**6, 1) == sampled(mutants, None, 1) == mutants


@pytest.mark.parametrize(
    ("hits", "trials", "interval"),
    # Agresti and Coull, The American Statistician 52 (1998), and the limits in closed form
    [(0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (8, 10, (0.4902, 0.9433))],
)
def test_wilson_intervals(hits, trials, interval):
    assert wilson(hits, trials) == pytest.approx(interval, abs=5e-5)


def test_targets_exist_and_others_are_refused(capsys):
    for name, tests in TARGETS.items():
        assert path_of(name).is_file()
        assert all((ROOT / "tests" / f"{test}.py").is_file() for test in tests)
    for arguments, said in (
        (["bound"], "must be of system.channel"),
        (["--sample", "0"], "least 1"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err


NOTICES = """
from tests.mutation import outcome_of, path_of, ready_to_fork
name, tests = "scenario.units", ("scenario/test_units",)
source = path_of(name).read_text()
with ready_to_fork():
    for changed in (source, source.replace("1e-3", "1e-2")):
        print(outcome_of(name, changed, tests, 100).passed)
    print(outcome_of(name, source + "while True: pass", tests, 2).passed)
"""


def test_a_mutant_is_noticed_where_a_test_fails_or_takes_too_long():
    """In another process: this one has computed with JAX, and must not fork any more."""
    ran = subprocess.run(
        [sys.executable, "-c", NOTICES], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert ran.stdout.split() == ["True", "False", "False"], ran.stderr
