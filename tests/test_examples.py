"""The examples run as they stand, and what they print is so."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def printed(capsys, monkeypatch, tmp_path):
    """Run an example in an empty folder: the numbers of each line it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXEDGE_CACHE", "off")

    def run(name):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        lines = capsys.readouterr().out.splitlines()
        number = r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[-+]\d+)?"
        return [[float(found) for found in re.findall(number, line)] for line in lines]

    return run


def test_each_is_listed_with_its_question():
    listed = re.findall(r"^\| \[(\w+)\.py\]\(\1\.py\) \| .+\? \|$", _read("README.md"), re.M)
    assert sorted(listed) == sorted(path.stem for path in EXAMPLES.glob("*.py"))
    assert f"examples/{listed[0]}.py" in (EXAMPLES.parent / "README.md").read_text("utf-8")


def _read(name):
    return (EXAMPLES / name).read_text(encoding="utf-8")


def test_prices_foretell_what_planning_again_gives(printed):
    (bound, lower), energy, delay = printed("one_more_joule")
    assert bound == pytest.approx(lower, abs=2e-5)
    for _, foretold, found in (energy, delay):
        assert found < 0
        assert foretold == pytest.approx(found, rel=0.03)


@pytest.mark.slow
def test_pretraining_pays_less_often_at_more_discrepancy(printed):
    rows = printed("thousand_cells")
    assert [row[:3] for row in rows] == [[factor, 1000, 1000] for factor in (0.1, 1, 10)]
    mostly, hardly = ([row[i] for row in rows] for i in (3, 4))
    assert mostly == sorted(mostly, reverse=True)
    assert hardly == sorted(hardly)
    assert hardly[0] < hardly[-1]


@pytest.mark.slow
def test_shared_bandwidth_lowers_the_bound(printed):
    (even, _, best), shares, (left,) = printed("bandwidth_shares")
    assert best < even * (1 - 1e-3)
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert left < 2e-4


@pytest.mark.slow
def test_smaller_batteries_cost_more(printed):
    rows = printed("own_batteries")
    assert [row[0] for row in rows] == [60, 40, 20]
    bounds = [row[1] for row in rows]
    assert bounds == sorted(bounds)
    assert all(row[2] <= 1e-6 for row in rows)
    # The last device, which pays most, has the dearest battery, and the smaller the dearer.
    worth = [row[-1] for row in rows]
    assert worth == sorted(worth)


@pytest.mark.slow
def test_ones_own_network_keeps_the_promise(printed):
    (_, _, bound), (_, *averages), accuracy, (joules, seconds, *planned) = printed("own_network")
    assert max(averages) < bound
    assert min(accuracy) > 60
    assert [joules, seconds] == planned
