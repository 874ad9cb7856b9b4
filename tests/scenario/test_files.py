import json
import os
import re
import tomllib

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxedge import presets
from jaxedge.scenario import files
from jaxedge.scenario.keys import field_at
from jaxedge.scenario.scenario import FIELDS, Scenario

INTERFACE = """
noise_density = 4e-21
upload_bits = 1e6
download_bits = 1e6
energy_budget = 300.0
delay_budget = 900.0
min_pretraining_rounds = 1
min_finetuning_rounds = 1

[learning]
initial_gap = 2.3
smoothness = 10.0
discrepancy = 0.02
server_learning_rate = 0.01
device_learning_rate = 0.01
server_variance = 12.0
device_variance = [9.0, 14.0]
device_weight = [0.5, 0.5]
pl_constant = 0.05

[server]
cycles_per_sample = 2e6
capacitance = 1e-27
max_clock = 1e10
min_batch = 1
max_batch = 512
bandwidth = 1e7
max_power = 1.0

[devices]
cycles_per_sample = 2e7
capacitance = 1e-28
max_clock = [1e9, 1.5e9]
min_batch = 1
max_batch = 128
bandwidth = 1e6
gain = [1e-11, 4e-12]
max_power = 0.2
"""


def equal(one, other):
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


def edited(old, new):
    assert INTERFACE.count(old) == 1
    return INTERFACE.replace(old, new)


def test_the_documented_file_loads():
    scenario = files.loads(INTERFACE)
    np.testing.assert_array_equal(scenario.devices.downlink_gain, [1e-11, 4e-12])
    np.testing.assert_array_equal(scenario.devices.max_power, [0.2, 0.2])
    assert scenario.server.max_batch == 512


# line of the documented file, the same with its unit in the key, path
SAME = [
    ("noise_density = 4e-21", "noise_density_dbm_per_hz = -173.9794000867204"),
    ("upload_bits = 1e6", "upload_mbit = 1"),
    ("upload_bits = 1e6", "upload_bits_mbit = 1.0"),
    ("download_bits = 1e6", "download_kbyte = 125"),
    ("energy_budget = 300.0", "energy_budget_kj = 0.3"),
    ("delay_budget = 900.0", "delay_budget_min = 15"),
    ("delay_budget = 900.0", "delay_budget_h = 0.25"),
    ("bandwidth = 1e7", "bandwidth_mhz = 10"),
    ("max_clock = 1e10", "max_clock_ghz = 10"),
    ("max_clock = [1e9, 1.5e9]", "max_clock_ghz = [1, 1.5]"),
    ("max_power = 1.0", "max_power_dbm = 30"),
    ("max_power = 0.2", "max_power_mw = [200, 200]"),
    ("gain = [1e-11, 4e-12]", "gain_db = [-110, -113.97940008672037]"),
    ("cycles_per_sample = 2e7", "cycles_per_sample_mcycle = 20"),
    ("min_pretraining_rounds = 1\n", ""),
    ("min_batch = 1\nmax_batch = 128", "max_batch = 128"),
    ("device_weight = [0.5, 0.5]", "device_weight = 0.5"),
]


@pytest.mark.parametrize(("line", "other"), SAME)
def test_units_in_keys(line, other):
    expected = jax.tree.leaves(files.loads(INTERFACE))
    for one, two in zip(jax.tree.leaves(files.loads(edited(line, other))), expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-13)


BAD = [
    (
        "energy_budget = 300.0",
        "energy_bugdet = 300.0",
        "unknown key 'energy_bugdet' at the top .*energy_budget",
    ),
    ("max_clock = 1e10", "max_clok = 1e10", r"unknown key 'max_clok' in \[server\]: .*max_clock"),
    ("max_clock = 1e10", "max_clock_gzh = 1e10", "did you mean max_clock_ghz"),
    ("[devices]", "[device]", "unknown key 'device' at the top level: did you mean devices"),
    (
        "max_power = 1.0",
        "gain = 1.0",
        r"unknown key 'gain' in \[server\]: it belongs to \[devices\]",
    ),
    ("initial_gap = 2.3", "energy_budget = 2.3", "it belongs to the top level"),
    (
        "initial_gap = 2.3",
        "zzzzzz = 2.3",
        "unknown key 'zzzzzz' .*must be one of initial_gap, smoo",
    ),
    ("max_power = 1.0", "max_power_mhz = 1.0", "cannot be given in MHz .*max_power_dbm"),
    (
        "max_power = 1.0",
        "max_power_db = 1.0",
        r"server.max_power cannot be given in dB \(key max_power_db",
    ),
    (
        "initial_gap = 2.3",
        "initial_gap_db = 2.3",
        r"initial_gap cannot be given in dB .*use initial_gap",
    ),
    (
        "max_power = 1.0",
        "max_power = 1.0\nmax_power_dbm = 30",
        "server.max_power is given twice, as",
    ),
    ("upload_bits = 1e6", "upload_mbit = 1\nupload_bits_mbit = 1", "upload_bits is given twice"),
    ("max_power = 1.0", "max_power = 1.0\nmax_power = 1.0", "not valid TOML: .*overwrite"),
    ("max_power = 1.0", "", r"missing server.max_power in W \(highest transmit power"),
    ("delay_budget = 900.0", "", r"missing delay_budget in s \(T, time of both"),
    (
        "max_power = 1.0",
        "max_power_dbm = nan",
        r"server.max_power \(max_power_dbm\) = nan dBm must",
    ),
    ("max_power = 1.0", "max_power_dbm = inf", "= inf dBm must be finite .*large finite number"),
    ("max_power = 1.0", "max_power_dbm = 1e5", "server.max_power = inf W must be a finite number"),
    ("max_power = 1.0", "max_power_dbm = '30'", "server.max_power = '30' W is not numeric"),
    ("max_power = 1.0", "max_power_dbm = true", "server.max_power = True W is not numeric"),
    (
        "max_power = 1.0",
        "max_power = 1979-05-27",
        "server.max_power = .* is not numeric .*type date",
    ),
    ("bandwidth = 1e7", "bandwidth_mhz = -10", "server.bandwidth = -10000000.0 Hz must be .* > 0"),
    ("max_power = 1.0", "max_power = [1.0, 2.0]", "server.max_power has shape"),
    (
        "energy_budget = 300.0",
        "energy_budget = inf",
        "energy_budget = inf J must be .*large finite",
    ),
    ("[server]", "[server.more]", "server: |unknown key 'more' in .server"),
    ("[server]", "[[server]]", "server must be a table of keys, got a list"),
    ("noise_density = 4e-21", "noise_density = ", "not valid TOML: .*line 2"),
    ("noise_density = 4e-21", "noise_density = " + "9" * 5000, "not valid TOML: |too large"),
    ("noise_density = 4e-21", "noise_density = " + "[" * 5000, "not valid TOML: nested too deeply"),
]


@pytest.mark.parametrize(("line", "other", "message"), BAD)
def test_bad_files_are_named(line, other, message):
    with pytest.raises(ValueError, match=message):
        files.loads(edited(line, other))


BAD_JSON = [
    ("", "the text is empty"),
    ("null", "a scenario must be a table of keys, got None"),
    ("[]", "got a list: many scenarios go through `jaxedge batch`"),
    ("{", "not valid JSON: .*line 1"),
    (
        '{"energy_budget": 1, "energy_budget": 2}',
        "the key 'energy_budget' is given twice: keep one",
    ),
    ('{"energy_budget": NaN}', "NaN is not a JSON number: give a finite number"),
    ('{"energy_budget": -Infinity}', "-Infinity is not a JSON number"),
    ('{"server": 3}', "missing noise_density|server must be a table"),
    ('{"relaxation": {}}', "unknown key 'relaxation' at the top level"),
    ("{}", "missing noise_density in W/Hz .*energy_budget in J"),
    ('{"a":' * 100_000, "not valid JSON"),
]


@pytest.mark.parametrize(("text", "message"), BAD_JSON)
def test_bad_json_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        files.loads(text, "json")


def test_unknown_format_is_refused():
    with pytest.raises(ValueError, match="format = 'yaml': must be 'toml' or 'json'"):
        files.loads(INTERFACE, "yaml")


@pytest.mark.parametrize("format", ["toml", "json"])
@pytest.mark.parametrize("name", presets.names())
def test_round_trip_is_exact(name, format):
    scenario = presets.get(name)
    assert equal(files.loads(files.dumps(scenario, format), format), scenario)


@pytest.mark.parametrize("format", ["toml", "json"])
@given(seed=st.integers(0, 2**32 - 1), devices=st.sampled_from([1, 2, 7]))
def test_round_trip_of_samples(format, seed, devices):
    scenario = presets.sample(jax.random.key(seed), devices)
    assert equal(files.loads(files.dumps(scenario, format), format), scenario)


@pytest.mark.parametrize("name", presets.names())
def test_template_is_the_preset_with_comments(name):
    text = files.template(name)
    assert equal(files.loads(text), presets.get(name))
    for item in FIELDS:
        assert item.meaning in text
    assert "# J: E, energy of the whole system" in text


def test_template_shows_what_may_be_left_out(tmp_path):
    tree = tomllib.loads(INTERFACE)
    del tree["learning"]["pl_constant"]
    scenario = files.from_tree(tree)
    assert scenario.learning.pl_constant is None
    assert "pl_constant" not in files.dumps(scenario)
    assert equal(files.loads(files.dumps(scenario)), scenario)
    with pytest.raises(ValueError, match="preset 'none' is unknown"):
        files.template("none")


@pytest.mark.parametrize("name", ["a.toml", "a.json", "a.TOML", "plain"])
def test_files_by_suffix(tmp_path, name):
    scenario = presets.get("small")
    files.dump(scenario, tmp_path / name)
    assert equal(files.load(tmp_path / name), scenario)


def test_content_decides_without_suffix(tmp_path):
    scenario = presets.get("small")
    path = tmp_path / "scenario"
    path.write_text(files.dumps(scenario, "json"))
    assert equal(files.load(str(path)), scenario)
    path.write_text("﻿" + INTERFACE, encoding="utf-8")
    assert equal(files.load(path), files.loads(INTERFACE))
    path.write_text(" [{}]")
    with pytest.raises(files.ScenarioFileError, match="jaxedge batch"):
        files.load(path)


BAD_BYTES = [
    (b"", "is empty: `jaxedge init"),
    (b" \n\t", "is empty"),
    (b"\x89PNG\r\n\x1a\n\x00\x00", "is a binary file"),
    (b"a = '\xff\xfe'", r"is not UTF-8 text \(byte 5\)"),
    (b"a = ", "not valid TOML"),
]


@pytest.mark.parametrize(("raw", "message"), BAD_BYTES)
def test_unreadable_content(tmp_path, raw, message):
    path = tmp_path / "scenario.toml"
    path.write_bytes(raw)
    for load in (files.load, files.load_batch) if raw != b"a = " else (files.load,):
        with pytest.raises(files.ScenarioFileError, match=message) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert caught.value.path == str(path)


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(files.ScenarioFileError, match="is a directory"):
        files.load(tmp_path)
    with pytest.raises(files.ScenarioFileError, match="does not exist: `jaxedge init"):
        files.load(tmp_path / "none.toml")
    with pytest.raises(files.ScenarioFileError, match="NUL"):
        files.load("a\0b")
    with pytest.raises(files.ScenarioFileError, match="cannot be read: File name too long"):
        files.load(tmp_path / ("x" * 5000))
    with pytest.raises(files.ScenarioFileError, match="cannot be written: No such file"):
        files.dump(presets.get("small"), tmp_path / "none" / "a.toml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(tmp_path):
    path = tmp_path / "scenario.toml"
    path.write_text(INTERFACE)
    path.chmod(0)
    with pytest.raises(files.ScenarioFileError, match="cannot be read: Permission denied"):
        files.load(path)


def test_huge_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 100)
    path = tmp_path / "scenario.toml"
    path.write_text(INTERFACE)
    with pytest.raises(files.ScenarioFileError, match="is larger than 100 bytes"):
        files.load(path)


@pytest.mark.parametrize("name", ["relaxation.json", "fine_tuning.json"])
def test_batches_of_cases(data_dir, name):
    cases = json.loads((data_dir / name).read_text())["cases"]
    loaded = files.load_batch(data_dir / name)
    assert [index for index, _ in loaded] == list(range(len(cases)))
    for (_, scenario), case in zip(loaded, cases, strict=True):
        np.testing.assert_array_equal(scenario.devices.gain, case["scenario"]["devices"]["gain"])


def test_batch_of_a_plain_list_names_its_bad_element(tmp_path):
    tree = files.to_tree(presets.get("small"))
    path = tmp_path / "batch.json"
    path.write_text(json.dumps([tree, {"scenario": tree, "note": 1}]))
    assert len(files.load_batch(path)) == 2
    path.write_text(json.dumps([tree, {**tree, "energy_budget": -1}]))
    with pytest.raises(files.ScenarioFileError, match=r"element 1: energy_budget = -1.0 J must"):
        files.load_batch(path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"cases": {}}', '{"cases": []}', "3"])
def test_what_is_no_batch_is_refused(tmp_path, text):
    path = tmp_path / "batch.json"
    path.write_text(text)
    with pytest.raises(files.ScenarioFileError, match="a batch must be a list"):
        files.load_batch(path)


@pytest.mark.parametrize("element", [None, 3, "x", [], {"scenario": None}])
def test_elements_must_be_scenarios(tmp_path, element):
    path = tmp_path / "batch.json"
    path.write_text(json.dumps([element]))
    with pytest.raises(files.ScenarioFileError, match="element 0: a scenario must be a table"):
        files.load_batch(path)


def test_schema_knows_every_key():
    schema = files.json_schema()
    json.dumps(schema, allow_nan=False)
    for item in FIELDS:
        home = schema["properties"][item.section] if item.section else schema
        assert item.meaning in home["properties"][item.name]["description"]
    server = schema["properties"]["server"]
    assert "max_power_dbm" in server["properties"]
    assert server["additionalProperties"] is False
    assert schema["required"] == ["learning", "server", "devices"]


def refused_or_scenario(function, *arguments):
    """Anything but a scenario or a ValueError in words is a defect."""
    try:
        assert isinstance(function(*arguments), Scenario | list)
    except ValueError as error:
        assert str(error)


@given(st.text(), st.sampled_from(["toml", "json"]))
def test_any_text(text, format):
    refused_or_scenario(files.loads, text, format)


@given(raw=st.binary(max_size=200), suffix=st.sampled_from([".toml", ".json", ""]))
def test_any_bytes(tmp_path_factory, raw, suffix):
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(raw)
    refused_or_scenario(files.load, path)
    refused_or_scenario(files.load_batch, path)


TEXTS = {"toml": INTERFACE, "json": json.dumps(tomllib.loads(INTERFACE))}
PIECES = [
    "",
    "-",
    "nan",
    "1e999",
    "[",
    "]",
    "{}",
    '"',
    "=",
    "\n",
    "null",
    "_dbm",
    "0",
    ",",
    "\0",
    "é",
]


@pytest.mark.parametrize("format", TEXTS)
@given(data=st.data())
def test_mutated_text(format, data):
    text = TEXTS[format]
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 12))
        text = text[:start] + data.draw(st.sampled_from(PIECES)) + text[start + length :]
    refused_or_scenario(files.loads, text, format)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
PATHS = [item.path for item in FIELDS] + ["learning", "server", "devices"]


def with_value(path, value):
    tree = tomllib.loads(INTERFACE)
    section, _, name = path.rpartition(".")
    (tree[section] if section else tree)[name] = value
    return tree


@given(path=st.sampled_from(PATHS), value=ANYTHING)
def test_mutated_values(path, value):
    refused_or_scenario(files.from_tree, with_value(path, value))


@given(path=st.sampled_from(PATHS), exponent=st.integers(-323, 308))
def test_extreme_magnitudes(path, exponent):
    refused_or_scenario(files.from_tree, with_value(path, float(f"1e{exponent}")))


@pytest.mark.parametrize(
    ("path", "field", "unit"),
    [
        ("energy_budget", "energy_budget", None),
        ("energy_budget_kj", "energy_budget", "kJ"),
        ("server.max_power_dbm", "server.max_power", "dBm"),
        ("upload_mbit", "upload_bits", "Mbit"),
    ],
)
def test_dotted_paths_with_units_give_fields(path, field, unit):
    item, found = field_at(path)
    assert item.path == field
    assert (None if found is None else found.symbol) == unit


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("sever.max_power", "unknown section 'sever' in 'sever.max_power': did you mean server?"),
        ("server.max_powr", "did you mean max_power?"),
        ("server.max_power_mhz", "server.max_power cannot be given in MHz"),
        ("max_power", "belongs to"),
    ],
)
def test_dotted_paths_that_give_no_field_are_explained(path, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        field_at(path)
