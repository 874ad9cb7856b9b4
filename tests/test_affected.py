"""Which tests are near a change."""

import subprocess

import pytest

from tests import affected
from tests.affected import TESTS, main, near
from tests.imports import ROOT, importers, modules


def near_names(given):
    return {str(path.relative_to(TESTS)) for path in near(str(ROOT / given))}


def test_near_a_module_are_its_own_its_importers_and_those_that_import_it():
    found = near_names("jaxedge/planning/entry.py")
    assert "planning/test_entry.py" in found
    assert "planning/test_intervals.py" in found  # of a module that imports it
    assert "test_end_to_end.py" in found  # imports it
    assert not {name for name in found if name.startswith(("words/", "methods/", "system/"))}


def test_a_module_without_a_file_of_its_name_has_tests_too():
    assert "relaxation/test_driver.py" in near_names("jaxedge/relaxation/dual_decomposition.py")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("tests/words/test_progress.py", {"words/test_progress.py"}),
        ("docs/calibration.md", {"training/calibration/test_calibration_page.py"}),
        ("examples/own_batteries.py", {"test_examples.py"}),
        ("tests/mutants.py", {"test_mutation.py"}),
        ("tests/plain_dual.py", {"system/test_constraints.py", "test_benchmarks.py"}),
    ],
)
def test_other_files_are_near_the_tests_that_name_them(given, found):
    assert found <= near_names(given)
    assert len(near_names(given)) <= len(found) + 3


def test_importers_are_the_import_graph_turned_round():
    assert "planning.solving" in importers()["planning.entry"]
    assert not importers()["__main__"]
    assert importers().keys() == modules().keys()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("jaxedge/planing/entry.py", "jaxedge/planing/entry.py is not a file of"),
        ("/dev/null", "/dev/null is not a file of"),
        ("LICENSE", "no test is near LICENSE: run python -m pytest"),
    ],
)
def test_a_file_that_no_test_is_near_is_one_clear_line(given, said, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main([given]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


@pytest.fixture
def started(monkeypatch):
    """What would have been run."""
    commands = []

    def run(command, **_):
        commands.append(command[2:])
        return subprocess.CompletedProcess(command, 5)

    monkeypatch.setattr(affected.subprocess, "run", run)
    monkeypatch.chdir(ROOT)
    return commands


def test_it_says_what_it_runs_and_ends_as_pytest_does(started, capsys):
    assert main(["tests/words/test_progress.py", "-x"]) == 5
    assert capsys.readouterr().out == "tests/words/test_progress.py\n"
    file = str(TESTS / "words" / "test_progress.py")
    assert started == [["pytest", "-q", "-m", "not slow", "-x", file]]


def test_slow_ones_run_where_they_are_asked_for_and_many_files_have_two_workers(started):
    main(["jaxedge/planning/entry.py", "--slow"])
    ((_, *words),) = started
    assert "slow" not in " ".join(words)
    assert words[1:3] == ["-n", "2"]
