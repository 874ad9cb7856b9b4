"""A solver of one's own is a function and one line of the registry; the driver judges it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxedge
from jaxedge import presets, sampling
from jaxedge.commands.cli import main
from jaxedge.planning.question import check_options
from jaxedge.program.certificates import lower_bound
from jaxedge.program.responses import Prices
from jaxedge.relaxation.driver import solve_relaxed
from jaxedge.relaxation.solvers import SOLVERS, Solver

TRIES = 64


def random_prices(program):
    """The best of some guesses, which knows nothing but the lower bound that prices give."""
    count = program.devices.work.shape[0]

    def guess(key):
        energy, split = jnp.exp(jax.random.normal(key)), jnp.full(count, 1 / count)
        total = program.gap / (1 + energy)
        return Prices(energy=0.8 * total * energy, device_time=0.8 * total * split)

    guesses = jax.vmap(guess)(jax.random.split(jax.random.key(0), TRIES))
    bounds = jax.vmap(lambda prices: lower_bound(program, prices))(guesses)
    return jax.tree.map(lambda x: x[jnp.argmax(bounds)], guesses), None


@pytest.fixture
def toy(monkeypatch):
    solver = Solver(name="random-prices", gap=1e-3, find=random_prices)
    monkeypatch.setitem(SOLVERS, solver.name, solver)  # the one line
    return solver


@pytest.fixture
def scenarios():
    return sampling.sample_batch(jax.random.key(1), 4, 3)


def test_its_answers_are_judged(toy, scenarios):
    best, found = jaxedge.solve(scenarios), jaxedge.solve(scenarios, toy.name)
    assert np.all(found.gap > toy.gap)
    assert np.all(found.is_(jaxedge.Status.FEASIBLE))
    assert np.all(found.bound >= best.lower_bound)
    assert np.all(found.lower_bound <= best.bound)
    generous = jaxedge.solve(scenarios, toy.name, gap=0.99)
    np.testing.assert_array_equal(generous.is_(jaxedge.Status.OPTIMAL), found.gap <= 0.99)


def test_a_feasible_answer_of_it_is_not_sent_to_branch_and_bound(toy):
    answer = jaxedge.plan(presets.get("small"), relaxed=True, solver=toy.name)
    assert answer.status is jaxedge.Status.FEASIBLE
    assert "branch and bound" not in answer.message


def test_the_command_line_knows_it(toy, capsys):
    assert main(["plan", "--help"]) == 0
    assert toy.name in " ".join(capsys.readouterr().out.split())
    options = ["--preset", "small", "--relaxed", "--no-schemes", "--json"]
    assert main(["plan", *options, "--solver", toy.name]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "feasible"


def test_it_is_refused_for_what_it_does_not_do(toy, scenarios):
    with pytest.raises(ValueError, match=r"'random-prices' plans .*two-stage.* not 'fine-tuning'"):
        jaxedge.plan(presets.get("small"), bound="fine-tuning", solver=toy.name)
    before = jaxedge.solve(scenarios)
    with pytest.raises(ValueError, match=r"warm_start: only 'dual-decomposition' .* begins"):
        jaxedge.solve(scenarios, toy.name, warm_start=before)


def test_a_misspelt_solver_is_refused_inside_the_package_too(toy):
    with pytest.raises(ValueError, match=r"did you mean '?random-prices"):
        check_options(presets.get("small"), solver="random-price")
    with pytest.raises(ValueError, match=r"did you mean '?random-prices"):
        solve_relaxed(None, solver="random-price")
