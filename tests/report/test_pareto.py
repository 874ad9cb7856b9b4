import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxedge.report.pareto import non_dominated, staircase


def by_brute_force(points):
    def beaten(one):
        return any(np.all(other <= one) and np.any(other < one) for other in points)

    return [i for i, one in enumerate(points) if not beaten(one)]


@given(
    arrays(
        float,
        st.tuples(st.integers(0, 30), st.integers(1, 4)),
        elements=st.integers(0, 6).map(float),  # few values, so that many points tie
    )
)
def test_fronts_are_those_of_brute_force(points):
    assert list(non_dominated(points)) == by_brute_force(points)


def test_fronts_of_many_points_are_those_of_brute_force():
    points = np.random.default_rng(0).normal(size=(400, 3))
    assert list(non_dominated(points)) == by_brute_force(points)


def test_equal_points_stand_together():
    assert list(non_dominated(np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [2.0, 2.0]]))) == [
        0,
        1,
        2,
    ]


def test_a_staircase_goes_along_what_is_reached():
    points = np.array([[3.0, 1.0], [1.0, 3.0], [2.0, 2.0], [3.0, 3.0], [2.0, 2.0]])
    np.testing.assert_array_equal(staircase(points), [[1, 3], [2, 3], [2, 2], [3, 2], [3, 1]])
    random = np.random.default_rng(1).random((50, 2))
    for x, y in staircase(random):
        reached = np.any(np.all(random <= [x, y], axis=1))
        beyond = np.any(np.all(random < [x, y], axis=1))
        assert reached and not beyond


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_of_nothing_there_is_no_front(objectives):
    assert len(non_dominated(np.zeros((0, objectives)))) == 0
