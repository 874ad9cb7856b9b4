"""The rooms of training: imports among them point down, and each hands on what it says."""

import importlib
import inspect

import pytest

from tests.test_house import inner_imports, modules

ROOMS = ["data", "models", "rounds", "runs", "calibration"]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_down(room):
    above = ROOMS[ROOMS.index(room) + 1 :]
    for name in (name for name in modules() if name.startswith(f"training.{room}.")):
        rooms = {other.split(".")[1] for other in inner_imports(name) if "training." in other}
        assert not rooms & {*above}, name


@pytest.mark.parametrize("room", ["", *(f".{room}" for room in ROOMS)])
def test_a_room_hands_on_what_it_says(room):
    package = importlib.import_module(f"jaxedge.training{room}")
    assert dir(package) == sorted(package.__all__)
    for name in package.__all__:
        assert not inspect.ismodule(getattr(package, name)), name
