"""Data sets are read as written, checked on entry, shifted by a dial and spread fairly."""

import gzip
import json
import struct
import sys

import h5py
import numpy as np
import pytest

from jaxedge.training.data.data_files import (
    digits,
    read_cifar,
    read_femnist,
    read_idx,
    read_leaf,
    read_npz,
    write_npz,
)
from jaxedge.training.data.datasets import dataset, split
from jaxedge.training.data.partitions import PARTITIONS, partition
from jaxedge.training.data.shifts import SHIFTS, shift

RNG = np.random.default_rng(0)


def idx_bytes(array, code=0x08):
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return head + array.tobytes()


@pytest.fixture(scope="module")
def real():
    return digits()


@pytest.fixture
def idx_files(tmp_path):
    images, labels = RNG.integers(0, 256, (7, 5, 4), np.uint8), np.arange(7, dtype=np.uint8)
    (tmp_path / "images").write_bytes(idx_bytes(images))
    (tmp_path / "labels.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    return images, labels, tmp_path / "images", tmp_path / "labels.gz"


def test_digits_are_the_real_ones(real):
    assert real.x.shape == (1797, 8, 8, 1)
    assert real.x.min() == 0
    assert real.x.max() == 1
    assert np.bincount(real.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_idx_plain_and_gzipped(idx_files):
    images, labels, *paths = idx_files
    found = read_idx(*paths)
    np.testing.assert_allclose(found.x[..., 0] * 255, images, atol=1e-4)
    assert found.y.tolist() == labels.tolist()


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_truncated_idx_file_is_refused(idx_files, cut):
    *_, images, labels = idx_files
    images.write_bytes(images.read_bytes()[:-cut])
    with pytest.raises(ValueError, match=r"images: is (truncated or damaged|no IDX file)"):
        read_idx(images, labels)
    labels.write_bytes(labels.read_bytes()[:-cut])
    with pytest.raises(ValueError, match=r"labels\.gz: (cannot be read|is truncated)"):
        read_idx(labels, labels)


def test_exchanged_idx_files_are_noticed(idx_files):
    *_, images, labels = idx_files
    with pytest.raises(ValueError, match="are images and labels exchanged"):
        read_idx(labels, images)
    with pytest.raises(ValueError, match="nothing-here: does not exist"):
        read_idx(images.with_name("nothing-here"), labels)


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_records(tmp_path, classes):
    pixels = RNG.integers(0, 256, (6, 3, 32, 32), np.uint8)
    labels = RNG.integers(0, classes, (6, 1 if classes == 10 else 2), np.uint8)
    records = np.concatenate([labels, pixels.reshape(6, -1)], axis=1)
    files = [tmp_path / "a.bin", tmp_path / "b.bin"]
    files[0].write_bytes(records[:4].tobytes())
    files[1].write_bytes(records[4:].tobytes())
    found = read_cifar(files, num_classes=classes)
    np.testing.assert_allclose(found.x[5, 3, 7] * 255, pixels[5, :, 3, 7], atol=1e-4)
    assert found.y.tolist() == labels[:, -1].tolist()
    with pytest.raises(ValueError, match="must be a positive multiple of"):
        read_cifar(files, num_classes=110 - classes)


def test_labels_that_cifar_cannot_have_are_named(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes([11]) + bytes(3072))
    with pytest.raises(ValueError, match=r"labels \[11\] of samples \[0\]: must be from 0 to 9"):
        read_cifar([tmp_path / "a.bin"])


def test_leaf_users_are_natural_clients(tmp_path):
    users = {"u1": {"x": [[0.0, 1.0]], "y": [1]}, "u2": {"x": [[2.0, 3.0]] * 3, "y": [0, 2, 1]}}
    content = {"users": list(users), "num_samples": [1, 3], "user_data": users}
    (tmp_path / "all.json").write_text(json.dumps(content))
    found = read_leaf(tmp_path)
    assert found.offsets.tolist() == [0, 1, 4]
    spread = partition(found, "natural", 2)
    assert [spread.of(k).tolist() for k in range(2)] == [[0], [1, 2, 3]]
    with pytest.raises(ValueError, match="fewer than 3 devices"):
        partition(found, "natural", 3)
    content["user_data"]["u1"]["y"] = []
    (tmp_path / "all.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="user 'u1' has 1 inputs and 0 labels"):
        read_leaf(tmp_path)
    (tmp_path / "all.json").write_text("{}")
    with pytest.raises(ValueError, match="is no LEAF file: 'users'"):
        read_leaf(tmp_path)


def test_femnist_writers_are_natural_clients(tmp_path):
    pixels = RNG.random((5, 28, 28), np.float32)
    with h5py.File(tmp_path / "train.h5", "w") as file:
        for name, some in (("f01", slice(0, 2)), ("f02", slice(2, 5))):
            file[f"examples/{name}/pixels"] = pixels[some]
            file[f"examples/{name}/label"] = np.arange(5)[some]
    found = read_femnist(tmp_path / "train.h5")
    np.testing.assert_array_equal(found.x[..., 0], pixels)
    assert found.y.tolist() == [0, 1, 2, 3, 4]
    assert found.offsets.tolist() == [0, 2, 5]


def test_femnist_without_its_reader_or_of_another_kind_says_so(tmp_path, monkeypatch):
    (tmp_path / "train.h5").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="is no FEMNIST file"):
        read_femnist(tmp_path / "train.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match=r"pip install 'jaxedge\[data\]'"):
        read_femnist(tmp_path / "train.h5")


def test_files_that_hold_something_else_say_what(tmp_path):
    labels, folder = tmp_path / "labels", tmp_path / "folder"
    images = tmp_path / "images"
    images.write_bytes(idx_bytes(np.zeros((2, 5, 4), np.uint8)))
    labels.write_bytes(idx_bytes(np.zeros((2, 1), np.uint8)))
    with pytest.raises(ValueError, match=r"labels: holds an array of shape \(2, 1\): labels must"):
        read_idx(images, labels)
    labels.write_bytes(b"PNG")
    with pytest.raises(ValueError, match="labels: is no IDX file: must begin with two zero bytes"):
        read_idx(images, labels)
    with pytest.raises(ValueError, match="num_classes = 20: must be 10 or 100"):
        read_cifar([images], num_classes=20)
    with pytest.raises(ValueError, match="paths is empty: give at least one file"):
        read_cifar([])
    folder.mkdir()
    with pytest.raises(ValueError, match=r"folder: holds no \.json file"):
        read_leaf(folder)
    users = {"users": [], "user_data": {}}
    (folder / "none.json").write_text(json.dumps(users))
    with pytest.raises(ValueError, match="holds no clients"):
        read_leaf(folder)
    data = {"a": {"x": [[1.0]], "y": [0]}, "b": {"x": [[1.0, 2.0]], "y": [0]}}
    (folder / "none.json").write_text(json.dumps({"users": ["a", "b"], "user_data": data}))
    with pytest.raises(ValueError, match="clients' samples differ in shape"):
        read_leaf(folder)
    np.savez(tmp_path / "d.npz", x=np.zeros((1, 1)))
    with pytest.raises(ValueError, match=r"must hold x, y and header, but holds \['x'\]"):
        read_npz(tmp_path / "d.npz")
    np.savez(tmp_path / "d.npz", x=np.zeros((1, 1)), y=np.zeros(1), header=np.array("{"))
    with pytest.raises(ValueError, match=r"d\.npz: is no JSON"):
        read_npz(tmp_path / "d.npz")


def test_our_own_layout_keeps_everything(tmp_path):
    data = dataset(RNG.normal(size=(5, 3)), [0, 1, 3, 1, 0], name="n", offsets=[0, 2, 5])
    write_npz(data, tmp_path / "d.npz")
    found = read_npz(tmp_path / "d.npz")
    assert (found.name, found.num_classes) == ("n", 4)
    for name in ("x", "y", "offsets"):
        np.testing.assert_array_equal(getattr(found, name), getattr(data, name))


def test_files_of_another_layout_are_refused(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, x=np.array([{}], dtype=object), y=np.zeros(1), header=np.array("{}"))
    with pytest.raises(ValueError, match=r"is no \.npz file of arrays"):  # nothing is unpickled
        read_npz(path)
    np.savez(path, x=np.zeros((1, 1)), y=np.zeros(1), header=np.array("{}"))
    with pytest.raises(ValueError, match="must name the format"):
        read_npz(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"is no \.npz file of arrays"):
        read_npz(path)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([[0.0], [np.nan]], [0, 1], r"samples \[1\] hold NaN"),
        ([[0.0], [1.0]], [0], "one label for each sample"),
        ([[0.0], [1.0]], [0, -1], r"labels \[-1\] of samples \[1\]: must be from 0"),
        ([[0.0], [1.0]], [0, 0.5], "must be whole numbers"),
        (np.zeros((0, 2)), np.zeros(0), "holds no samples"),
        ([["a"], ["b"]], [0, 1], "must be real numbers"),
    ],
)
def test_samples_that_cannot_be_are_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        dataset(np.asarray(x), np.asarray(y), name="given")


def test_parts_are_disjoint(real):
    parts = split(real, (0.5, 0.3, 0.2), seed=3)
    assert [len(part) for part in parts] == [898, 539, 360]
    rows = np.concatenate([part.x.reshape(len(part), -1) for part in parts])
    everything = real.x.reshape(len(real), -1)
    np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(everything, axis=0))
    with pytest.raises(ValueError, match="sum to at most 1"):
        split(real, (0.9, 0.2), seed=0)


@pytest.mark.parametrize("kind", SHIFTS)
def test_the_dial_begins_at_the_data_itself_and_departs_ever_more(real, kind):
    def distance(strength):
        moved = shift(real, kind, strength, seed=1)
        if len(moved) == len(real):
            return np.abs(moved.x - real.x).mean()
        shares = np.bincount(moved.y, minlength=10) / len(moved)
        return np.abs(shares - np.bincount(real.y) / len(real)).sum()

    distances = [distance(strength) for strength in (0.0, 0.3, 0.6, 1.0)]
    assert distances[0] == 0
    assert np.all(np.diff(distances) > 0)


def test_a_quarter_turn_is_exact(real):
    turned = shift(real, "rotation", 1.0)
    np.testing.assert_allclose(turned.x, np.rot90(real.x, axes=(1, 2)), atol=1e-6)


def test_shifts_refuse_what_they_cannot_do(real):
    with pytest.raises(ValueError, match="did you mean rotation"):
        shift(real, "rotaton", 0.5)
    with pytest.raises(ValueError, match="must be a number from 0 to 1"):
        shift(real, "blur", 1.5)
    flat = dataset(real.x.reshape(len(real), -1), real.y, name="flat")
    with pytest.raises(ValueError, match="needs images"):
        shift(flat, "rotation", 0.5)


SYNTHETIC = [kind for kind in PARTITIONS if kind != "natural"]


@pytest.mark.parametrize("kind", SYNTHETIC)
@pytest.mark.parametrize("devices", [1, 7, 30])
def test_every_sample_belongs_to_one_device(real, kind, devices):
    spread = partition(real, kind, devices, seed=2)
    assert np.sort(spread.order).tolist() == list(range(len(real)))
    assert spread.sizes.min() > 0
    assert spread.weights.sum() == pytest.approx(1)
    assert spread.class_counts(real).sum(axis=0).tolist() == np.bincount(real.y).tolist()
    again = partition(real, kind, devices, seed=2)
    assert np.array_equal(spread.order, again.order)
    if devices > 1:
        assert not np.array_equal(spread.order, partition(real, kind, devices, seed=3).order)


def _unevenness(spread, data):
    """Mean total variation between a device's classes and everybody's."""
    counts = spread.class_counts(data)
    shares = counts / counts.sum(1, keepdims=True)
    return np.abs(shares - counts.sum(0) / counts.sum()).sum(1).mean()


@pytest.mark.parametrize("kind", ["dirichlet-per-client", "dirichlet-per-class"])
def test_alpha_tells_how_uneven(real, kind):
    uneven = [
        np.mean([_unevenness(partition(real, kind, 8, seed=s, alpha=a), real) for s in range(3)])
        for a in (0.5, 5.0, 500.0)
    ]
    assert uneven[0] > 1.5 * uneven[1] > 2 * uneven[2]
    even = _unevenness(partition(real, "iid", 8), real)
    assert uneven[2] < 2 * even


def test_dirichlets_differ_in_what_they_keep_equal(real):
    by_client = partition(real, "dirichlet-per-client", 8, alpha=0.3)
    by_class = partition(real, "dirichlet-per-class", 8, alpha=0.3)
    assert np.ptp(by_client.sizes) <= 1
    assert np.ptp(by_class.sizes) > 50


def test_shards_give_each_device_few_classes(real):
    classes = (partition(real, "shards", 30, per_device=2).class_counts(real) > 0).sum(axis=1)
    assert classes.max() <= 4
    assert partition(real, "shards", 30, per_device=1).class_counts(real).max() >= 59


@pytest.mark.parametrize(
    ("kind", "devices", "options", "message"),
    [
        ("idd", 3, {}, "did you mean iid"),
        ("iid", 0, {}, "must be a whole number from 1"),
        ("iid", 2000, {}, "to the 1797 samples"),
        ("iid", 3, {"alpha": 1.0}, r"unknown options \['alpha'\]"),
        ("dirichlet-per-class", 3, {"alpha": 0.0}, "must be a number > 0"),
        ("shards", 3, {"per_device": 1.5}, "must be a whole number >= 1"),
        ("dirichlet-per-class", 300, {"alpha": 0.01}, "would have no samples"),
        ("natural", 3, {}, "has no natural clients"),
    ],
)
def test_partitions_refuse_what_they_cannot_do(real, kind, devices, options, message):
    with pytest.raises(ValueError, match=message):
        partition(real, kind, devices, **options)
