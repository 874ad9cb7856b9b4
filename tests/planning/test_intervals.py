"""Plans within intervals: the ends enclose all others, and the central design is judged again."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxedge import presets
from jaxedge.answers.batch import STATUSES
from jaxedge.answers.status import Status
from jaxedge.bounds.two_stage import two_stage_bound
from jaxedge.planning import intervals
from jaxedge.planning.intervals import ENDS, plan_within

DRAWS = 3


def scaled(factor):
    """The small preset with other constants; both stages pay somewhere between the ends."""
    found = presets.get("small")
    learning = found.learning
    # Not all alike, or the design would stay the same.
    powers = {"initial_gap": 1, "discrepancy": 3, "server_variance": 1, "device_variance": 2}
    changed = {
        name: factor**power * np.asarray(getattr(learning, name)) for name, power in powers.items()
    }
    return dataclasses.replace(found, learning=dataclasses.replace(learning, **changed))


@pytest.fixture(scope="module")
def ends():
    return scaled(0.6), scaled(1.0), scaled(1.5)


@pytest.fixture(scope="module")
def within(ends):
    return plan_within(*ends, draws=DRAWS, seed=1)


@pytest.mark.every_python
def test_the_ends_enclose_the_draws(within):
    low, central, high, *drawn = within.answers.bound
    assert low < central < high
    assert all(low * (1 - 1e-3) <= bound <= high * (1 + 1e-3) for bound in drawn)
    assert len(set(drawn)) == len(drawn) == DRAWS
    assert [STATUSES[code] for code in within.answers.status] == ["optimal"] * (3 + DRAWS)


def test_the_central_design_is_judged_under_all_constants(within, ends):
    design = within.answers.allocation
    rounds = design.pretraining_rounds[1], design.finetuning_rounds[1]
    for index, scenario in enumerate(ends):
        fields = {
            "pretraining_rounds": rounds[0],
            "finetuning_rounds": rounds[1],
            "server": dataclasses.replace(design.server, batch=design.server.batch[1]),
            "devices": dataclasses.replace(design.devices, batch=design.devices.batch[1]),
        }
        expected = two_stage_bound(scenario, dataclasses.replace(design, **fields))
        assert within.kept[index] == pytest.approx(float(expected), rel=1e-12)
    assert within.kept[1] == pytest.approx(within.answers.bound[1], rel=1e-9)
    # Whoever knew the constants could do better than it, up to the certified gap, never worse.
    assert np.all(within.kept >= within.answers.lower_bound * (1 - 1e-9))
    assert within.kept[0] > within.answers.bound[0]


def test_it_is_told_in_plain_types(within):
    told = json.loads(json.dumps(within.to_dict(), allow_nan=False))
    assert list(told) == [*ENDS, "draws"]
    assert told["central"]["bound"] == within.answers.bound[1]
    drawn = within.answers.allocation.finetuning_rounds[3:]
    assert told["draws"]["finetuning_rounds"] == [drawn.min(), drawn.max()]
    assert told["pessimistic"]["status"] == "optimal"


def test_where_no_design_fits_nothing_is_claimed(within, ends, monkeypatch):
    code = STATUSES.index(Status.INFEASIBLE)
    nothing = jax.tree.map(lambda x: np.full(np.shape(x), np.nan), within.answers)
    nothing = dataclasses.replace(nothing, status=np.full(3 + DRAWS, code, np.int8))
    monkeypatch.setattr(intervals, "plan_batch", lambda *args, **options: nothing)
    told = plan_within(*ends, draws=DRAWS).to_dict()
    assert told["central"]["status"] == "infeasible"
    assert told["central"]["bound_of_central_design"] is None
    assert told["draws"]["bound"] is None


def test_bad_input_is_named(ends):
    with pytest.raises(ValueError, match="draws = -1: must be a whole number >= 0"):
        plan_within(*ends, draws=-1)
    with pytest.raises(ValueError, match="bound is 'two'"):
        plan_within(*ends, draws=0, bound="two")
