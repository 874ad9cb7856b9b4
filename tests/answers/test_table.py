import dataclasses
import math

import pytest

from jaxedge.answers.plan import Plan
from jaxedge.answers.status import Status
from jaxedge.answers.table import plan_table
from jaxedge.words.quantities import percent
from jaxedge.words.text_table import aligned, index_ranges
from tests.hand_made_plans import SCHEMES, hand_made, infeasible, with_schemes


def _line(table, start):
    lines = [line for line in table.splitlines() if line.strip().startswith(start)]
    assert len(lines) == 1, (start, lines)
    return lines[0]


@pytest.mark.parametrize("preset", ["default", "small", "large"])
@pytest.mark.parametrize("rounds", [(400, 150), (0, 150), (400, 0), (123456789, 1)])
def test_fits_a_terminal_in_ascii(preset, rounds):
    scenario, plan = hand_made(preset, *rounds)
    for table in (plan_table(with_schemes(plan), scenario), plan_table(with_schemes(plan))):
        assert table.isascii()
        assert max(map(len, table.splitlines())) <= 100
        assert not any(line != line.rstrip() for line in table.splitlines())
        assert "nan" not in table.replace("dominant", "")
        assert "inf " not in table


def test_headline_says_what_is_certified():
    scenario, plan = hand_made()
    table = plan_table(plan, scenario)
    assert "two-stage bound, whole rounds and batches" in table
    assert _line(table, "status").endswith("optimal")
    assert "0.0200 % (requested: 0.100 %)" in _line(table, "certified gap")
    assert "+1.20 % against this design" in _line(table, "naive rounding")
    assert f"{plan.bound:.6f}" in _line(table, "bound")
    assert f"{plan.lower_bound:.6f}" in _line(table, "lower bound")


def test_design_has_units_and_one_row_per_device():
    scenario, plan = hand_made()
    table = plan_table(plan, scenario)
    assert _line(table, "server, pre-training").split()[2:6] == ["400", "6", "4.000", "GHz"]
    assert "400.0 mW  26.0 dBm" in _line(table, "server, broadcast")
    assert "199.5 mW  23.0 dBm" in _line(table, "device 1,")
    assert "MHz" in _line(table, "device 1,")
    assert sum(line.startswith("device ") for line in table.splitlines()) == 11  # and computing


def test_many_devices_are_summarised():
    scenario, plan = hand_made("large")
    table = plan_table(plan, scenario)
    assert "100 devices, median" in table
    assert "device 0, fine-tuning" not in table
    assert "34 of 100 devices: clock at its maximum" in table


def test_budgets_and_shares():
    scenario, plan = hand_made()
    table = plan_table(plan, scenario)
    assert f"{plan.energy:.3f} J" in table
    assert "99.98 %" in table[table.index("BUDGETS") :].splitlines()[1]
    assert "99.01 %" in table[table.index("BUDGETS") :].splitlines()[2]


def test_binding_limits_in_words():
    scenario, plan = hand_made()
    table = plan_table(plan, scenario)
    assert "  energy budget\n" in table
    assert "delay budget" not in table
    assert "  devices 0, 3, 6, 9: clock at its maximum\n" in table
    assert "  device 0: batch at its minimum\n" in table
    assert "waits for device 9" in table


def test_shadow_prices_in_sentences():
    scenario, plan = hand_made()
    table = plan_table(plan, scenario)
    assert "-1.250e-4 per J: one more joule lowers the bound by 1.250e-4" in table
    share = 0.01 * float(scenario.energy_budget) * 1.25e-4 / plan.bound
    assert f"lowers it by {percent(share)}" in table
    assert "0 per s: one more second changes nothing" in table
    unknown = dataclasses.replace(plan, shadow_prices={"energy_budget": None})
    assert plan_table(unknown, scenario).count("unknown") == 2


def test_schemes_are_compared_to_the_joint_design():
    scenario, plan = hand_made()
    table = plan_table(with_schemes(plan), scenario)
    for index, name in enumerate(SCHEMES):
        line = _line(table, name)
        if name == "maximum clocks":
            assert "infeasible" in line
        else:
            assert f"+{10 * (index + 1)}.0 %" in line
            assert " 400 " in line


def test_without_a_scenario_only_what_is_known():
    _, plan = hand_made()
    text = str(plan)
    assert "DESIGN" in text
    assert "SHADOW PRICES" in text
    assert "BUDGETS" not in text
    assert "WHERE IT GOES" not in text


def test_infeasible_and_failed_say_why():
    scenario, _ = hand_made()
    table = plan_table(infeasible(), scenario)
    assert _line(table, "status").endswith("infeasible")
    assert "at least 321 s" in " ".join(table.split())
    failed = Plan(status=Status.FAILED, bound_name="two-stage", relaxed=True, requested_gap=1e-6)
    assert "real rounds and batches" in plan_table(failed, scenario)
    assert Status.FAILED.advice(relaxed=True) in " ".join(plan_table(failed).split())


def test_naive_rounding_that_breaks_a_limit_is_said_so_and_relaxed_plans_have_none():
    scenario, plan = hand_made()
    broken = dataclasses.replace(plan, naive_rounding=None)
    assert "breaks a limit" in _line(plan_table(broken, scenario), "naive rounding")
    relaxed = dataclasses.replace(broken, relaxed=True)
    assert "naive rounding" not in plan_table(relaxed, scenario)


def test_an_infinite_gap_is_no_number():
    _, plan = hand_made()
    table = plan_table(dataclasses.replace(plan, lower_bound=0.0))
    assert math.isinf(dataclasses.replace(plan, lower_bound=0.0).gap)
    assert " - (requested" in _line(table, "certified gap")


def test_table_columns_align():
    assert aligned([("name", "a", "bb"), ("x", "100"), ("longer", "1", "2")]) == [
        "name      a  bb",
        "x       100",
        "longer    1   2",
    ]


@pytest.mark.parametrize(
    ("indices", "text"),
    [([], ""), ([4], "4"), ([0, 1, 2, 3, 7], "0-3, 7"), ([0, 2, 4, 5], "0, 2, 4-5")],
)
def test_index_ranges(indices, text):
    assert index_ranges(indices) == text
