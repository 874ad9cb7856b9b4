"""What the benchmark of real training computes, and that its page tells what is recorded."""

import json
from pathlib import Path

import it_pays
import numpy as np
import pytest
from scipy import stats

from jaxedge.bounds.two_stage import two_stage_bound
from jaxedge.training.runs.ledgers import ledger
from tests.short_runs import design, scenario

ROOT = Path(__file__).parents[2]


def test_the_page_has_the_tables_of_the_record():
    record = json.loads((ROOT / "benchmarks" / "records" / "it_pays-cpu.json").read_text())
    text = (ROOT / "docs" / "it_pays.md").read_text(encoding="utf-8")
    rows = it_pays.page_tables(record["results"]["strengths"])
    assert len(rows) > 60
    assert set(rows) <= set(text.splitlines())


def test_random_designs_spend_one_budget_and_no_more():
    own = scenario()
    designs = it_pays.random_designs(own, design(), 20, np.random.default_rng(0))
    budgets = np.array([own.energy_budget, own.delay_budget])
    shares = np.array([ledger(own, each).spent / budgets for each in designs])
    assert (shares <= 1).all()
    assert len({float(each.server.batch) for each in designs}) > 5
    assert {0} < {each.pretraining_rounds for each in designs}


def test_an_interval_is_student_s():
    values = np.array([1.0, 2.0, 4.0])
    mean, half = it_pays.interval(values)
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_rank_correlation_with_its_interval():
    rng = np.random.default_rng(1)
    x = rng.normal(size=60)
    found = it_pays.spearman(x, np.exp(x) + 0.5 * rng.normal(size=60), rng)
    assert found["low"] < found["value"] < found["high"] < 1
    assert it_pays.spearman(np.append(x, np.nan), np.append(-x, 1.0), rng)["value"] == -1


def test_kept_terms_are_those_of_the_proof():
    """Each step's descent lemma with nothing left out, summed by hand."""
    own, plan = scenario(), design(3, 2, (1, 2, 3))
    learning = own.learning
    eta0, eta = float(learning.server_learning_rate), float(learning.device_learning_rate)
    smooth, net = float(learning.smoothness), -0.05
    noise = np.sum(np.square(learning.device_weight) * learning.device_variance / [1, 2, 3])
    above = 2 * learning.initial_gap + 3 * eta0 * net
    above += 3 * smooth * eta0**2 * learning.server_variance / 8 + 2 * smooth * eta**2 * noise
    below = 3 * eta0 + 2 * eta * (2 - smooth * eta)
    (found,) = it_pays.with_kept_terms(own, [plan], net)
    assert found == pytest.approx(float(above / below))
    assert found < two_stage_bound(own, plan)
