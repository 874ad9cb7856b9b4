"""The optional spectrum of a scenario: files, validation, stacks, fields by path."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxedge import presets
from jaxedge.custom.totals import Case, device_cases
from jaxedge.planning.entry import plan_batch
from jaxedge.scenario import files
from jaxedge.scenario.fields import as_arrays, field_value, with_field
from jaxedge.scenario.scenario import SPECTRUM_FIELDS, Spectrum
from jaxedge.scenario.stacking import stack, unstack
from jaxedge.scenario.validation import validate, validate_batch

PLAIN = presets.get("small")
SPECTRUM = {
    "curvature": [0.001, 0.1, 4.0],
    "start": [0.3, 0.8, 0.4],
    "cross": [0.0, -0.1, 0.1],
    "shift": [0.0, 0.1, 0.05],
    "server_noise": [0.1, 2.0, 5.0],
    "device_noise": [0.2, 1.0, 3.0],
    "floor": 0.1,
    "warmup": 12.5,
}
FIELD = {item.name: item for item in SPECTRUM_FIELDS}


def with_spectrum(base=PLAIN, **changes):
    spectrum = Spectrum(**{**SPECTRUM, **changes})
    return dataclasses.replace(base, learning=dataclasses.replace(base.learning, spectrum=spectrum))


GIVEN = validate(with_spectrum())


def same(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_is_normalised():
    spectrum = GIVEN.learning.spectrum
    assert {name: np.shape(getattr(spectrum, name)) for name in FIELD} == {
        **{name: (3,) for name in ("curvature", "start", "cross", "shift", "server_noise")},
        "device_noise": (3, 3),
        "floor": (),
        "warmup": (),
    }
    assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(spectrum))
    assert same(validate(GIVEN), GIVEN)
    without = {key: value for key, value in SPECTRUM.items() if key != "warmup"}
    assert Spectrum(**without).warmup == 0


@pytest.mark.parametrize("format", ["toml", "json"])
@pytest.mark.parametrize("alike", [True, False])
def test_files_read_back_equal(format, alike):
    noise = SPECTRUM["device_noise"] if alike else [[1, 2, 3], [0, 1, 2], [5, 5, 1 / 3]]
    given = validate(with_spectrum(device_noise=noise))
    assert same(files.loads(files.dumps(given, format), format), given)
    assert files.to_tree(given)["learning"]["spectrum"]["device_noise"] == noise


def test_the_schema_knows_the_table():
    schema = files.json_schema()["properties"]["learning"]["properties"]["spectrum"]
    assert schema["properties"].keys() == SPECTRUM.keys() and not schema["additionalProperties"]
    kinds = {name: entry.get("type", "either") for name, entry in schema["properties"].items()}
    lists = dict.fromkeys(("curvature", "start", "cross", "shift", "server_noise"), "array")
    assert kinds == {**lists, "device_noise": "either", "floor": "number", "warmup": "number"}
    assert "exclusiveMinimum" not in schema["properties"]["cross"]["items"]
    json.dumps(schema, allow_nan=False)


def test_a_scenario_without_one_is_written_as_before():
    assert "spectrum" not in files.dumps(PLAIN) and "spectrum" not in files.to_tree(PLAIN)
    assert "spectrum" not in files.template()
    assert len(jax.tree.leaves(PLAIN)) == len(jax.tree.leaves(GIVEN)) - len(FIELD)


def test_comments_stand_beside_the_modes():
    text = files.to_toml(GIVEN, comments=True)
    assert "[learning.spectrum]" in text and "# h_j, increasing" in text
    assert same(files.loads(text), GIVEN)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cross": [0.0, 0.3, 0.1]}, r"spectrum\.cross\[1\] = 0\.3 must fulfil cross² <= start sh"),
        ({"start": [0.3, -0.8, 0.4]}, r"start\[1\] = -0\.8 must be a finite number >= 0 \(A_j"),
        ({"server_noise": [0.1, np.nan, 1]}, r"server_noise\[1\] = nan must be a finite number"),
        ({"cross": [np.inf, 0, 0]}, r"cross\[0\] = inf must be a finite number \(B_j"),
        ({"curvature": [0.001, 0.1, 100.0]}, r"curvature\[2\] = 100.0 must be below 1/learning\.s"),
        ({"curvature": [0.1, 0.1, 4.0]}, r"curvature\[1\] = 0\.1 must be greater than the one bef"),
        ({"curvature": [0.0, 0.1, 4.0]}, r"curvature\[0\] = 0\.0 must be a finite number > 0"),
        ({"start": [0.3, 0.8]}, r"differ in length: .*start has 2.*one number for each curvature"),
        ({"curvature": []}, r"curvature has shape \(0,\): must be a list of J numbers"),
        ({"curvature": 1.0}, r"curvature has shape \(\): must be a list of J numbers"),
        ({"start": [SPECTRUM["start"]] * 3}, r"start has shape \(3, 3\): must be a list of J num"),
        ({"floor": [0.1, 0.2]}, r"floor has shape \(2,\): must be one number"),
        ({"floor": -0.1}, r"floor = -0\.1 must be a finite number >= 0"),
        ({"warmup": -1}, r"warmup = -1\.0 round must be a finite number >= 0"),
        ({"device_noise": [[1, 2, 3]] * 2}, r"differ in length: .*spectrum\.device_noise has 2"),
        ({"device_noise": [[1, 2, 3], [1, 2, -3], [1, 2, 3]]}, r"device_noise\[1, 2\] = -3\.0"),
        ({"shift": "much"}, r"shift = 'much' is not numeric .*must be a list of J numbers"),
    ],
)
def test_bad_spectra_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        validate(with_spectrum(**changes))


def test_both_stages_must_descend():
    given = with_spectrum(curvature=[0.001, 0.1, 60.0])
    learning = dataclasses.replace(given.learning, device_learning_rate=0.02)
    with pytest.raises(ValueError, match=r"60\.0 must be below 1/learning\.device_learning_rate"):
        validate(dataclasses.replace(given, learning=learning))


def test_rounded_atoms_of_rank_one_pass():
    validate(
        with_spectrum(start=[0.1] * 3, shift=[0.3] * 3, cross=[np.sqrt(0.03) * (1 + 1e-12)] * 3)
    )


@pytest.mark.parametrize(
    ("spectrum", "message"),
    [
        ({**SPECTRUM, "flor": 1}, r"unknown key 'flor' in \[learning\.spectrum\]: did you mean f"),
        ({"curvature": [1.0]}, r"missing learning\.spectrum\.start in 1 \(A_j"),
        (3, r"learning\.spectrum must be a table of keys, got 3"),
    ],
)
def test_bad_tables_are_refused(spectrum, message):
    tree = files.to_tree(PLAIN)
    tree["learning"]["spectrum"] = spectrum
    with pytest.raises(ValueError, match=message):
        files.loads(json.dumps(tree), "json")


def test_a_misspelt_table_is_recognised():
    tree = files.to_tree(PLAIN)
    tree["learning"]["spectum"] = SPECTRUM
    with pytest.raises(ValueError, match="did you mean spectrum"):
        files.from_tree(tree)


def test_anything_else_is_no_spectrum():
    learning = dataclasses.replace(PLAIN.learning, spectrum=SPECTRUM)
    with pytest.raises(ValueError, match="must be a Spectrum or None, got dict"):
        validate(dataclasses.replace(PLAIN, learning=learning))


def test_neither_stage_needs_a_round():
    nothing = {"min_pretraining_rounds": 0, "min_finetuning_rounds": 0}
    assert validate(dataclasses.replace(GIVEN, **nothing)).min_pretraining_rounds == 0
    with pytest.raises(ValueError, match="a design could do nothing"):
        validate(dataclasses.replace(PLAIN, **nothing))


# --- batches ----------------------------------------------------------------------------------


def test_stacks_and_unstacks():
    other = validate(with_spectrum(floor=0.2, device_noise=[[1, 2, 3], [4, 5, 6], [7, 8, 9]]))
    batch = stack([GIVEN, other])
    assert np.shape(batch.learning.spectrum.device_noise) == (2, 3, 3)
    assert same(validate_batch(batch), batch)
    assert all(same(a, b) for a, b in zip(unstack(batch), [GIVEN, other], strict=True))


def test_a_stack_has_one_number_of_modes():
    single = {
        key: value[:1] if isinstance(value, list) else value for key, value in SPECTRUM.items()
    }
    for other, count in ((PLAIN, 0), (validate(with_spectrum(**single)), 1)):
        with pytest.raises(ValueError, match=f"scenario 0 has 3 modes .* scenario 1 has {count}:"):
            stack([GIVEN, other])


def test_a_batch_names_the_element_at_fault():
    batch = stack([GIVEN, GIVEN])
    bad = np.array(batch.learning.spectrum.cross)
    bad[1, 2] = 9.0
    broken = with_field(batch, FIELD["cross"], bad)
    with pytest.raises(ValueError, match=r"scenario 1: learning\.spectrum\.cross\[2\] = 9\.0"):
        validate_batch(broken)


def test_batches_plan_with_and_without_one():
    plans = plan_batch([GIVEN, PLAIN], relaxed=True)
    assert plans[0].bound == plans[1].bound  # the two-stage average knows no spectrum


# --- fields by path ---------------------------------------------------------------------------


@pytest.mark.parametrize("item", SPECTRUM_FIELDS, ids=lambda item: item.name)
def test_fields_are_read_and_replaced(item):
    assert item.path == f"learning.spectrum.{item.name}"
    value = field_value(GIVEN, item)
    assert np.ndim(value) == item.ndim
    changed = with_field(GIVEN, item, value / 2)
    np.testing.assert_array_equal(field_value(changed, item), value / 2)
    assert field_value(PLAIN, item) is None
    with pytest.raises(ValueError, match=r"the scenario has no learning\.spectrum"):
        with_field(PLAIN, item, value)


def test_modes_are_not_taken_for_devices():
    single = validate(with_spectrum(presets.get("small")))
    assert np.shape(as_arrays(single).devices.gain) == (3,)
    many = {key: np.resize(value, 7) for key, value in SPECTRUM.items() if key not in ("floor",)}
    many |= {"curvature": np.arange(1, 8) / 10, "cross": np.zeros(7), "warmup": 0}
    assert np.shape(as_arrays(validate(with_spectrum(**many))).devices.gain) == (3,)


def test_a_users_device_function_sees_no_spectrum():
    case = device_cases(Case(scenario=GIVEN, own={}))
    assert case.scenario.learning.spectrum is None
